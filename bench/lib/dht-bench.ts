/**
 * Look-ups in two DHTs of so many nodes each, in this process, over loopback: Kademlia on libp2p nodes (TCP, Noise, Yamux), and
 * our Mainline node (UDP). A value is put at one node and got from others, one look-up at a time. What is measured is what
 * the software takes, all nodes on the same cores: on a network, each hop adds its round trip.
 */
import { seededRandom, silentLogger, systemClock } from '#base'
import { ed25519Signer } from '#crypto'
import { createMainlineNode, createUdpSockets, type MainlineNode } from '#mainline'
import { type KadNode, startKadNode } from '../../test/support/kad-nodes.ts'
import { OPERATION_MS } from '../../src/kad/limits.ts'
import { median, percentile, type Result } from './report.ts'

const SEED = 4
/** Of the nodes, one in so many puts a value; the others look them up. */
const NODES_PER_VALUE = 10
/** Small buckets, so that a hundred nodes are many: of k = 20 and 64 buckets, each would know all. */
const KAD = {
  bucketSize: 8,
  prefixBits: 2,
  replicas: 4,
  siblings: 2,
  selfLookupDelayMs: 0,
  // As outside of tests, which are more patient: a look-up that takes longer is not found.
  timeoutMs: OPERATION_MS,
}
/** All nodes have one address here, and each datagram counts for it. */
const UNLIMITED = { tokensMax: 1e9, perSecond: 1e9 }

type Lookups = { readonly times: readonly number[]; readonly found: number; readonly startMs: number }
type DhtPart = Pick<Result, 'figures' | 'ratios' | 'goals' | 'notes'>

/** @param options.lookups in each of the two */
export async function measureDht(options: { readonly nodes: number; readonly lookups: number }): Promise<DhtPart> {
  const { nodes, lookups } = options
  const kad = await measureKad(nodes, lookups)
  const mainline = await measureMainline(nodes, lookups)
  return {
    figures: {
      dht_lookup_ms: median(kad.times),
      dht_lookup_p99_ms: percentile(kad.times, 99),
      dht_found: kad.found,
      mainline_lookup_ms: median(mainline.times),
      mainline_lookup_p99_ms: percentile(mainline.times, 99),
      mainline_found: mainline.found,
      dht_nodes: nodes,
    },
    ratios: {},
    goals: [],
    notes: [
      `${nodes} nodes with Kademlia were up after ${seconds(kad.startMs)}, ${nodes} of Mainline after ${seconds(mainline.startMs)}; ` +
        `${lookups} look-ups in each`,
    ],
  }
}

async function measureKad(count: number, lookups: number): Promise<Lookups> {
  const random = seededRandom(SEED)
  const nodes: KadNode[] = []
  const startedAt = performance.now()
  const join = async (): Promise<void> => {
    const known = nodes[random.uint32() % Math.max(1, nodes.length)]
    const node = await startKadNode({ random, kad: KAD })
    nodes.push(node)
    if (known === undefined) return
    await node.kad.bootstrap(known.addresses)
    await node.kad.closestPeers(node.peer)
  }
  try {
    // One after the other: two that know only one another have nobody to hear of others from.
    for (let i = 0; i < count; i++) await join()
    const startMs = performance.now() - startedAt
    const keys: string[] = []
    const owners = Math.ceil(count / NODES_PER_VALUE)
    for (const node of nodes.slice(0, owners)) {
      const { key } = await node.kad.put(await node.record({ sequence: 1 }))
      keys.push(key)
    }
    const times = await timesOf(lookups, async i => {
      const asker = nodes[owners + (random.uint32() % (count - owners))]
      try {
        return await asker?.kad.get(keys[i % keys.length] ?? '')
      } catch {
        return undefined // The share of these is a figure.
      }
    })
    return { times, found: times.length / lookups, startMs }
  } finally {
    await Promise.all(nodes.map(node => node.stop()))
  }
}

async function measureMainline(count: number, lookups: number): Promise<Lookups> {
  const random = seededRandom(SEED)
  const nodes: MainlineNode[] = []
  const startedAt = performance.now()
  const join = async (): Promise<void> => {
    const sockets = createUdpSockets({ clock: systemClock }, { listen: [{ host: '127.0.0.1', port: 0 }] })
    const node = createMainlineNode(
      { clock: systemClock, random, log: silentLogger, sockets },
      { isLoopbackExempt: true, addressRate: UNLIMITED, totalRate: UNLIMITED },
    )
    await node.start()
    const [known] = nodes[random.uint32() % Math.max(1, nodes.length)]?.status().families ?? []
    nodes.push(node)
    if (known !== undefined) await node.bootstrap([`127.0.0.1:${known.local.port}`])
  }
  try {
    for (let i = 0; i < count; i++) await join()
    const startMs = performance.now() - startedAt
    const owners = Math.ceil(count / NODES_PER_VALUE)
    const signers = Array.from({ length: owners }, () => ed25519Signer(random.bytes(32)))
    for (const [i, signer] of signers.entries()) await nodes[i]?.putMutable({ signer, seq: 1, value: { v: i } })
    const times = await timesOf(lookups, async i => {
      const asker = nodes[owners + (random.uint32() % (count - owners))]
      return asker?.getMutable(signers[i % signers.length]?.publicKey ?? new Uint8Array())
    })
    return { times, found: times.length / lookups, startMs }
  } finally {
    await Promise.all(nodes.map(node => node.stop()))
  }
}

/** Milliseconds of each look-up that found something, one after the other. */
async function timesOf(count: number, lookUp: (index: number) => Promise<unknown>): Promise<readonly number[]> {
  const times: number[] = []
  for (let i = 0; i < count; i++) {
    const startedAt = performance.now()
    if ((await lookUp(i)) !== undefined) times.push(performance.now() - startedAt)
  }
  return times
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}
