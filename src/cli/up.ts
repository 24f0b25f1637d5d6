/** `koinon up`: runs a node until it is stopped. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { codeOf, type LogLevel, messageOf, repeat, TimeoutError, withDeadline } from '#base'
import type { LayerChoice, NodeConfig } from '#node'

import { addDataDirOption, type DataDirFlags, dataDirOf } from './data-dir.ts'
import { addEngineOptions, type EngineFlags, engineConfig, SLOTS_DEFAULT } from './engine-options.ts'
import { CliError, usageError } from './errors.ts'
import { addKeyOption, keyConfig, type KeyFlags } from './key-options.ts'
import { DRAIN_S_MAX, STOP_MS_MAX } from './limits.ts'
import { addNetOptions, type NetFlags, netConfig } from './net-options.ts'
import { collect, integerIn, LOG_LEVELS, parseApiAddress, parseLayers, parsePeerId } from './parse.ts'
import { addPassphraseOption, type PassphraseFlags } from './passphrase.ts'
import { readSecret } from './secret.ts'
import { abortOnSignal, type Interruption } from './signals.ts'
import type { CliDeps, Served } from './types.ts'
import { createUpPrinter, type UpPrinter } from './up-printer.ts'
import { addWeightsOptions, weightsConfig, type WeightsFlags } from './weights-options.ts'

type UpFlags = DataDirFlags &
  EngineFlags &
  KeyFlags &
  NetFlags &
  PassphraseFlags &
  WeightsFlags & {
    readonly expectNodes?: number
    readonly api: ReturnType<typeof parseApiAddress>
    readonly temporary?: boolean
    readonly secretFile?: string
    readonly hybridSignatures?: boolean
    readonly mdns?: boolean
    readonly trust?: readonly string[]
    readonly plugin?: readonly string[]
    readonly slots: number
    readonly drain: number
    readonly logLevel: LogLevel
    readonly json?: boolean
    readonly exitWithParent?: boolean
  }

/** How often a node that waits for others looks whether its model is served whole now. */
const HEALTH_PERIOD_MS = 500

export function addUp(program: Command, deps: CliDeps): void {
  const command = program
    .command('up')
    .description('run a node: serve layers of a model, and answer prompts')
    .option(
      '--model <model>',
      'GGUF file; or the id, its first 8 digits or more, or the name of one to take from the swarm (default: the built-in storyteller)',
    )
    .addOption(
      new Option('--layers <range>', 'A-B (layers A up to, not including, B), auto, or none')
        .argParser(parseLayers)
        .default({ kind: 'auto', nodes: 1 } satisfies LayerChoice, 'auto'),
    )
    .option('--expect-nodes <count>', 'with --layers auto: wait for this many nodes, then share out', integerIn(1, 64))
  addWeightsOptions(command)
  addNetOptions(command).addOption(
    new Option('--api <host:port>', 'serve the OpenAI-compatible API here, or none')
      .argParser(parseApiAddress)
      .default({ host: '127.0.0.1', port: 11_435 }, '127.0.0.1:11435'),
  )
  addDataDirOption(command)
  addKeyOption(command)
  addPassphraseOption(command)
    .option('--hybrid-signatures', 'sign handshakes with ML-DSA-65 too, against quantum computers to come')
    .option('--temporary', 'keep nothing: use a data directory that is removed at the end')
    .option('--secret-file <file>', 'only nodes with this secret may connect (env KOINON_SWARM_SECRET)')
    .option('--mdns', 'look for nodes on the local network')
    .option('--trust <peer>', 'let this peer give every command, such as LOAD_SHARD (repeatable)', collect(parsePeerId))
    .option(
      '--plugin <file>',
      'add the commands of this file: it runs as part of the node (repeatable)',
      collect(resolve),
    )
  addEngineOptions(command)
    .option('--slots <count>', 'generations at once on this node', integerIn(1, 1024), SLOTS_DEFAULT)
    .option('--drain <seconds>', 'when it stops, let answers go on for so long', integerIn(0, DRAIN_S_MAX), 8)
    .addOption(new Option('--log-level <level>', 'what to log').choices(LOG_LEVELS).default('warn'))
    .option('--json', 'print events as JSON lines, such as {"event":"ready",...}')
    .addOption(new Option('--exit-with-parent', 'stop when standard input ends').hideHelp())
    .addHelpText('after', EXAMPLES)
    .action((flags: UpFlags) => up(deps, flags))
}

const EXAMPLES = `
Examples:
  $ koinon up
      the built-in model, all of it, on this machine
  $ koinon up --model qwen3-8b.gguf --layers 0-18 --listen /ip4/0.0.0.0/tcp/4001
  $ koinon up --model qwen3-8b.gguf --layers 18-36 --peer /ip4/192.168.1.7/tcp/4001
      one model on two machines
  $ koinon up --model 77ab01cd --layers 8-16 --peer /ip4/192.168.1.7/tcp/4001 --stage-only
      fetches the weights of these layers from the swarm, and serves them
  $ koinon up --model qwen3-8b.gguf --expect-nodes 3 --mdns --secret-file swarm.txt
      started on each of three machines: they find each other and share the layers out`

