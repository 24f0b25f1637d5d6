/**
 * The protocol beside streams without it between the same two processes: TCP, TLS and Yamux, the same bytes and the same
 * work at the other end. They take turns.
 *
 *     sealed   a stream of a session over libp2p, as where no direct way is found
 *     plane    a stream of the data plane, as between nodes that reach one another directly: what the goals are about
 *     bare     a stream of a node of ours below its session, with all that was tuned there: what differs is the session
 *     raw      a stream of libp2p as its packages come
 *
 *     control  a command and its answer over an open session: signed and encrypted both ways
 *     step     a decoding step of a real stage: a row there, half the model's layers, a row back; beside bare
 *     bulk     large writes one way; beside raw, and sealed beside bare too
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
import { multiaddr } from '@multiformats/multiaddr'
import { PROTOCOLS } from '#wire'
import { parseAddress } from '../../src/net/address.ts'
import { NetStream } from '../../src/net/byte-stream.ts'
import { createNode } from '../../src/net/libp2p.ts'
import { hostDeps } from '../../test/support/net-hosts.ts'
import { writeRandomGguf } from '../../test/support/random-gguf.ts'
import type { BenchOptions, ModelLessOptions } from '../main.ts'
import { ByteReader } from './byte-reader.ts'
import { BARE_PROTOCOL, commandsOver, FOR_BULK, FOR_STEPS, NOTHING } from './protocol-peer.ts'
import { createRawLibp2p, RAW_PROTOCOL, rawWay, type Way } from './raw-stream.ts'
import { median, type Result } from './report.ts'

const STEP_RATIO_MIN = 0.95
const BULK_RATIO_MIN = 0.8
const BULK_BYTES = 64 * 1024 * 1024
const BULK_WRITE_BYTES = 256 * 1024
const REQUESTS = 1_000
/** Few steps at a time and many turns: what else the machine does then falls on each way alike. */
const STEPS_PER_TURN = 10
const STEP_TURNS_PER_ROUND = 20
const BULK_TURNS_PER_ROUND = 3
const PEER = fileURLToPath(new URL('./protocol-peer.ts', import.meta.url))

