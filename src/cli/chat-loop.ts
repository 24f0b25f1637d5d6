/**
 * A chat on a terminal or over a pipe: reads a line, streams an answer, remembers both. Ctrl-C cancels the answer that
 * is on its way; at an empty prompt it ends the chat. Used by `koinon chat` and by `npm start`.
 */
import { createInterface, type Interface } from 'node:readline'
import { codeOf, messageOf } from '#base'
import type { ModelSummary } from '#wire'
import { type Answer, answerFigures, type AnswerOptions, chatRequest, type Complete, streamAnswer } from './answer.ts'
import { createAnswerPrinter } from './answer-printer.ts'
import { Conversation } from './conversation.ts'
import { CliError } from './errors.ts'
import { EXIT, type ExitCode } from './exit-codes.ts'
import { PROMPT_BYTES_MAX } from './limits.ts'
import { sentenceFor } from './table.ts'
import { createPaint, type Paint, printable, wantsColour } from './terminal.ts'
import type { CliDeps } from './types.ts'

export type ChatDeps = Pick<CliDeps, 'stdin' | 'stdout' | 'stderr' | 'env' | 'clock' | 'signals' | 'lineEditor'> & {
  readonly complete: Complete
}

export type ChatOptions = {
  readonly model: Pick<ModelSummary, 'id' | 'name' | 'contextTrain'>
  readonly answer: AnswerOptions
  /** Positions of one generation, where it is known to be less than the model's own context. */
  readonly contextMax?: number
  readonly system?: string
  /** Asked before the person is. */
  readonly firstQuestion?: string
}

const HELP = `  /help   this list
  /reset  forget the conversation
  /stats  figures of the last answer
  /exit   end (Ctrl-D does too)
  Ctrl-C  cancel the answer
`

/** Positions of one generation where nothing else is said: the node's own bound. */
const CONTEXT_DEFAULT = 4096

/** @returns 0 at the end of input or /exit, 130 where Ctrl-C ended the chat */
export async function runChat(deps: ChatDeps, options: ChatOptions): Promise<ExitCode> {
  return new Chat(deps, options).run()
}

class Chat {
  readonly #deps: ChatDeps
  readonly #options: ChatOptions
  readonly #paint: Paint
  readonly #errorPaint: Paint
  readonly #conversation: Conversation
  readonly #isInteractive: boolean
  readonly #lines: Interface
  #answering: AbortController | undefined
  #last: Answer | undefined
  #exitCode: ExitCode = EXIT.ok

