/**
 * `npm run -s sim -- kad`: Kademlia on real libp2p nodes in memory. For each rate of churn in turn, so many of them leave and
 * as many come in an hour; time is simulated. libp2p's streams, Yamux and negotiation are as always, without encryption.
 * Hops, time and success of `get` and `findProviders`: times are this machine's, without a network between the nodes. A
 * dial to a node that is gone fails at once here, as it does where a machine answers for a process that has ended.
 */
import { MessageChannel } from 'node:worker_threads'
import { ManualClock, type Random, seededRandom } from '#base'
import { sha256 } from '#crypto'
import { type KadNode, startKadNode } from '../../test/support/kad-nodes.ts'
import { createMemoryFabric, type MemoryFabric } from '../../test/support/memory-libp2p.ts'
import { median, percentile } from './report.ts'
import { rounded, type SimOptions, type SimResult } from './sim-report.ts'

/** Small buckets, so that a hundred nodes are many: of k = 20 and 64 buckets, each would know all. */
const KAD = { bucketSize: 8, prefixBits: 2, replicas: 4, siblings: 2, republishMs: 1_800_000, selfLookupDelayMs: 0 }
/** What is periodic happens once a step. */
const STEPS = 2
const HOUR_MS = 3_600_000
const LOOKUPS = 60
const LOOKUPS_PER_VALUE = 5
/** Turns of the event loop without any walk after which what is sent behind the last one has come too. */
const SETTLE_TURNS = 50

type Swarm = {
  readonly fabric: MemoryFabric
  readonly clock: ManualClock
  readonly random: Random
  readonly nodes: KadNode[]
  started: number
  published: number
}

type Samples = { readonly hops: number[]; readonly ms: number[]; found: number; asked: number }
type Both = { readonly get: Samples; readonly providers: Samples }
type Published = {
  readonly owner: KadNode
  readonly value: string
  readonly provided: Uint8Array
  readonly providers: readonly KadNode[]
}

export type KadSimOptions = SimOptions & {
  /** Look-ups of either kind for each rate. @default 60 */
  readonly lookups?: number
}

/** One row for each rate of churn. The same swarm goes through them one after the other. */
export async function simulateKad(options: KadSimOptions): Promise<SimResult> {
  const { nodes, seed, churnPercents, onRow, lookups = LOOKUPS } = options
  const swarm: Swarm = {
    fabric: createMemoryFabric(),
    clock: new ManualClock(1_700_000_000_000),
    random: seededRandom(seed),
    nodes: [],
    started: 0,
    published: 0,
  }
  // In memory there is no socket to keep the process alive while it waits for one of libp2p's own timers.
  const { port1: alive } = new MessageChannel()
  alive.ref()
  try {
    for (let i = 0; i < nodes; i++) await join(swarm)
    await settle(swarm)
    const rows: Record<string, number>[] = []
    for (const churnPercent of churnPercents) {
      const row = await passAnHour(swarm, { churnPercent, lookups })
      rows.push(row)
      onRow?.(row)
    }
    return { sim: 'kad', seed, nodes, rows }
  } finally {
    await Promise.all(swarm.nodes.map(node => node.stop()))
    alive.close()
  }
}

async function passAnHour(
  swarm: Swarm,
  { churnPercent, lookups }: { readonly churnPercent: number; readonly lookups: number },
): Promise<Record<string, number>> {
  const cpuAt = process.cpuUsage()
  const keys = await publish(swarm, Math.ceil(lookups / LOOKUPS_PER_VALUE))
  await settle(swarm)
  const both: Both = { get: samples(), providers: samples() }
  const leavers = (swarm.nodes.length * churnPercent) / 100 / STEPS
  let due = 0
  for (let step = 0; step < STEPS; step++) {
    for (due += leavers; due >= 1; due--) {
      await leave(swarm)
      await join(swarm)
    }
    swarm.clock.advance(HOUR_MS / STEPS)
    await settle(swarm)
    for (let query = 0; query < lookups / STEPS; query++) await ask(swarm, keys, both)
  }
  forget(swarm, keys)
  return {
    churn_percent: churnPercent,
    table_peers: median(swarm.nodes.map(node => node.kad.status().peers)),
    ...summaryOf('get', both.get),
    ...summaryOf('providers', both.providers),
    cpu_s: rounded(process.cpuUsage(cpuAt).user / 1e6),
  }
}

