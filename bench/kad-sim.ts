/**
 * `node bench/kad-sim.ts [--nodes 100] [--churn 0,20,50] [--seed 1] [--json]`: Kademlia on real libp2p nodes in memory,
 * while so many percent of them leave and as many come in an hour. Time is simulated; libp2p's streams, Yamux and
 * negotiation are as always, without encryption. Prints hops, time and success of `get` and `findProviders`. A dial to a
 * node that is gone fails at once here, as it does where a machine answers for a process that has ended.
 */
import { parseArgs } from 'node:util'
import { ManualClock, type Random, seededRandom } from '#base'
import { sha256 } from '#crypto'
import { type KadNode, startKadNode } from '../test/support/kad-nodes.ts'
import { createMemoryFabric, type MemoryFabric } from '../test/support/memory-libp2p.ts'
import { median } from './lib/report.ts'

/** Small buckets, so that a hundred nodes are many: of k = 20 and 64 buckets, each would know all. */
const KAD = { bucketSize: 8, prefixBits: 2, replicas: 4, siblings: 2, republishMs: 1_800_000, selfLookupDelayMs: 0 }
const STEPS = 3
const HOUR_MS = 3_600_000
const QUERIES_PER_STEP = 30
const VALUES = 12
/** Turns of the event loop that give background work time after each step. */
const SETTLE_TURNS = 50

type Swarm = {
  readonly fabric: MemoryFabric
  readonly clock: ManualClock
  readonly random: Random
  readonly nodes: KadNode[]
  started: number
}

type Samples = { readonly hops: number[]; readonly ms: number[]; found: number; asked: number }

type Outcome = {
  readonly churnPercent: number
  readonly tablePeers: number
  readonly get: Summary
  readonly findProviders: Summary
  readonly seconds: number
}

type Summary = {
  readonly success: number
  readonly hopsP50: number
  readonly hopsMax: number
  readonly msP50: number
  readonly msP95: number
}

const { values } = parseArgs({
  options: {
    nodes: { type: 'string', default: '100' },
    churn: { type: 'string', default: '0,20,50' },
    seed: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
  },
})

const say = values.json ? console.error : console.log
say(`seed ${values.seed}, ${values.nodes} nodes, one hour in ${STEPS} steps`)
// In memory there is no socket to keep the process alive while it waits for one of libp2p's own timers.
const alive = setInterval(() => undefined, 1_000)
const outcomes: Outcome[] = []
for (const churn of values.churn.split(',').map(Number)) {
  const outcome = await simulate({ nodes: Number(values.nodes), churnPercent: churn, seed: Number(values.seed) })
  outcomes.push(outcome)
  say(`churn ${churn} %/h: routing table ${outcome.tablePeers} peers (median), ${outcome.seconds.toFixed(0)} s`)
  for (const [name, summary] of [
    ['get', outcome.get],
    ['findProviders', outcome.findProviders],
  ] as const)
    say(lineOf(name, summary))
}
clearInterval(alive)
if (values.json) console.log(JSON.stringify({ bench: 'kad-sim', seed: Number(values.seed), outcomes }))

async function simulate(options: {
  readonly nodes: number
  readonly churnPercent: number
  readonly seed: number
}): Promise<Outcome> {
  const startedAt = performance.now()
  const swarm: Swarm = {
    fabric: createMemoryFabric(),
    clock: new ManualClock(1_700_000_000_000),
    random: seededRandom(options.seed),
    nodes: [],
    started: 0,
  }
  for (let i = 0; i < options.nodes; i++) await join(swarm)
  await settle()
  const keys = await publish(swarm)
  await settle()
  const [get, providers]: [Samples, Samples] = [samples(), samples()]
  const leavers = (options.nodes * options.churnPercent) / 100 / STEPS
  let due = 0
  for (let step = 0; step < STEPS; step++) {
    for (due += leavers; due >= 1; due--) {
      await leave(swarm)
      await join(swarm)
    }
    swarm.clock.advance(HOUR_MS / STEPS)
    await settle()
    for (let query = 0; query < QUERIES_PER_STEP; query++) await ask(swarm, keys, { get, providers })
  }
  const tables = swarm.nodes.map(node => node.kad.status().peers)
  await Promise.all(swarm.nodes.map(node => node.stop()))
  return {
    churnPercent: options.churnPercent,
    tablePeers: median(tables),
    get: summaryOf(get),
    findProviders: summaryOf(providers),
    seconds: (performance.now() - startedAt) / 1_000,
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

type Published = { readonly value: string; readonly provided: Uint8Array; readonly providers: readonly KadNode[] }

/** Values, and keys with three providers each: one of them may be gone later, and all of them where there is much churn. */
async function publish(swarm: Swarm): Promise<readonly Published[]> {
  const published: Published[] = []
  for (let i = 0; i < VALUES; i++) {
    const owner = swarm.nodes[(i * 7) % swarm.nodes.length]
    if (owner === undefined) continue
    const { key } = await owner.kad.put(await owner.record({ sequence: i + 1, lifeMs: 2 * HOUR_MS }))
    const provided = sha256(new TextEncoder().encode(`provided ${i}`))
    const providers = [0, 1, 2].flatMap(n => swarm.nodes[(i * 7 + n * 31) % swarm.nodes.length] ?? [])
    for (const provider of providers) await provider.kad.provide(provided)
    published.push({ value: key, provided, providers })
  }
  return published
}

async function ask(
  swarm: Swarm,
  keys: readonly Published[],
  { get, providers }: { readonly get: Samples; readonly providers: Samples },
): Promise<void> {
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

async function settle(): Promise<void> {
  for (let turn = 0; turn < SETTLE_TURNS; turn++) await new Promise(resolve => setTimeout(resolve, 1))
}

function samples(): Samples {
  return { hops: [], ms: [], found: 0, asked: 0 }
}

function chosen<T>(random: Random, from: readonly T[]): T | undefined {
  return from.length === 0 ? undefined : from[random.uint32() % from.length]
}

function summaryOf({ hops, ms, found, asked }: Samples): Summary {
  return {
    success: found / asked,
    hopsP50: median(hops),
    hopsMax: Math.max(...hops),
    msP50: median(ms),
    msP95: percentile(ms, 95),
  }
}

function lineOf(name: string, { success, hopsP50, hopsMax, msP50, msP95 }: Summary): string {
  const share = `${(success * 100).toFixed(1)} %`
  return `  ${name.padEnd(14)} success ${share.padStart(7)}  hops p50 ${hopsP50} max ${hopsMax}  ms p50 ${msP50.toFixed(1)} p95 ${msP95.toFixed(1)}`
}

/** The value that so many percent lie at or below; NaN for none. */
function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.ceil((sorted.length * percent) / 100) - 1)] ?? Number.NaN
}