async function up(deps: CliDeps, flags: UpFlags): Promise<void> {
  const printer = createUpPrinter(deps, { isJson: flags.json === true })
  const dataDir = flags.temporary === true ? await mkdtemp(join(tmpdir(), 'koinon-')) : dataDirOf(deps, flags)
  const stopping = watchForStop(deps, flags)
  try {
    const base = nodeConfig(deps, dataDir, flags)
    const config: NodeConfig = { ...base, ...(await netConfig(flags)), ...(await keyConfig(deps, flags, dataDir)) }
    const served = await deps.serve(config, {
      ...(flags.api === 'none' ? {} : { api: flags.api }),
      hasLocalSocket: true,
      onProgress: printer.progress,
      log: deps.createLog(flags.logLevel, printer.log),
      signal: stopping.signal,
    })
    const stopMsMax = flags.drain * 1000 + STOP_MS_MAX
    await serveUntilStopped(deps, served, { printer, dataDir, stopMsMax, stopping: stopping.signal })
  } catch (error) {
    if (stopping.signal.aborted && !(error instanceof TimeoutError)) {
      printer.stopping(String(stopping.signal.reason))
      throw new CliError({ code: 'CLI_INTERRUPTED' }, 'interrupted before the node was ready', { cause: error })
    }
    printer.failed(codeOf(error), messageOf(error))
    throw error
  } finally {
    stopping.done()
    if (flags.temporary === true) await rm(dataDir, { recursive: true, force: true })
  }
}

async function serveUntilStopped(
  deps: CliDeps,
  served: Served,
  {
    printer,
    dataDir,
    stopMsMax,
    stopping,
  }: {
    readonly printer: UpPrinter
    readonly dataDir: string
    readonly stopMsMax: number
    readonly stopping: AbortSignal
  },
): Promise<void> {
  printer.ready(served, dataDir)
  const ended = new AbortController()
  void untilServing(deps, served, { printer, signal: ended.signal })
  const aborted = new Promise<string>(resolve => {
    if (stopping.aborted) resolve(String(stopping.reason))
    stopping.addEventListener('abort', () => resolve(String(stopping.reason)), { once: true })
  })
  const reason = await Promise.race([aborted, served.stopRequested.then(() => '`koinon stop`')])
  ended.abort()
  printer.stopping(reason)
  await withDeadline(deps.clock, { what: 'stopping', timeoutMs: stopMsMax }, () => served.stop())
}

/** Says once when prompts can be answered, which may take other nodes. */
async function untilServing(
  deps: CliDeps,
  { node }: Served,
  { printer, signal }: { readonly printer: UpPrinter; readonly signal: AbortSignal },
): Promise<void> {
  const done = new AbortController()
  const look = (): void => {
    if (!node.health().ok) return
    printer.serving()
    done.abort()
  }
  look()
  await repeat(deps.clock, look, { periodMs: HEALTH_PERIOD_MS, signal: AbortSignal.any([signal, done.signal]) })
}

/** Aborts, with the reason in words, when the node should stop. */
function watchForStop(deps: CliDeps, flags: Pick<UpFlags, 'exitWithParent'>): Interruption {
  const fromOutside = abortOnSignal(deps, signal => signal)
  if (flags.exitWithParent !== true) return fromOutside
  const parent = new AbortController()
  const onEnd = (): void => parent.abort('the end of the parent process')
  const events = ['end', 'close', 'error'] as const
  for (const event of events) deps.stdin.once(event, onEnd)
  deps.stdin.resume()
  return {
    signal: AbortSignal.any([fromOutside.signal, parent.signal]),
    done: () => {
      fromOutside.done()
      for (const event of events) deps.stdin.removeListener(event, onEnd)
      deps.stdin.pause()
    },
  }
}

function nodeConfig(deps: CliDeps, dataDir: string, flags: UpFlags): Omit<NodeConfig, 'peers' | 'listen'> {
  const secret = readSecret(deps.env, flags.secretFile)
  return {
    dataDir,
    layers: withExpectedNodes(flags.layers, flags.expectNodes),
    mdns: flags.mdns === true,
    hybridSignatures: flags.hybridSignatures === true,
    trust: flags.trust ?? [],
    plugins: flags.plugin ?? [],
    slots: flags.slots,
    drainMs: flags.drain * 1000,
    ...(secret === undefined ? {} : { secret }),
    ...engineConfig(flags),
    ...weightsConfig(deps, flags),
  }
}

function withExpectedNodes(layers: LayerChoice, nodes: number | undefined): LayerChoice {
  if (nodes === undefined) return layers
  if (layers.kind !== 'auto') throw usageError('--expect-nodes shares layers out by itself: it needs --layers auto')
  return { kind: 'auto', nodes }
}
