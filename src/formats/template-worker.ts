/** One template process as the node sees it: started, asked one thing at a time, ended. */
import { type ChildProcess, fork } from 'node:child_process'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import type { CancelTimer, Clock } from '#base'
import { FormatError } from './errors.ts'
import { TEMPLATE_GRACE_MS, TEMPLATE_HEAP_MB, TEMPLATE_START_MS } from './limits.ts'
import { printable } from './printable.ts'
import type { RenderCommand, RenderReply } from './template-protocol.ts'
import { wallMsMax } from './template-time.ts'

/** Why a process is of no more use. */
type End = 'timeout' | 'died' | 'stopped'

export class TemplateWorker {
  readonly #clock: Clock
  readonly #child: ChildProcess
  readonly #exited: Promise<void>
  readonly #ready: Promise<void>
  #end: End | undefined
  #waiting: { readonly onReply: (reply: RenderReply) => void; readonly onEnd: (end: End) => void } | undefined

  constructor(clock: Clock) {
    this.#clock = clock
    this.#child = fork(fileURLToPath(new URL('./template-process.ts', import.meta.url)), {
      // No code from strings: a template that escapes its interpreter still cannot make functions.
      execArgv: [
        `--max-old-space-size=${TEMPLATE_HEAP_MB}`,
        '--max-semi-space-size=8',
        '--disallow-code-generation-from-strings',
        '--permission',
        '--allow-fs-read=*',
      ],
      env: process.platform === 'win32' ? { SystemRoot: process.env['SystemRoot'] } : {},
      cwd: tmpdir(),
      // V8 prints pages to stderr when memory is full; the node says the same in a sentence.
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    })
    this.#exited = new Promise(resolve => {
      this.#child.once('exit', () => resolve())
      this.#child.once('error', () => resolve())
    })
    void this.#exited.then(() => this.#finish('died')) // Ends with the process; nothing in it can fail.
    this.#child.on('message', (reply: RenderReply) => this.#waiting?.onReply(reply))
    this.#ready = this.#wait({ limitMs: TEMPLATE_START_MS }).then(() => undefined)
    this.#ready.catch(() => undefined) // Whoever asks first is told; nobody may ask.
  }

  /** Whether it can be asked again. */
  get isAlive(): boolean {
    return this.#end === undefined
  }

  /** Renders. Time starts when the process is up. @throws FormatError */
  async render(command: RenderCommand): Promise<string> {
    await this.#ready
    const answer = this.#wait({ limitMs: wallMsMax(command) + TEMPLATE_GRACE_MS, timeoutMs: command.timeoutMs })
    if (this.isAlive) this.#child.send(command, () => undefined) // A failed send is followed by the process's end.
    return toText(await answer, command)
  }

  /** Ends the process; resolves when it is gone. Idempotent. */
  stop(): Promise<void> {
    this.#finish('stopped')
    this.#child.ref()
    this.#child.kill('SIGKILL')
    return this.#exited
  }

  #wait(options: { readonly limitMs: number; readonly timeoutMs?: number }): Promise<RenderReply> {
    return new Promise((resolve, reject) => {
      let cancel: CancelTimer = () => undefined
      const settle = (action: () => void): void => {
        cancel()
        this.#waiting = undefined
        this.#keepNodeAlive(false)
        action()
      }
      const onEnd = (end: End): void => settle(() => reject(toError(end, options.timeoutMs)))
      if (this.#end !== undefined) {
        onEnd(this.#end)
        return
      }
      this.#keepNodeAlive(true)
      this.#waiting = { onReply: reply => settle(() => resolve(reply)), onEnd }
      cancel = this.#clock.after(options.limitMs, () => {
        this.#finish('timeout')
        this.#child.kill('SIGKILL')
      })
    })
  }

  /** A process that is asked for nothing must not hold the node open. */
  #keepNodeAlive(isNeeded: boolean): void {
    if (isNeeded) this.#child.ref()
    else this.#child.unref()
    if (isNeeded) this.#child.channel?.ref()
    else this.#child.channel?.unref()
  }

  #finish(end: End): void {
    this.#end ??= end
    this.#waiting?.onEnd(this.#end)
  }
}

function toText(reply: RenderReply, command: RenderCommand): string {
  switch (reply.kind) {
    case 'text':
      return reply.text
    case 'timeout':
      throw timeoutError(command.timeoutMs)
    case 'memory':
      throw memoryError()
    case 'output':
      throw new FormatError(
        { code: 'FORMAT_TEMPLATE_OUTPUT', limitBytes: command.outputBytesMax },
        `the model's chat template made more than ${command.outputBytesMax} bytes`,
      )
    default:
      throw new FormatError(
        { code: 'FORMAT_TEMPLATE_INVALID' },
        `the model's chat template failed: ${reply.kind === 'invalid' ? printable(reply.reason, 300) : 'it gave no answer'}`,
      )
  }
}

/** @param timeoutMs undefined while the process starts */
function toError(end: End, timeoutMs: number | undefined): FormatError {
  if (end === 'died' && timeoutMs !== undefined) return memoryError()
  if (end === 'timeout' && timeoutMs !== undefined) return timeoutError(timeoutMs)
  return new FormatError(
    { code: 'FORMAT_TEMPLATE_STOPPED' },
    end === 'stopped' ? 'the chat template renderer was stopped' : 'the process for chat templates does not start',
  )
}

function timeoutError(limitMs: number): FormatError {
  return new FormatError(
    { code: 'FORMAT_TEMPLATE_TIMEOUT', limitMs },
    `the model's chat template ran longer than ${limitMs} ms`,
  )
}

function memoryError(): FormatError {
  return new FormatError(
    { code: 'FORMAT_TEMPLATE_MEMORY', limitBytes: TEMPLATE_HEAP_MB * 1024 * 1024 },
    `the model's chat template needs more than ${TEMPLATE_HEAP_MB} MiB of memory`,
  )
}
