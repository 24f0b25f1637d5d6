/**
 * Starts a private swarm of real `koinon up` processes on loopback, for `npm start`, tests and benchmarks: ports of the
 * system's choice, temporary data directories, and the first node as the only contact of the others, so that they must
 * find each other. Each node ends by itself when this process does, however it ends: its standard input ends then.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { systemClock } from '#base'
import { createLocalClient, type LocalClient, type ReadyEvent, type UpEvent } from '#cli'

export const STORYTELLER = fileURLToPath(new URL('../models/storyteller-2m-q8_0.gguf', import.meta.url))

export type NodeSpec = {
  /** "A-B", "none" or "auto", as `--layers` takes it. */
  readonly layers: string
  /** Serve the HTTP API: here ("HOST:PORT"), or on a free port. @default false */
  readonly api?: string | true
  /** More arguments of `koinon up`. */
  readonly args?: readonly string[]
  /** Program and first arguments of it that become the node, as `nice -n 5` does: the node's own command follows. */
  readonly wrapper?: readonly string[]
}

export type SwarmOptions = {
  /** In the order of their start; the first is whom the others dial. */
  readonly nodes: readonly NodeSpec[]
  /** GGUF file. @default the built-in storyteller */
  readonly model?: string
  /** @default 1 */
  readonly threads?: number
  readonly slots?: number
  readonly ctx?: number
  /** Wait until every node knows a route through all layers. @default true */
  readonly whole?: boolean
  /** Longest start of the whole swarm, in milliseconds. @default 240_000 */
  readonly startMsMax?: number
  /** What admits peers. @default none: an open swarm */
  readonly secret?: string
  /** Nodes remove their own data directories, also where this process is killed. @default false */
  readonly isTemporary?: boolean
  /** Nodes get process groups of their own, so that Ctrl-C in the terminal is not for them. @default false */
  readonly isDetached?: boolean
  /** Ends a start that is not wanted any more. */
  readonly signal?: AbortSignal
  /** A line that a node wrote to its standard error. */
  readonly onLog?: (pid: number, line: string) => void
}

/** One running process. */
export interface SwarmNode {
  readonly ready: ReadyEvent
  /** Talks with the node over its local socket. */
  readonly client: LocalClient
  /** The last lines that the node wrote to its standard error. */
  log(): string
  /** Ends the process; resolves with its exit code when it is gone, null where a signal ended it. Idempotent. */
  stop(): Promise<number | null>
  /** Ends the process as a crash of the machine would. */
  kill(): Promise<void>
}

export interface Swarm extends AsyncDisposable {
  readonly nodes: readonly SwarmNode[]
  /** Starts one more node, which dials the first one; resolves when it has its layers. */
  add(spec: NodeSpec): Promise<SwarmNode>
  /** Ends every node; resolves when all are gone. Idempotent. */
  stop(): Promise<void>
}

type Child = ChildProcessByStdio<Writable, Readable, Readable>

const COMMAND = fileURLToPath(new URL('../bin/koinon.mjs', import.meta.url))
const LOG_LINES_MAX = 200
const STOP_MS_MAX = 15_000
/** A busy machine may need minutes, and discovery tries again only after half of one. */
const [START_MS_MAX, WHOLE_MS_MAX] = [240_000, 120_000]

/** Resolves when every node has its layers and knows a whole route. @throws where one fails; all are stopped then */
export async function startSwarm(options: SwarmOptions): Promise<Swarm> {
  const directory = options.isTemporary === true ? undefined : await mkdtemp(join(tmpdir(), 'koinon-swarm-'))
  const processes: NodeProcess[] = []
  const stop = async (): Promise<void> => {
    await Promise.all(processes.map(process => process.stop()))
    if (directory !== undefined) await rm(directory, { recursive: true, force: true })
  }
  const start = (spec: NodeSpec, contact?: string): NodeProcess => {
    const dataDir = directory === undefined ? undefined : join(directory, String(processes.length))
    const process = new NodeProcess(commandOf(options, spec, { dataDir, contact }), options)
    processes.push(process)
    return process
  }
  const onAbort = (): void => void stop()
  options.signal?.addEventListener('abort', onAbort, { once: true })
  try {
    const startMsMax = options.startMsMax ?? START_MS_MAX
    const [first, ...others] = options.nodes
    const contact = await start(first ?? { layers: 'auto' }).listening
    for (const spec of others) start(spec, contact)
    const nodes = await withinMs(startMsMax, Promise.all(processes.map(process => process.node)))
    if (options.whole !== false) await Promise.all(nodes.map(untilWhole))
    const add = (spec: NodeSpec): Promise<SwarmNode> => withinMs(startMsMax, start(spec, contact).node)
    return { nodes, add, stop, [Symbol.asyncDispose]: stop }
  } catch (error) {
    const logs = processes.map((process, index) => `node ${index}:\n${process.log()}`).join('\n')
    await stop()
    throw new Error(`the swarm did not start\n${logs}`, { cause: error })
  } finally {
    options.signal?.removeEventListener('abort', onAbort)
  }
}

