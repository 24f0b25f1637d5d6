/**
 * The program: gives the command line a terminal, a clock, a node and its surfaces, and ends the process with the
 * code that the command came to. Everything else is in the modules; what only a node needs is loaded with the node, so
 * that short commands are quick.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { MessageChannel } from 'node:worker_threads'
import { createLogger, silentLogger, systemClock, systemRandom } from '#base'
import { type CliDeps, createOutput, createSignals, runCli, type Served, type ServeOptions } from '#cli'
import type { NodeConfig } from '#node'
import { defaultDataDir, findSocket } from '#storage'

const system = { clock: systemClock, random: systemRandom }

/** Runs the command of this process and ends the process. */
export async function main(): Promise<void> {
  // Timers of the clock do not hold a process open; a command that waits for one must not end before it has.
  const { port1 } = new MessageChannel()
  port1.ref()
  const signals = createSignals(process)
  // Node reports a failed write; for a command it means that nobody reads any more.
  const onOutputClosed = (): void => signals.outputClosed()
  const exitCode = await runCli(
    {
      ...system,
      stdin: process.stdin,
      stdout: createOutput(process.stdout, onOutputClosed),
      stderr: createOutput(process.stderr, onOutputClosed),
      lineEditor: terminalForLines(),
      env: takeEnvironment(),
      pid: process.pid,
      version: ownVersion(),
      signals,
      exit: code => process.exit(code),
      createLog: (level, write) => createLogger({ ...system, write }, { level, format: 'text' }),
      defaultDataDir: () => defaultDataDir(),
      findSocket,
      builtInModel: fileURLToPath(new URL('../models/storyteller-2m-q8_0.gguf', import.meta.url)),
      serve,
      planFile: async (config, { onProgress, signal }) => {
        const { planFile } = await import('#node')
        return planFile({ ...system, log: silentLogger, onProgress }, config, { signal })
      },
      surveyNetwork: async (stun, { signal }) => {
        const { survey } = await import('#node')
        return survey(system, { stun, signal })
      },
      describeEngine: async () => {
        const { describeEngine } = await import('#engine')
        return describeEngine({ ...system, log: silentLogger }, { threads: 1, device: 'auto' })
      },
      proveSandbox: async () => {
        const { proveSandbox } = await import('#engine')
        return proveSandbox({ ...system, log: silentLogger }, { threads: 1, device: 'auto' })
      },
    },
    process.argv.slice(2),
  )
  port1.close()
  await flushed(process.stdout)
  process.exit(exitCode)
}

/** Builds a node and the surfaces that were asked for. What fails takes down what was started before it. */
async function serve(config: NodeConfig, options: ServeOptions): Promise<Served> {
  const { log, onProgress, signal } = options
  const [{ createNode, DRAIN_MS }, { startApi, startLocalApi }] = await Promise.all([import('#node'), import('#api')])
  const node = await createNode({ ...system, log, onProgress }, config, { signal })
  const surfaces: { stop(options: { readonly drainMs: number }): Promise<void> }[] = []
  const stop = async (): Promise<void> => {
    const { drainMs = DRAIN_MS } = config
    // The answers of clients and what runs for peers come to their end side by side, within one bound.
    await Promise.all([node.drain(), ...surfaces.map(surface => surface.stop({ drainMs }))])
    await node.stop()
  }
  const deps = { ...system, node, log: log.child('api') }
  const request = Promise.withResolvers<void>()
  try {
    const api = options.api === undefined ? undefined : await startApi(deps, options.api)
    if (api !== undefined) surfaces.push(api)
    if (options.hasLocalSocket) {
      surfaces.push(await startLocalApi(deps, { socket: node.socket, onStop: () => request.resolve() }))
    }
    return { node, ...(api === undefined ? {} : { api: api.address }), stopRequested: request.promise, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

const SECRETS = [
  'KOINON_SWARM_SECRET',
  'KOINON_PASSPHRASE',
  'KOINON_NODE_KEY',
  'KOINON_NEXT_NODE_KEY',
  'KOINON_PKCS11_PIN',
]

/** The environment; secrets leave the process's own copy, which children would inherit. */
function takeEnvironment(): CliDeps['env'] {
  const env = { ...process.env }
  for (const name of SECRETS) delete process.env[name]
  return env
}

function terminalForLines(): NodeJS.WritableStream | undefined {
  return process.stdin.isTTY && process.stdout.isTTY ? process.stdout : undefined
}

function ownVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { readonly version: string }).version
}

/** Pipes are written later than write() returns on some systems: an exit must not cut them off. */
function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise(resolve => stream.write('', () => resolve()))
}
