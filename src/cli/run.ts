/** `koinon run`: one prompt, one answer, streamed. */
import type { Command } from 'commander'
import type { ChatMessage, CompletionRequest } from '#wire'
import { answerFigures, chatRequest, streamAnswer } from './answer.ts'
import { createAnswerPrinter } from './answer-printer.ts'
import { addDataDirOption } from './data-dir.ts'
import { addEngineOptions } from './engine-options.ts'
import { usageError } from './errors.ts'
import { PROMPT_BYTES_MAX } from './limits.ts'
import { addSamplingOptions, answerOptions, type SamplingFlags } from './sampling-options.ts'
import { openSession, type SessionFlags } from './session.ts'
import { interruptible } from './signals.ts'
import { createPaint, wantsColour } from './terminal.ts'
import type { CliDeps } from './types.ts'

type RunFlags = SessionFlags &
  SamplingFlags & {
    readonly system?: string
    readonly raw?: boolean
    readonly json?: boolean
    readonly verbose?: boolean
  }

export function addRun(program: Command, deps: CliDeps): void {
  const command = program
    .command('run')
    .description('answer one prompt; the text streams to standard output')
    .argument('<model>', 'a GGUF file, or a model of the running node (name, id or file name)')
    .argument('[prompt]', 'what to answer (default: read from standard input)')
    .option('--system <text>', 'instructions before the prompt')
    .option('--raw', "continue the prompt as it is, without the model's chat template")
    .option('--json', 'print one JSON object with the answer and its figures')
    .option('--verbose', 'print the figures (tokens, speed) to standard error')
    .addHelpText(
      'after',
      `
Goes through the running node where it serves the model; otherwise a node is started
for the file, answers, and stops. Ctrl-C cancels (exit code 130).

Examples:
  $ koinon run storyteller "Tell me a story about a fox and a lantern."
  $ koinon run qwen3-8b.gguf --temperature 0 --max-tokens 200 "Why is the sky blue?"
  $ git diff | koinon run coder --system "Review this change."`,
    )
  addDataDirOption(addEngineOptions(addSamplingOptions(command))).action(
    async (model: string, prompt: string | undefined, flags: RunFlags) => {
      await run(deps, { model, prompt: prompt ?? (await readPrompt(deps)), flags })
    },
  )
}

type RunRequest = { readonly model: string; readonly prompt: string; readonly flags: RunFlags }

async function run(deps: CliDeps, { model, prompt, flags }: RunRequest): Promise<void> {
  const { signal, done } = interruptible(deps)
  try {
    const session = await openSession(deps, model, { flags, signal })
    try {
      const request = toRequest(session.model.id, prompt, { flags, deps })
      const printer = createAnswerPrinter(deps.stdout)
      const write = flags.json === true ? () => undefined : printer.write
      const asking = { complete: session.complete, clock: deps.clock }
      const answer = await streamAnswer(asking, request, { signal, write }).finally(printer.end)
      if (flags.json === true) deps.stdout.write(`${JSON.stringify(answer)}\n`)
      const paint = createPaint(wantsColour(deps.stderr, deps.env))
      if (flags.verbose === true) deps.stderr.write(`${paint.dim(answerFigures(answer))}\n`)
    } finally {
      await session.close()
    }
  } finally {
    done()
  }
}

function toRequest(
  model: string,
  prompt: string,
  { flags, deps }: { readonly flags: RunFlags; readonly deps: CliDeps },
): CompletionRequest {
  const system: readonly ChatMessage[] = flags.system === undefined ? [] : [{ role: 'system', content: flags.system }]
  const request = chatRequest(model, [...system, { role: 'user', content: prompt }], answerOptions(flags, deps.random))
  return flags.raw === true ? { ...request, prompt: { kind: 'text', text: prompt } } : request
}

async function readPrompt(deps: CliDeps): Promise<string> {
  if (deps.stdin.isTTY === true) throw usageError('no prompt: give one as an argument, or pipe one in')
  const parts: Buffer[] = []
  let size = 0
  for await (const part of deps.stdin) {
    const bytes = Buffer.from(part)
    size += bytes.byteLength
    if (size > PROMPT_BYTES_MAX) throw usageError(`the prompt is longer than ${PROMPT_BYTES_MAX} bytes`)
    parts.push(bytes)
  }
  const prompt = Buffer.concat(parts).toString('utf8').trimEnd()
  if (prompt === '') throw usageError('no prompt: give one as an argument, or pipe one in')
  return prompt
}