  constructor(deps: ChatDeps, options: ChatOptions) {
    this.#deps = deps
    this.#options = options
    this.#paint = createPaint(wantsColour(deps.stdout, deps.env))
    this.#errorPaint = createPaint(wantsColour(deps.stderr, deps.env))
    this.#isInteractive = deps.lineEditor !== undefined
    const contextMax = options.contextMax ?? Math.min(options.model.contextTrain, CONTEXT_DEFAULT)
    this.#conversation = new Conversation({
      contextMax,
      ...(options.system === undefined ? {} : { system: options.system }),
    })
    this.#lines = createInterface({
      input: deps.stdin,
      ...(deps.lineEditor === undefined ? {} : { output: deps.lineEditor }),
      terminal: this.#isInteractive,
      prompt: `${this.#paint.cyan('›')} `,
      historySize: 200,
    })
  }

  async run(): Promise<ExitCode> {
    const stopListening = this.#deps.signals.listen(signal => this.#onSignal(signal))
    this.#lines.on('SIGINT', () => this.#onSignal('SIGINT'))
    // The iterator must exist before the first answer, or lines that are piped in meanwhile are lost.
    const lines = this.#lines[Symbol.asyncIterator]()
    try {
      if (this.#options.firstQuestion !== undefined) await this.#askFirst(this.#options.firstQuestion)
      for (;;) {
        if (this.#isInteractive) this.#lines.prompt()
        const line = await lines.next()
        if (line.done === true) {
          // Ctrl-D leaves the cursor behind the prompt.
          if (this.#isInteractive) this.#deps.stdout.write('\n')
          break
        }
        if (!(await this.#take(line.value))) break
      }
      return this.#exitCode
    } finally {
      stopListening()
      this.#lines.close()
    }
  }

  #onSignal(signal: string): void {
    if (this.#answering !== undefined) {
      this.#answering.abort(new CliError({ code: 'CLI_INTERRUPTED' }, 'interrupted'))
      if (signal === 'SIGINT') return
    }
    if (signal === 'SIGINT' && this.#lines.line !== '' && this.#isInteractive) {
      this.#lines.write(null, { ctrl: true, name: 'u' })
      return
    }
    this.#exitCode = EXIT.interrupted
    this.#lines.close()
  }

  async #askFirst(question: string): Promise<void> {
    this.#deps.stdout.write(`${this.#paint.cyan('›')} ${question}\n`)
    await this.#ask(question)
    if (this.#isInteractive) this.#deps.stdout.write('\n')
  }

  /** @returns false where the chat is over */
  async #take(line: string): Promise<boolean> {
    const text = line.trim()
    if (text === '') return true
    const goesOn = await this.#takeText(text)
    if (this.#isInteractive && goesOn) this.#deps.stdout.write('\n')
    return goesOn
  }

  async #takeText(text: string): Promise<boolean> {
    if (text.startsWith('/')) return this.#command(text)
    if (Buffer.byteLength(text) > PROMPT_BYTES_MAX) {
      this.#note(`that line is longer than ${PROMPT_BYTES_MAX} bytes`)
      return true
    }
    await this.#ask(text)
    return this.#exitCode === EXIT.ok
  }

  #command(text: string): boolean {
    switch (text) {
      case '/exit':
      case '/quit':
        return false
      case '/reset':
        this.#conversation.reset()
        this.#note('The conversation is forgotten.')
        return true
      case '/stats':
        this.#note(this.#last === undefined ? 'Nothing was answered yet.' : answerFigures(this.#last))
        return true
      case '/help':
        this.#deps.stderr.write(HELP)
        return true
      default:
        this.#note(`${text} is no command; /help lists them.`)
        return true
    }
  }

  /** Prints beside the conversation, not into it. */
  #note(text: string): void {
    this.#deps.stderr.write(`${this.#errorPaint.dim(printable(text))}\n`)
  }

  async #ask(question: string): Promise<void> {
    const dropped = this.#conversation.makeRoomFor(question)
    if (dropped > 0) this.#note('(The oldest part of the conversation is forgotten: the context is full.)')
    const controller = new AbortController()
    this.#answering = controller
    const printer = createAnswerPrinter(this.#deps.stdout)
    try {
      const request = chatRequest(
        this.#options.model.id,
        this.#conversation.messagesFor(question),
        this.#options.answer,
      )
      const answer = await streamAnswer(this.#deps, request, { signal: controller.signal, write: printer.write })
      printer.end()
      this.#last = answer
      this.#conversation.remember(question, answer.text, answer.usage.promptTokens + answer.usage.completionTokens)
      if (answer.reason === 'length') this.#note('(The answer was cut: no more tokens fit.)')
    } catch (error) {
      printer.end()
      if (controller.signal.aborted) this.#note('(cancelled)')
      else this.#report(error)
    } finally {
      this.#answering = undefined
    }
  }

  /** A question that fails does not end the chat, unless the node is gone. */
  #report(error: unknown): void {
    const code =
      error instanceof CliError && error.fault.code === 'CLI_NODE_REFUSED' ? error.fault.remote : codeOf(error)
    const sentence = sentenceFor(this.#deps.stderr, `koinon: ${printable(messageOf(error))} [${code}]`)
    this.#deps.stderr.write(`${this.#errorPaint.red(sentence)}\n`)
    if (code === 'CLI_NO_NODE') {
      this.#exitCode = EXIT.noNode
      this.#lines.close()
    }
  }
}
