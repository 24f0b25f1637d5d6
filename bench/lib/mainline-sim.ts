/**
 * `npm run -s sim -- mainline`: a thousand of our Mainline DHT nodes, of which some publish signed metadata and publish it
 * again every half hour, as our policy has it, each at a time of its own. For each rate of churn in turn, nodes go for half
 * an hour and as many strangers come, which is twice as long as a table takes to doubt a contact. Then nodes look the
 * metadata up: how often it is found, after how long, over how many hops.
 */
import { ed25519Signer } from '#crypto'
import { decodeBencode } from '#formats'
import type { Endpoint, ItemSigner } from '#mainline'
import { MainlineWorld, type Member, nameOf } from './mainline-world.ts'
import { percentile } from './report.ts'
import { mean, rounded, type SimOptions, type SimResult } from './sim-report.ts'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const REPUBLISH_MS = HOUR_MS / 2
/** Nodes that join at once, so that the beginning is short. */
const JOINING_MAX = 20
/** A contact in an answer: id, IPv4 address, port. */
const [CONTACT_BYTES, ID_BYTES] = [26, 20]

export type MainlineSimOptions = SimOptions & {
  /** Look-ups for each rate, of as many items. */
  readonly lookups: number
  /** Simulated time for each rate. */
  readonly minutes: number
}

type Looked = { readonly isFound: boolean; readonly ms: number; readonly hops: number; readonly queries: number }

/** One row for each rate of churn. The same network goes through them one after the other. */
export async function simulateMainline(options: MainlineSimOptions): Promise<SimResult> {
  const { nodes, seed, lookups, minutes, churnPercents, onRow } = options
  const world = new MainlineWorld(seed)
  for (let count = 0; count < nodes; count++) {
    const joining = world.join()
    if (count % JOINING_MAX === 0) await world.settle(joining)
  }
  await world.pass(MINUTE_MS)
  const signers = await publish(world, lookups)
  const rows: Record<string, number>[] = []
  for (const churnPercent of churnPercents) {
    const [cpuAt, sentAt] = [process.cpuUsage(), world.datagrams]
    const replaced = Math.round((nodes * churnPercent * minutes) / 6_000)
    await churnFor(world, replaced, minutes * MINUTE_MS)
    const sent = world.datagrams - sentAt
    const outcomes: Looked[] = []
    for (const { publicKey } of signers) outcomes.push(await lookUp(world, publicKey))
    const row = {
      churn_percent: churnPercent,
      replaced,
      ...rowOf(outcomes),
      datagrams_per_node_minute: rounded(sent / nodes / minutes),
      cpu_s: rounded(process.cpuUsage(cpuAt).user / 1e6),
    }
    rows.push(row)
    onRow?.(row)
  }
  await world.stop()
  return { sim: 'mainline', seed, nodes, rows }
}

function rowOf(outcomes: readonly Looked[]): Record<string, number> {
  const found = outcomes.filter(({ isFound }) => isFound)
  const times = found.map(({ ms }) => ms)
  const hops = found.map(looked => looked.hops)
  return {
    lookups: outcomes.length,
    success: rounded(found.length / outcomes.length),
    hops_mean: rounded(mean(hops)),
    hops_max: Math.max(0, ...hops),
    p50_ms: percentile(times, 50),
    p95_ms: percentile(times, 95),
    queries_mean: rounded(mean(outcomes.map(({ queries }) => queries))),
  }
}

/** Puts an item of each of so many nodes, which stay and put it again every half hour, from a time of their own on. */
async function publish(world: MainlineWorld, count: number): Promise<readonly ItemSigner[]> {
  const signers: ItemSigner[] = []
  for (const member of world.members.slice(0, count)) {
    const signer = ed25519Signer(world.random.bytes(32))
    member.signer = signer
    signers.push(signer)
    await world.settle(put(member))
    const again = (): void => {
      void put(member).catch(() => 0) // It has stopped with the whole simulation.
      world.clock.after(REPUBLISH_MS, again)
    }
    world.clock.after(world.random.uint32() % REPUBLISH_MS, again)
  }
  return signers
}

async function put({ node, signer }: Member): Promise<number> {
  return signer === undefined ? 0 : node.putMutable({ signer, seq: 1, value: { v: 1 } })
}

/** So many of those that publish nothing go, and as many strangers come, spread over the time. */
async function churnFor(world: MainlineWorld, count: number, ms: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    await world.pass(ms / count)
    const leaving = world.members.filter(({ signer }) => signer === undefined)
    const member = leaving[world.random.uint32() % Math.max(1, leaving.length)]
    if (member !== undefined) await world.settle(world.leave(member))
    void world.join()
  }
  if (count === 0) await world.pass(ms)
}

/** Looks an item up at any node. Hops: contacts that led to one another, from the own table to whoever had the value. */
async function lookUp(world: MainlineWorld, publicKey: Uint8Array): Promise<Looked> {
  const { node, local } = world.any() ?? { node: undefined, local: undefined }
  if (node === undefined) return { isFound: false, ms: 0, hops: 0, queries: 0 }
  const depths = new Map<string, number>()
  const holders: number[] = []
  const startedAt = world.clock.now()
  const see = (bytes: Uint8Array, from: Endpoint): void => {
    const answer = answerIn(bytes)
    if (answer === undefined) return
    const depth = depths.get(nameOf(from)) ?? 1
    for (const name of answer.contacts) depths.set(name, Math.min(depths.get(name) ?? depth + 1, depth + 1))
    if (answer.hasValue) holders.push(depth)
  }
  world.tap = { at: nameOf(local), see }
  const before = node.status().sent['get'] ?? 0
  const item = await world.settle(node.getMutable(publicKey).catch(() => undefined)) // Not found: that is counted.
  world.tap = undefined
  const queries = (node.status().sent['get'] ?? 0) - before
  return {
    isFound: item !== undefined,
    ms: world.clock.now() - startedAt,
    hops: holders.length === 0 ? 0 : Math.min(...holders),
    queries,
  }
}

function answerIn(bytes: Uint8Array): { readonly contacts: readonly string[]; readonly hasValue: boolean } | undefined {
  const message = decodeBencode(bytes) as { readonly r?: { readonly nodes?: Uint8Array; readonly v?: unknown } }
  const { r } = message
  if (r === undefined) return undefined
  const nodes = r.nodes ?? new Uint8Array()
  const contacts = Array.from({ length: Math.floor(nodes.byteLength / CONTACT_BYTES) }, (_, i) => {
    const [a = 0, b = 0, c = 0, d = 0, high = 0, low = 0] = nodes.subarray(i * CONTACT_BYTES + ID_BYTES)
    return `${a}.${b}.${c}.${d} ${high * 256 + low}`
  })
  return { contacts, hasValue: r.v !== undefined }
}
