/**
 * Starts a private swarm of `koinon up` processes on loopback: a random secret, temporary data directories, and each
 * node told of all others, so that it does not matter which is there first.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { systemRandom, toHex } from '#base'
import type { ReadyEvent, UpEvent } from '#cli'

export type RunningNode = { readonly ready: ReadyEvent }

export interface Swarm {
  /** In the order of their layers. */
  readonly nodes: readonly RunningNode[]
  /** Ends every node; resolves when all are gone. Idempotent. */
  stop(): Promise<void>
}

export type SwarmOptions = {
  readonly nodes: number
  /** GGUF file whose layers the nodes share. */
  readonly model: string
  /** The first node serves the API here, or at the next port that is free. */
  readonly apiPort: number
  readonly signal: AbortSignal
  /** A line that a node logged. */
  readonly onLog: (pid: number, line: string) => void
}

type Child = ChildProcessByStdio<Writable, Readable, Readable>

const COMMAND = fileURLToPath(new URL('../bin/koinon.mjs', import.meta.url))
const STOP_MS_MAX = 10_000
const SECRET_BYTES = 32
const PORTS_TRIED_MAX = 100

/** Resolves when every node has its layers. @throws where one fails; the others are stopped then */
export async function startSwarm(options: SwarmOptions): Promise<Swarm> {
  const secret = toHex(systemRandom.bytes(SECRET_BYTES))
  const [apiPort, ports] = await Promise.all([freePortFrom(options.apiPort), freePorts(options.nodes)])
  const addresses = ports.map(port => `/ip4/127.0.0.1/tcp/${port}`)
  const children = addresses.map((address, index) => {
    const api = index === 0 ? `127.0.0.1:${apiPort}` : 'none'
    const peers = addresses.filter(other => other !== address).flatMap(other => ['--peer', other])
    const args = ['--model', options.model, '--expect-nodes', String(options.nodes), '--listen', address, '--api', api]
    return startNode([...args, ...peers], secret)
  })
  const stop = async (): Promise<void> => {
    await Promise.all(children.map(stopNode))
  }
  const onAbort = (): void => void stop()
  options.signal.addEventListener('abort', onAbort, { once: true })
  try {
    const nodes = await Promise.all(children.map((child, index) => untilReady(child, index, options)))
    return { nodes: nodes.sort((a, b) => firstLayer(a) - firstLayer(b)), stop }
  } catch (error) {
    await stop()
    throw error
  } finally {
    options.signal.removeEventListener('abort', onAbort)
  }
}

function startNode(args: readonly string[], secret: string): Child {
  return spawn(
    process.execPath,
    [COMMAND, 'up', '--json', '--exit-with-parent', '--temporary', '--threads', '1', '--log-level', 'error', ...args],
    {
      env: { ...process.env, KOINON_SWARM_SECRET: secret },
      stdio: ['pipe', 'pipe', 'pipe'],
      // Its own process group: Ctrl-C in the terminal is for the chat, and the nodes end when we say so, or end.
      detached: true,
      windowsHide: true,
    },
  )
}

async function untilReady(child: Child, index: number, options: SwarmOptions): Promise<RunningNode> {
  createInterface({ input: child.stderr }).on('line', line => options.onLog(child.pid ?? 0, line))
  // A node that dies while we write to it is reported by its exit.
  child.stdin.on('error', () => undefined)
  return new Promise((resolve, reject) => {
    let failure: string | undefined
    createInterface({ input: child.stdout }).on('line', line => {
      const event = JSON.parse(line) as UpEvent
      if (event.event === 'ready') resolve({ ready: event })
      if (event.event === 'failed') failure = `${event.message} [${event.code}]`
    })
    child.on('error', reject)
    child.on('close', (code, signal) => {
      reject(new Error(`node ${index + 1} ended: ${failure ?? `exit code ${code ?? signal}`}`))
    })
  })
}

async function stopNode(child: Child): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  const gone = once(child, 'exit')
  child.stdin.end()
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX)
  await gone
  clearTimeout(timer)
}

/** Ports that were free a moment ago. Another program may take one before its node does; the node says so then. */
async function freePorts(count: number): Promise<readonly number[]> {
  const servers = await Promise.all(Array.from({ length: count }, () => listen(0)))
  const ports = servers.map(({ port }) => port)
  await Promise.all(servers.map(({ close }) => close()))
  return ports
}

async function freePortFrom(first: number): Promise<number> {
  for (let port = first; port < first + PORTS_TRIED_MAX; port++) {
    const server = await listen(port).catch(() => undefined)
    if (server === undefined) continue
    await server.close()
    return port
  }
  return 0
}

async function listen(port: number): Promise<{ readonly port: number; readonly close: () => Promise<void> }> {
  const server = createServer()
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const bound = typeof address === 'object' && address !== null ? address.port : port
  const close = async (): Promise<void> => {
    server.close()
    await once(server, 'close')
  }
  return { port: bound, close }
}

/** For putting nodes in the order of their layers; one without layers comes last. */
function firstLayer({ ready }: RunningNode): number {
  const first = Number.parseInt(ready.layers, 10)
  return Number.isNaN(first) ? Number.POSITIVE_INFINITY : first
}