async function join(swarm: Swarm): Promise<void> {
  const { fabric, clock, random } = swarm
  const index = swarm.started++
  // Each in a /24 of its own: the limits on groups are on.
  const memory = { network: fabric, address: `/ip4/198.${index >> 8}.${index & 0xff}.1/tcp/1` }
  const node = await startKadNode({ random, clock, memory, kad: KAD })
  const known = chosen(random, swarm.nodes)
  swarm.nodes.push(node)
  if (known === undefined) return
  await node.kad.bootstrap(known.addresses)
  await node.kad.closestPeers(node.peer)
}

/** Without a word to anybody. */
async function leave(swarm: Swarm): Promise<void> {
  const node = chosen(swarm.random, swarm.nodes)
  if (node === undefined) return
  swarm.nodes.splice(swarm.nodes.indexOf(node), 1)
  await node.stop()
}

/** Values, and keys with three providers each: one of them may be gone later, and all of them where there is much churn. */
async function publish(swarm: Swarm, count: number): Promise<readonly Published[]> {
  const published: Published[] = []
  for (let i = 0; i < count; i++) {
    const at = swarm.published++
    const owner = swarm.nodes[(i * 7) % swarm.nodes.length]
    if (owner === undefined) continue
    const { key } = await owner.kad.put(await owner.record({ sequence: at + 1, lifeMs: 2 * HOUR_MS }))
    const provided = sha256(new TextEncoder().encode(`provided ${at}`))
    const providers = [0, 1, 2].flatMap(n => swarm.nodes[(i * 7 + n * 31) % swarm.nodes.length] ?? [])
    for (const provider of providers) await provider.kad.provide(provided)
    published.push({ owner, value: key, provided, providers })
  }
  return published
}

/** What one rate has put shall not be announced again during the next one. */
function forget(swarm: Swarm, keys: readonly Published[]): void {
  for (const { owner, value, provided, providers } of keys) {
    if (swarm.nodes.includes(owner)) owner.kad.forget(value)
    for (const provider of providers) if (swarm.nodes.includes(provider)) provider.kad.forget(provided)
  }
}

async function ask(swarm: Swarm, keys: readonly Published[], { get, providers }: Both): Promise<void> {
  const asker = chosen(swarm.random, swarm.nodes)
  const key = chosen(swarm.random, keys)
  if (asker === undefined || key === undefined) return
  await measure(get, async () => {
    const { hops, answers } = await asker.kad.get(key.value)
    return answers === 0 ? 0 : hops
  })
  // Where all providers have left there is nothing to find.
  if (!key.providers.some(provider => swarm.nodes.includes(provider))) return
  await measure(providers, async () => {
    for await (const { peer, hops } of asker.kad.findProviders(key.provided)) {
      if (swarm.nodes.some(node => node.peer === peer)) return hops
    }
    throw new Error('no provider that is still there')
  })
}

async function measure(into: Samples, action: () => Promise<number>): Promise<void> {
  const startedAt = performance.now()
  into.asked++
  try {
    into.hops.push(await action())
    into.found++
    into.ms.push(performance.now() - startedAt)
  } catch {
    // Not found: the share of these is what is measured.
  }
}

/** Until what goes on in the background is over: all that is announced again takes as long as this machine needs. */
async function settle({ nodes }: Swarm): Promise<void> {
  for (let quiet = 0; quiet < SETTLE_TURNS; quiet++) {
    await new Promise(resolve => setTimeout(resolve, 1))
    if (nodes.some(node => node.kad.status().operations > 0)) quiet = 0
  }
}

function samples(): Samples {
  return { hops: [], ms: [], found: 0, asked: 0 }
}

function chosen<T>(random: Random, from: readonly T[]): T | undefined {
  return from.length === 0 ? undefined : from[random.uint32() % from.length]
}

function summaryOf(name: string, { hops, ms, found, asked }: Samples): Record<string, number> {
  return {
    [`${name}_success`]: rounded(found / asked),
    [`${name}_hops_p50`]: median(hops),
    [`${name}_hops_max`]: Math.max(...hops),
    [`${name}_p50_ms`]: rounded(median(ms)),
    [`${name}_p95_ms`]: rounded(percentile(ms, 95)),
  }
}
