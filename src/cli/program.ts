/** The command line as a whole: its commands, its help, its errors and its exit codes. */
import { Command, CommanderError } from 'commander'
import { codeOf, messageOf } from '#base'
import { addAsk } from './ask.ts'
import { addAudit } from './audit.ts'
import { addChat } from './chat.ts'
import { addDoctor } from './doctor.ts'
import { CliError } from './errors.ts'
import { EXIT, type ExitCode, exitCodeOf } from './exit-codes.ts'
import { addFind } from './find.ts'
import { addKeys } from './keys.ts'
import { addModels } from './models.ts'
import { addNet } from './net.ts'
import { addPeers } from './peers.ts'
import { addPlan } from './plan.ts'
import { addPull } from './pull.ts'
import { addRun } from './run.ts'
import { addShare } from './share.ts'
import { addStatus } from './status.ts'
import { addStop } from './stop.ts'
import { sentenceFor } from './table.ts'
import { createPaint, printable, wantsColour } from './terminal.ts'
import type { CliDeps } from './types.ts'
import { addUp } from './up.ts'

const HELP_AFTER = `
Examples:
  $ koinon up                                 run a node with the built-in model
  $ koinon chat                               talk with it, from another terminal
  $ koinon run model.gguf "Why is it blue?"   one answer, no node needed
  $ koinon COMMAND --help                     options and examples of a command

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no node runs, 130 interrupted.
`

/** Runs one command to its end. Never throws: errors become one sentence on standard error and an exit code. */
export async function runCli(deps: CliDeps, args: readonly string[]): Promise<ExitCode> {
  let exitCode: ExitCode = EXIT.ok
  const program = createProgram(deps, code => {
    exitCode = code
  })
  try {
    await program.parseAsync(args, { from: 'user' })
    return exitCode
  } catch (error) {
    // Commander has printed help, the version or its complaint already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    printError(deps, error)
    return exitCodeOf(error)
  }
}

function createProgram(deps: CliDeps, setExitCode: (code: ExitCode) => void): Command {
  const paint = createPaint(wantsColour(deps.stderr, deps.env))
  const program = new Command('koinon')
    .description('Run large language models on machines that belong to different people.')
    .version(deps.version)
    .helpCommand(false)
    .showSuggestionAfterError()
    .showHelpAfterError('(--help shows the options)')
    .configureHelp({ sortSubcommands: false, showGlobalOptions: false, commandUsage: usageOf, subcommandTerm: termOf })
    .configureOutput({
      writeOut: text => deps.stdout.write(text),
      writeErr: text => deps.stderr.write(text),
      getOutHelpWidth: () => Math.min(deps.stdout.columns, 100),
      getErrHelpWidth: () => Math.min(deps.stderr.columns, 100),
      outputError: (text, write) => write(paint.red(linesFor(deps, text.replace(/^error: /, 'koinon: ')))),
    })
    .exitOverride()
    .addHelpText('after', HELP_AFTER)
  addUp(program, deps)
  addRun(program, deps)
  addChat(program, deps, setExitCode)
  addModels(program, deps, setExitCode)
  addPull(program, deps)
  addShare(program, deps)
  addPeers(program, deps)
  addNet(program, deps)
  addAsk(program, deps)
  addFind(program, deps)
  addPlan(program, deps)
  addStatus(program, deps)
  addDoctor(program, deps, setExitCode)
  addKeys(program, deps)
  addAudit(program, deps, setExitCode)
  addStop(program, deps)
  return program
}

/** "run <model> [prompt]": what the list of commands shows. */
function termOf(command: Command): string {
  const names = command.registeredArguments.map(argument =>
    argument.required ? `<${argument.name()}>` : `[${argument.name()}]`,
  )
  return [command.name(), ...names].join(' ')
}

/** "koinon run [options] <model> [prompt]". */
function usageOf(command: Command): string {
  const parents: string[] = []
  for (let parent = command.parent; parent !== null; parent = parent.parent) parents.unshift(parent.name())
  return [...parents, command.name(), command.usage()].join(' ')
}

/** Commander's complaints: a sentence, and perhaps a line with a suggestion. */
function linesFor(deps: CliDeps, text: string): string {
  return text
    .split('\n')
    .map(line => sentenceFor(deps.stderr, line))
    .join('\n')
}

/** "koinon: what went wrong [CODE]". An interruption needs no sentence: the person knows. */
function printError(deps: CliDeps, error: unknown): void {
  if (error instanceof CliError && error.code === 'CLI_INTERRUPTED') return
  const code = error instanceof CliError && error.fault.code === 'CLI_NODE_REFUSED' ? error.fault.remote : codeOf(error)
  const paint = createPaint(wantsColour(deps.stderr, deps.env))
  deps.stderr.write(`${paint.red(sentenceFor(deps.stderr, `koinon: ${printable(messageOf(error))} [${code}]`))}\n`)
  // A bug of ours: whoever reports it needs the stack.
  if (code === 'INTERNAL' && error instanceof Error && deps.env['KOINON_DEBUG'] !== undefined) {
    deps.stderr.write(`${error.stack ?? ''}\n`)
  }
}
