/**
 * What crosses the network, and how fast, between two processes on this machine. Each part gives its own figures; they are
 * reported together.
 *
 *     raw      node:tls alone, the reference
 *     plane    a stream of the data plane
 *     tcp      a libp2p stream of ours, without a session, over TCP, TLS and Yamux
 *     quic     the same over QUIC
 *     ws       the same over WebSocket, TLS and Yamux
 *
 *     bulk     64 MiB one way in pieces of 64 KiB
 *     requests 64 bytes there and 64 back; then 8 KiB each way
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { connect } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { systemClock } from '#base'
import { createHost } from '#net'
import { PROTOCOLS } from '#wire'
import { multiaddr } from '@multiformats/multiaddr'
import { NetStream } from '../../src/net/byte-stream.ts'
import { hostDeps } from '../../test/support/net-hosts.ts'
import type { ModelLessOptions } from '../main.ts'
import { ByteReader } from './byte-reader.ts'
import { measureDht } from './dht-bench.ts'
import { FOR_BULK, FOR_REQUESTS, NET_PROTOCOL, type NetFacts, startBareNode, tlsWay } from './net-peer.ts'
import type { Way } from './raw-stream.ts'
import { median, type Result } from './report.ts'

type Part = Pick<Result, 'figures' | 'ratios' | 'goals' | 'notes'>

/** Everything that `bench net` measures, one after the other: whoever measures more of the network adds a part. */
const PARTS: readonly ((options: ModelLessOptions) => Promise<Part>)[] = [
  measureTransports,
  options => measureDht({ nodes: DHT_NODES, lookups: options.rounds * LOOKUPS_PER_ROUND }),
]

const DHT_NODES = 100
const LOOKUPS_PER_ROUND = 40
const PLANE_RATIO_MIN = 0.7
const BULK_BYTES = 64 * 1024 * 1024
const BULK_WRITE_BYTES = 64 * 1024
const BULK_TURNS_PER_ROUND = 2
/** Few at a time and many turns: what else the machine does then falls on each way alike. */
const REQUESTS_PER_TURN = 50
const REQUEST_TURNS_PER_ROUND = 10
const REQUEST_BYTES = { '': 64, _8k: 8 * 1024 } as const
const PEER = fileURLToPath(new URL('./net-peer.ts', import.meta.url))

const KINDS = ['raw', 'plane', 'tcp', 'quic', 'ws'] as const
type Kind = (typeof KINDS)[number]
type Ways = Readonly<Record<Kind, Way>>
type Measured = Readonly<Record<Kind, readonly number[]>>

export async function benchNet(options: ModelLessOptions): Promise<Result> {
  const parts: Part[] = []
  for (const part of PARTS) parts.push(await part(options))
  return {
    bench: 'net',
    figures: Object.assign({}, ...parts.map(part => part.figures)) as Part['figures'],
    ratios: Object.assign({}, ...parts.map(part => part.ratios)) as Part['ratios'],
    goals: parts.flatMap(part => part.goals),
    notes: parts.flatMap(part => part.notes ?? []),
  }
}