/** Asks again and again until `read` gives something. @throws after `timeoutMs`, with what was waited for */
export async function until<T>(
  read: () => Promise<T | undefined>,
  options: { readonly what: string; readonly timeoutMs: number },
): Promise<T> {
  const end = performance.now() + options.timeoutMs
  for (;;) {
    // Asked before the look, so that the last one is after the end, however long this process did not run meanwhile.
    const isLast = performance.now() > end
    const value = await read()
    if (value !== undefined) return value
    if (isLast) throw new Error(`${options.what} did not come within ${options.timeoutMs} ms`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}

type Place = { readonly dataDir: string | undefined; readonly contact: string | undefined }

function commandOf(options: SwarmOptions, spec: NodeSpec, place: Place): string[] {
  const node = [process.execPath, COMMAND, 'up', '--json', '--exit-with-parent', ...argumentsOf(options, spec, place)]
  return [...(spec.wrapper ?? []), ...node]
}

function argumentsOf(options: SwarmOptions, spec: NodeSpec, { dataDir, contact }: Place): string[] {
  // Automatic nodes of the first hour share the layers out; one that is added takes what is missing.
  const autoCount = options.nodes.includes(spec) ? options.nodes.filter(({ layers }) => layers === 'auto').length : 1
  const args = ['--layers', spec.layers]
  if (spec.args?.includes('--model') !== true) args.push('--model', options.model ?? STORYTELLER)
  args.push(...(dataDir === undefined ? ['--temporary'] : ['--data-dir', dataDir]))
  args.push('--listen', '/ip4/127.0.0.1/tcp/0', '--api', spec.api === true ? '127.0.0.1:0' : (spec.api ?? 'none'))
  args.push('--threads', String(options.threads ?? 1), '--device', 'cpu')
  if (spec.layers === 'auto' && autoCount > 1) args.push('--expect-nodes', String(autoCount))
  if (contact !== undefined) args.push('--peer', contact)
  if (options.slots !== undefined) args.push('--slots', String(options.slots))
  if (options.ctx !== undefined) args.push('--ctx', String(options.ctx))
  return [...args, ...(spec.args ?? [])]
}

/** Resolves once the node knows a route through all layers. */
export async function untilWhole(node: SwarmNode): Promise<void> {
  const isWhole = async (): Promise<true | undefined> =>
    (await node.client.models())[0]?.isComplete === true ? true : undefined
  await until(isWhole, { what: 'a route through all layers', timeoutMs: WHOLE_MS_MAX })
}

class NodeProcess {
  /** Settles with the first address that the node can be dialled at. */
  readonly listening: Promise<string>
  readonly node: Promise<SwarmNode>
  readonly #child: Child
  readonly #lines: string[] = []
  readonly #exit: Promise<number | null>

  constructor(command: readonly string[], options: Pick<SwarmOptions, 'secret' | 'isDetached' | 'onLog'>) {
    const [program = process.execPath, ...args] = command
    const child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...(options.secret === undefined ? {} : { KOINON_SWARM_SECRET: options.secret }) },
      detached: options.isDetached === true,
      windowsHide: true,
    })
    this.#child = child
    this.#exit = once(child, 'exit').then(([code]) => code as number | null)
    const listening = Promise.withResolvers<string>()
    const node = Promise.withResolvers<SwarmNode>()
    this.listening = listening.promise
    this.node = node.promise
    // Both may fail before anybody waits for them.
    for (const promise of [this.listening, this.node]) promise.catch(() => undefined)
    child.stdin.on('error', () => undefined) // A node that died says so by its exit.
    createInterface({ input: child.stderr }).on('line', line => {
      this.#note(line)
      options.onLog?.(child.pid ?? 0, line)
    })
    createInterface({ input: child.stdout }).on('line', line => {
      const event = JSON.parse(line) as UpEvent
      if (event.event === 'progress' && event.phase === 'listening') listening.resolve(event.text?.split(' ')[0] ?? '')
      if (event.event === 'ready') node.resolve(this.#toNode(event))
      if (event.event === 'failed') this.#note(`${event.message} [${event.code}]`)
    })
    child.on('error', error => this.#note(error.message))
    child.on('close', code => {
      const error = new Error(`a node ended with exit code ${code}:\n${this.log()}`)
      listening.reject(error)
      node.reject(error)
    })
  }

  log(): string {
    return this.#lines.join('\n')
  }

  async stop(): Promise<number | null> {
    this.#child.stdin.end()
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_MS_MAX)
    const code = await this.#exit
    clearTimeout(timer)
    return code
  }

  #toNode(ready: ReadyEvent): SwarmNode {
    return {
      ready,
      client: createLocalClient({ clock: systemClock }, { socket: ready.socket, dataDir: ready.dataDir }),
      log: () => this.log(),
      stop: () => this.stop(),
      kill: async () => {
        this.#child.kill('SIGKILL')
        await this.#exit
      },
    }
  }

  #note(line: string): void {
    this.#lines.push(line)
    if (this.#lines.length > LOG_LINES_MAX) this.#lines.shift()
  }
}

async function withinMs<T>(timeoutMs: number, promise: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(new Error(`it took longer than ${timeoutMs} ms`)), timeoutMs)
  try {
    return await Promise.race([promise, late.promise])
  } finally {
    clearTimeout(timer)
  }
}
