/**
 * The protocol beside bare libp2p streams between the same two processes: same TCP, TLS and Yamux, the same bytes and the
 * same work at the other end; what differs is the session. Rounds of both alternate.
 *
 *     control  a command and its answer over an open session: signed and encrypted both ways
 *     step     a decoding step of a real stage: a row there, half the model's layers, a row back
 *     bulk     large writes one way
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { type ByteStream, systemClock, systemRandom } from '#base'
import { createNodeIdentity } from '#identity'
import { createHost, type Host } from '#net'
import type { RequestConnection, Requester } from '#protocol'
import { PROTOCOLS } from '#wire'
import { parseAddress } from '../../src/net/address.ts'
import { NetStream } from '../../src/net/byte-stream.ts'
import { createNode } from '../../src/net/libp2p.ts'
import { hostDeps } from '../../test/support/net-hosts.ts'
import { writeRandomGguf } from '../../test/support/random-gguf.ts'
import type { BenchOptions, ModelLessOptions } from '../main.ts'
import { BARE_PROTOCOL, ByteReader, commandsOver, FOR_BULK, FOR_STEPS, NOTHING } from './protocol-peer.ts'
import { median, type Result } from './report.ts'

const STEP_RATIO_MIN = 0.95
const BULK_RATIO_MIN = 0.8
const BULK_BYTES = 64 * 1024 * 1024
const BULK_WRITE_BYTES = 256 * 1024
const REQUESTS = 1_000
const STEPS_PER_ROUND = 100
const PEER = fileURLToPath(new URL('./protocol-peer.ts', import.meta.url))

type PeerFacts = { readonly host: string; readonly bare: string; readonly rowBytes: number; readonly layers: string }
type Ways = { readonly sealed: ByteStream; readonly bare: ByteStream }

/** The layers of a model of a billion parameters, few of them: what a stage of a real model computes, soon made. */
const SHAPE = { layers: 4, width: 2048, heads: 32, kvHeads: 8, headDim: 64, feedForward: 8192, type: 'Q4_0' } as const

