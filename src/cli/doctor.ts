/** `koinon doctor`: looks at the machine and says what would keep a node from working well. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Command } from 'commander'
import { messageOf, silentLogger } from '#base'
import type { StunName } from '#reach'
import { GREEDY } from '#wire'
import { chatRequest, streamAnswer } from './answer.ts'
import { addDataDirOption, clientOf, type DataDirFlags, dataDirOf } from './data-dir.ts'
import { type DoctorCheck, doctorChecks, doctorVerdict } from './doctor-checks.ts'
import { CliError } from './errors.ts'
import { EXIT } from './exit-codes.ts'
import { networkChecks, surveyChecks } from './network-checks.ts'
import { collect, parseStun } from './parse.ts'
import { interruptible } from './signals.ts'
import { sentenceFor } from './table.ts'
import { createPaint, type Output, type Paint, printable, printJson, wantsColour } from './terminal.ts'
import type { CliDeps, SetExitCode } from './types.ts'
import { formatDuration } from './units.ts'

type DoctorFlags = DataDirFlags & { readonly json?: boolean; readonly stun?: readonly StunName[] }

const HELP_AFTER = `
Where a node runs, the network is as it sees it. Exits with 1 where something is broken.

Examples:
  $ koinon doctor
  $ koinon doctor --stun stun.example.org:3478
  $ koinon doctor --json`

export function addDoctor(program: Command, deps: CliDeps, setExitCode: SetExitCode): void {
  const command = program
    .command('doctor')
    .description('check this machine: versions, engine, devices, memory, the built-in model, the network')
    .option('--stun <host:port>', 'without a node: ask this server what the NAT does (repeatable)', collect(parseStun))
    .option('--json', 'print JSON')
    .addHelpText('after', HELP_AFTER)
  addDataDirOption(command).action(async (flags: DoctorFlags) => {
    const paint = createPaint(wantsColour(deps.stdout, deps.env))
    const { signal, done } = interruptible(deps)
    const checks: DoctorCheck[] = []
    const show = (check: DoctorCheck): void => {
      checks.push(check)
      if (flags.json !== true) deps.stdout.write(renderCheck(check, paint, deps.stdout))
    }
    try {
      const dataDir = dataDirOf(deps, flags)
      const tryModel = (): Promise<string> => tryBuiltInModel(deps, signal)
      const { describeEngine, proveSandbox } = deps
      for await (const check of doctorChecks({ dataDir, describeEngine, proveSandbox, tryModel })) {
        signal.throwIfAborted()
        show(check)
      }
      const network = await checkNetwork(deps, flags, signal)
      if (flags.json !== true) deps.stdout.write(`\n${paint.bold(`Network, as ${network.whose}`)}\n`)
      for (const check of network.checks) show(check)
    } finally {
      done()
    }
    const isBroken = checks.some(check => check.state === 'fail')
    if (flags.json === true) printJson(deps.stdout, { ok: !isBroken, checks })
    else deps.stdout.write(`\n${doctorVerdict(checks)}\n`)
    if (isBroken) setExitCode(EXIT.failed)
  })
}

/** The running node's view; where none runs, a look of our own. Whatever fails here breaks nothing else. */
async function checkNetwork(
  deps: CliDeps,
  flags: DoctorFlags,
  signal: AbortSignal,
): Promise<{ readonly whose: string; readonly checks: readonly DoctorCheck[] }> {
  try {
    const report = await (await clientOf(deps, flags)).reachability()
    return { whose: 'the running node sees it', checks: networkChecks(report) }
  } catch (error) {
    if (!(error instanceof CliError) || error.code !== 'CLI_NO_NODE') return failed(error)
  }
  try {
    const survey = await deps.surveyNetwork(flags.stun ?? [], { signal })
    return { whose: 'seen from here, without a node', checks: surveyChecks(survey) }
  } catch (error) {
    signal.throwIfAborted()
    return failed(error)
  }
}

function failed(error: unknown): { readonly whose: string; readonly checks: readonly DoctorCheck[] } {
  const text = `could not be looked at: ${messageOf(error)}`
  return { whose: 'far as it can be seen', checks: [{ name: 'NAT', state: 'warn', text }] }
}

const NAME_WIDTH = 'Built-in model'.length
const INDENT = ' '.repeat(NAME_WIDTH + 4)

function renderCheck(check: DoctorCheck, paint: Paint, output: Output): string {
  const marks = { ok: paint.green('✓'), warn: paint.yellow('!'), fail: paint.red('✗') }
  const column = { isTty: output.isTty, columns: output.columns - INDENT.length }
  const lines = printable(check.text)
    .split('\n')
    .flatMap(line => sentenceFor(column, line).split('\n'))
  const advice =
    check.advice === undefined ? [] : sentenceFor({ ...column, columns: column.columns - 2 }, check.advice).split('\n')
  const told = advice.map((line, at) => `\n${INDENT}${at === 0 ? paint.dim('→') : ' '} ${line}`)
  return `${marks[check.state]} ${check.name.padEnd(NAME_WIDTH)}  ${lines.join(`\n${INDENT}`)}${told.join('')}\n`
}

/** Starts a private node with the built-in model, makes a few tokens, and stops it: the whole path once. */
async function tryBuiltInModel(deps: CliDeps, signal: AbortSignal): Promise<string> {
  const dataDir = await mkdtemp(join(tmpdir(), 'koinon-doctor-'))
  try {
    const startedAt = deps.clock.monotonic()
    const served = await deps.serve(
      {
        dataDir,
        model: deps.builtInModel,
        layers: { kind: 'auto', nodes: 1 },
        peers: [],
        listen: [],
        mdns: false,
        slots: 1,
        engine: { threads: 1, device: 'auto' },
      },
      { hasLocalSocket: false, onProgress: () => undefined, log: silentLogger, signal },
    )
    try {
      const model = served.node.models()[0]
      const request = chatRequest(model?.id ?? '', [{ role: 'user', content: 'Hello!' }], {
        sampling: GREEDY,
        tokensMax: 4,
      })
      const complete = served.node.complete.bind(served.node)
      await streamAnswer({ complete, clock: deps.clock }, request, { signal, write: () => undefined })
      const device = served.node.status().engines.find(engine => engine.role === 'stage')?.device ?? 'an unknown device'
      return `answers on ${device} after ${formatDuration(deps.clock.monotonic() - startedAt)}`
    } finally {
      await served.stop()
    }
  } finally {
    await rm(dataDir, { recursive: true, force: true })
  }
}