type PeerFacts = {
  readonly host: string
  readonly bare: string
  readonly raw: string
  readonly rowBytes: number
  readonly layers: string
}
type Kind = 'sealed' | 'plane' | 'bare' | 'raw'
type Ways = Readonly<Record<Kind, Way>>

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
  const child = spawn(process.execPath, [...process.execArgv, PEER, options.model], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const facts = await factsOf(child)
  const host = await createHost(await hostDeps(), { listen: [], mdns: false, planePort: 'off' })
  const direct = await createHost(await hostDeps(), { listen: [], mdns: false })
  const bare = await startBare()
  const raw = await createRawLibp2p([])
  try {
    await host.start()
    await direct.start()
    const peer = await host.connect(facts.host)
    await direct.connect(facts.host)
    const { link, requester } = commandsOver(host)
    const open = async (purpose: number): Promise<Ways> => {
      const ways = {
        sealed: await host.open(peer, PROTOCOLS.stage),
        plane: await direct.open(peer, PROTOCOLS.stage),
        bare: await bare.open(facts.bare),
        raw: rawWay(await (await raw.dial(multiaddr(facts.raw))).newStream(RAW_PROTOCOL)),
      }
      for (const way of Object.values(ways)) way.send(Uint8Array.of(purpose))
      return ways
    }
    const control = await measureControl(requester, link.connectionTo(peer))
    const step = await measureSteps(await open(FOR_STEPS), facts.rowBytes, options)
    const bulk = await measureBulk(await open(FOR_BULK), options)
    return toResult({ control, step, bulk, facts, options, host })
  } finally {
    await Promise.all([host.stop(), direct.stop(), bare.stop(), raw.stop()])
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

type Measured = Readonly<Record<Kind, readonly number[]>>

/** Milliseconds of each step. */
async function measureSteps(ways: Ways, rowBytes: number, { rounds }: BenchOptions): Promise<Measured> {
  const row = new Uint8Array(new Float32Array(rowBytes / 4).fill(0.01).buffer)
  const readers = readersOf(ways)
  const turn = async (way: Kind): Promise<readonly number[]> => {
    const times: number[] = []
    for (let i = 0; i < STEPS_PER_TURN; i++) {
      const startedAt = performance.now()
      ways[way].send(row)
      await readers[way].take(rowBytes)
      times.push(performance.now() - startedAt)
    }
    return times
  }
  return alternate(['bare', 'sealed', 'plane'], STEP_TURNS_PER_ROUND * rounds, turn)
}

/** Bytes per millisecond of each turn. */
async function measureBulk(ways: Ways, { rounds }: BenchOptions): Promise<Measured> {
  const readers = readersOf(ways)
  const size = new Uint8Array(8)
  new DataView(size.buffer).setFloat64(0, BULK_BYTES)
  const turn = async (way: Kind): Promise<readonly number[]> => {
    const stream = ways[way]
    const startedAt = performance.now()
    stream.send(size.slice())
    for (let sent = 0; sent < BULK_BYTES; sent += BULK_WRITE_BYTES) {
      // A stream owns what it is given, so every write has memory of its own, on both ways.
      if (!stream.send(new Uint8Array(BULK_WRITE_BYTES))) await stream.drained()
    }
    await readers[way].take(1)
    return [BULK_BYTES / (performance.now() - startedAt)]
  }
  return alternate(['bare', 'sealed', 'raw', 'plane'], BULK_TURNS_PER_ROUND * rounds, turn)
}

function readersOf(ways: Ways): Record<Kind, ByteReader> {
  return {
    sealed: new ByteReader(ways.sealed),
    plane: new ByteReader(ways.plane),
    bare: new ByteReader(ways.bare),
    raw: new ByteReader(ways.raw),
  }
}

async function alternate(
  kinds: readonly Kind[],
  turns: number,
  turn: (kind: Kind) => Promise<readonly number[]>,
): Promise<Measured> {
  for (const kind of kinds) await turn(kind)
  const measured: Record<Kind, number[]> = { sealed: [], plane: [], bare: [], raw: [] }
  for (let i = 0; i < turns; i++) {
    // None is always the first, and none always follows the same one.
    const order = kinds.map((_, at) => kinds[(i + at) % kinds.length] as Kind)
    for (const kind of i % 2 === 0 ? order : order.reverse()) measured[kind].push(...(await turn(kind)))
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
    step_ms: median(step.plane),
    step_ms_sealed: median(step.sealed),
    step_ms_bare: median(step.bare),
    bulk_mb_per_s: median(bulk.plane) / 1000,
    bulk_mb_per_s_sealed: median(bulk.sealed) / 1000,
    bulk_mb_per_s_raw: median(bulk.raw) / 1000,
    bulk_mb_per_s_bare: median(bulk.bare) / 1000,
    row_bytes: facts.rowBytes,
    rounds: options.rounds,
  }
  const ratios = {
    step: median(step.bare) / median(step.plane),
    step_sealed: median(step.bare) / median(step.sealed),
    bulk: median(bulk.plane) / median(bulk.raw),
    bulk_sealed: median(bulk.sealed) / median(bulk.raw),
    bulk_sealed_beside_bare: median(bulk.sealed) / median(bulk.bare),
  }
  const goals = [
    { name: 'step', atLeast: STEP_RATIO_MIN },
    { name: 'bulk', atLeast: BULK_RATIO_MIN },
  ]
  const [peer] = host.peers()
  const notes = [`suite ${peer?.protocol.suite}, rekeys ${peer?.protocol.rekeys}; the stage has layers ${facts.layers}`]
  return { bench: 'protocol', figures, ratios, goals, notes }
}