export async function benchProtocol(options: ModelLessOptions): Promise<Result> {
  if (options.model !== undefined) return measure({ ...options, model: options.model })
  const directory = await mkdtemp(join(tmpdir(), 'koinon-bench-'))
  try {
    const model = join(directory, 'layers.gguf')
    await writeRandomGguf(model, { architecture: 'llama', ...SHAPE })
    return await measure({ ...options, model })
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

async function measure(options: BenchOptions): Promise<Result> {
  const child = spawn(process.execPath, [PEER, options.model], { stdio: ['pipe', 'pipe', 'inherit'] })
  const facts = await factsOf(child)
  const host = await createHost(await hostDeps(), { listen: ['/ip4/127.0.0.1/tcp/0'], mdns: false })
  const bare = await startBare()
  try {
    await host.start()
    const peer = await host.connect(facts.host)
    const { link, requester } = commandsOver(host)
    const open = async (purpose: number): Promise<Ways> => {
      const ways = { sealed: await host.open(peer, PROTOCOLS.stage), bare: await bare.open(facts.bare) }
      for (const stream of [ways.sealed, ways.bare]) stream.send(Uint8Array.of(purpose))
      return ways
    }
    const control = await measureControl(requester, link.connectionTo(peer))
    const step = await measureSteps(await open(FOR_STEPS), facts.rowBytes, options)
    const bulk = await measureBulk(await open(FOR_BULK), options)
    return toResult({ control, step, bulk, facts, options, host })
  } finally {
    await Promise.all([host.stop(), bare.stop()])
    child.stdin?.end()
    await once(child, 'exit')
  }
}

async function factsOf(child: ChildProcess): Promise<PeerFacts> {
  if (child.stdout === null) throw new TypeError('the process has no standard output')
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  return JSON.parse(line) as PeerFacts
}

async function startBare(): Promise<{ open(address: string): Promise<ByteStream>; stop(): Promise<void> }> {
  const node = await createNode({
    key: (await createNodeIdentity(systemRandom)).privateKey,
    listen: [],
    mdns: false,
    refusesInbound: () => true,
    onConnection: () => undefined,
    onFound: () => undefined,
  })
  await node.libp2p.start()
  return {
    open: async address => {
      const connection = await node.libp2p.dial(parseAddress(address).target)
      const stream = await connection.newStream(BARE_PROTOCOL)
      return new NetStream({ clock: systemClock }, { stream, peer: connection.remotePeer.toString() })
    },
    stop: () => node.stop(),
  }
}

async function measureControl(requester: Requester, connection: RequestConnection): Promise<readonly number[]> {
  const times: number[] = []
  for (let number = 0; number < REQUESTS; number++) {
    const startedAt = performance.now()
    await requester.request(connection, { command: NOTHING, body: { number } })
    times.push(performance.now() - startedAt)
  }
  return times.slice(REQUESTS / 10).sort((a, b) => a - b)
}

type Measured = { readonly sealed: readonly number[]; readonly bare: readonly number[] }

/** Milliseconds of each round's median step. */
async function measureSteps(ways: Ways, rowBytes: number, { rounds }: BenchOptions): Promise<Measured> {
  const row = new Uint8Array(new Float32Array(rowBytes / 4).fill(0.01).buffer)
  const readers = { sealed: new ByteReader(ways.sealed), bare: new ByteReader(ways.bare) }
  const round = async (way: keyof Ways): Promise<number> => {
    const times: number[] = []
    for (let i = 0; i < STEPS_PER_ROUND; i++) {
      const startedAt = performance.now()
      ways[way].send(row)
      await readers[way].take(rowBytes)
      times.push(performance.now() - startedAt)
    }
    return median(times)
  }
  return alternate(round, 2 * rounds)
}

/** Bytes per millisecond of each round. */
async function measureBulk(ways: Ways, { rounds }: BenchOptions): Promise<Measured> {
  const readers = { sealed: new ByteReader(ways.sealed), bare: new ByteReader(ways.bare) }
  const size = new Uint8Array(8)
  new DataView(size.buffer).setFloat64(0, BULK_BYTES)
  const round = async (way: keyof Ways): Promise<number> => {
    const stream = ways[way]
    const startedAt = performance.now()
    stream.send(size.slice())
    for (let sent = 0; sent < BULK_BYTES; sent += BULK_WRITE_BYTES) {
      // A stream owns what it is given, so every write has memory of its own, on both ways.
      if (!stream.send(new Uint8Array(BULK_WRITE_BYTES))) await stream.drained()
    }
    await readers[way].take(1)
    return BULK_BYTES / (performance.now() - startedAt)
  }
  return alternate(round, rounds)
}

async function alternate(round: (way: keyof Ways) => Promise<number>, rounds: number): Promise<Measured> {
  await round('bare')
  await round('sealed')
  const measured = { sealed: [] as number[], bare: [] as number[] }
  for (let i = 0; i < rounds; i++) {
    // Neither way is always the first.
    const order = i % 2 === 0 ? (['bare', 'sealed'] as const) : (['sealed', 'bare'] as const)
    for (const way of order) measured[way].push(await round(way))
  }
  return measured
}

function toResult(run: {
  readonly control: readonly number[]
  readonly step: Measured
  readonly bulk: Measured
  readonly facts: PeerFacts
  readonly options: BenchOptions
  readonly host: Host
}): Result {
  const { control, step, bulk, facts, options, host } = run
  const at = (share: number): number => control[Math.floor(control.length * share)] ?? Number.NaN
  const figures = {
    control_ms_p50: at(0.5),
    control_ms_p99: at(0.99),
    step_ms: median(step.sealed),
    step_ms_bare: median(step.bare),
    bulk_mb_per_s: median(bulk.sealed) / 1000,
    bulk_mb_per_s_bare: median(bulk.bare) / 1000,
    row_bytes: facts.rowBytes,
    rounds: options.rounds,
  }
  const ratios = {
    step: median(step.bare) / median(step.sealed),
    bulk: median(bulk.sealed) / median(bulk.bare),
  }
  const goals = [
    { name: 'step', atLeast: STEP_RATIO_MIN },
    { name: 'bulk', atLeast: BULK_RATIO_MIN },
  ]
  const [peer] = host.peers()
  const notes = [`suite ${peer?.protocol.suite}, rekeys ${peer?.protocol.rekeys}; the stage has layers ${facts.layers}`]
  return { bench: 'protocol', figures, ratios, goals, notes }
}