async function measureTransports({ rounds }: ModelLessOptions): Promise<Part> {
  const child = spawn(process.execPath, [...process.execArgv, PEER], { stdio: ['pipe', 'pipe', 'inherit'] })
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  const facts = JSON.parse(line) as NetFacts
  const node = await startBareNode([])
  const host = await createHost(await hostDeps(), { listen: [], mdns: false })
  await host.start()
  const peer = await host.connect(facts.host)
  const open = async (purpose: number, sizeBytes: number): Promise<Ways> => {
    const ways: Ways = {
      raw: await openTls(facts.tlsPort),
      plane: await host.open(peer, PROTOCOLS.stage),
      tcp: await openBare(node, facts.tcp),
      quic: await openBare(node, facts.quic),
      ws: await openBare(node, facts.ws),
    }
    const size = new Uint8Array(5)
    size[0] = purpose
    new DataView(size.buffer).setUint32(1, sizeBytes)
    for (const way of Object.values(ways)) way.send(size.slice())
    return ways
  }
  try {
    const figures: Record<string, number> = {}
    for (const [suffix, sizeBytes] of Object.entries(REQUEST_BYTES)) {
      const times = await measureRequests(await open(FOR_REQUESTS, sizeBytes), sizeBytes, rounds)
      for (const kind of KINDS) {
        const sorted = times[kind].toSorted((a, b) => a - b)
        figures[`${kind}${suffix}_p50_ms`] = sorted[Math.floor(sorted.length * 0.5)] ?? Number.NaN
        figures[`${kind}${suffix}_p99_ms`] = sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN
      }
    }
    const bulk = await measureBulk(await open(FOR_BULK, 0), rounds)
    for (const kind of KINDS) figures[`${kind}_mib_per_s`] = (median(bulk[kind]) * 1000) / 2 ** 20
    const ratios = Object.fromEntries(
      KINDS.slice(1).map(kind => [`${kind}_bulk`, median(bulk[kind]) / median(bulk.raw)]),
    )
    const planeStreams = host.peers()[0]?.streams.plane ?? 0
    if (planeStreams === 0) throw new Error('the streams of the host did not take the data plane')
    const notes = [`${rounds} rounds; ${planeStreams} streams over the data plane`]
    return { figures: { ...figures, rounds }, ratios, goals: [{ name: 'plane_bulk', atLeast: PLANE_RATIO_MIN }], notes }
  } finally {
    await Promise.all([host.stop(), node.stop()])
    child.stdin.end()
    await once(child, 'exit')
  }
}

async function openTls(port: number): Promise<Way> {
  const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false, minVersion: 'TLSv1.3' })
  await once(socket, 'secureConnect')
  socket.setNoDelay(true)
  return tlsWay(socket)
}

async function openBare({ libp2p }: Awaited<ReturnType<typeof startBareNode>>, address: string): Promise<Way> {
  const connection = await libp2p.dial(multiaddr(address))
  const stream = await connection.newStream(NET_PROTOCOL)
  return new NetStream({ clock: systemClock }, { stream, peer: connection.remotePeer.toString() })
}

/** Milliseconds of each request. */
async function measureRequests(ways: Ways, sizeBytes: number, rounds: number): Promise<Measured> {
  const readers = readersOf(ways)
  return alternate(REQUEST_TURNS_PER_ROUND * rounds, async kind => {
    const times: number[] = []
    for (let i = 0; i < REQUESTS_PER_TURN; i++) {
      const startedAt = performance.now()
      ways[kind].send(new Uint8Array(sizeBytes))
      await readers[kind].take(sizeBytes)
      times.push(performance.now() - startedAt)
    }
    return times
  })
}

/** Bytes per millisecond of each turn. */
async function measureBulk(ways: Ways, rounds: number): Promise<Measured> {
  const readers = readersOf(ways)
  const size = new Uint8Array(8)
  new DataView(size.buffer).setFloat64(0, BULK_BYTES)
  return alternate(BULK_TURNS_PER_ROUND * rounds, async kind => {
    const way = ways[kind]
    const startedAt = performance.now()
    way.send(size.slice())
    for (let sent = 0; sent < BULK_BYTES; sent += BULK_WRITE_BYTES) {
      // A stream owns what it is given, so every write has memory of its own, on all ways.
      if (!way.send(new Uint8Array(BULK_WRITE_BYTES))) await way.drained()
    }
    await readers[kind].take(1)
    return [BULK_BYTES / (performance.now() - startedAt)]
  })
}

function readersOf(ways: Ways): Record<Kind, ByteReader> {
  const { raw, plane, tcp, quic, ws } = ways
  return {
    raw: new ByteReader(raw),
    plane: new ByteReader(plane),
    tcp: new ByteReader(tcp),
    quic: new ByteReader(quic),
    ws: new ByteReader(ws),
  }
}

async function alternate(turns: number, turn: (kind: Kind) => Promise<readonly number[]>): Promise<Measured> {
  for (const kind of KINDS) await turn(kind)
  const measured: Record<Kind, number[]> = { raw: [], plane: [], tcp: [], quic: [], ws: [] }
  for (let i = 0; i < turns; i++) {
    // None is always the first, and none always follows the same one.
    const order = KINDS.map((_, at) => KINDS[(i + at) % KINDS.length] as Kind)
    for (const kind of i % 2 === 0 ? order : order.reverse()) measured[kind].push(...(await turn(kind)))
  }
  return measured
}
