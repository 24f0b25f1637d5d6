/** `koinon chat`: a conversation with a model. */
import type { Command } from 'commander'
import { runChat } from './chat-loop.ts'
import { addDataDirOption } from './data-dir.ts'
import { addEngineOptions } from './engine-options.ts'
import { addSamplingOptions, answerOptions, type SamplingFlags } from './sampling-options.ts'
import { openSession, type Session, type SessionFlags } from './session.ts'
import { interruptible } from './signals.ts'
import { createPaint, printable, wantsColour } from './terminal.ts'
import type { CliDeps, SetExitCode } from './types.ts'
import { countOf, groupDigits } from './units.ts'

type ChatFlags = SessionFlags & SamplingFlags & { readonly system?: string }

export function addChat(program: Command, deps: CliDeps, setExitCode: SetExitCode): void {
  const command = program
    .command('chat')
    .description('talk with a model; the conversation is remembered until the end')
    .argument('[model]', 'a GGUF file, or a model of the running node (default: the one that it serves)')
    .option('--system <text>', 'instructions before the conversation')
    .addHelpText(
      'after',
      `
In the chat: /help, /reset, /stats, /exit. Ctrl-C cancels the answer, Ctrl-D ends the chat.
Lines that are piped in are answered one after the other.

Examples:
  $ koinon chat
  $ koinon chat qwen3-8b.gguf --system "Answer in one sentence."
  $ printf 'Hello!\\nWhat is 7 + 5?\\n' | koinon chat storyteller`,
    )
  addDataDirOption(addEngineOptions(addSamplingOptions(command))).action(
    async (model: string | undefined, flags: ChatFlags) => {
      const opening = interruptible(deps)
      const session = await openSession(deps, model, { flags, signal: opening.signal }).finally(opening.done)
      try {
        if (deps.lineEditor !== undefined) printWelcome(deps, session)
        const code = await runChat(
          { ...deps, complete: session.complete },
          {
            model: session.model,
            answer: answerOptions(flags, deps.random),
            ...(flags.ctx === undefined ? {} : { contextMax: flags.ctx }),
            ...(flags.system === undefined ? {} : { system: flags.system }),
          },
        )
        setExitCode(code)
      } finally {
        await session.close()
      }
    },
  )
}

function printWelcome(deps: CliDeps, { model }: Session): void {
  const paint = createPaint(wantsColour(deps.stdout, deps.env))
  const facts = [
    `${model.layerCount} layers`,
    countOf(model.served.length, 'stage'),
    `${groupDigits(model.contextTrain)} tokens`,
  ].join(', ')
  deps.stdout.write(`${paint.bold(printable(model.name))} ${paint.dim(`(${facts}) · /help for help, Ctrl-D ends`)}\n\n`)
}
