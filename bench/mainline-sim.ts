/**
 * `node bench/mainline-sim.ts [--nodes 1000] [--churn 0,20,50] [--seed 1] [--lookups 100] [--json]`: a network of our Mainline
 * DHT nodes in one process, over datagrams in memory that take 10 to 100 ms, on a clock of its own. Some publish signed
 * metadata and publish it again every half hour, as our policy has it; in an hour a share of the nodes goes and as many
 * strangers come. Then nodes look the metadata up. Prints how often it is found, after how long, over how many hops.
 */
import { parseArgs } from 'node:util'
import { type Random, seededRandom, silentLogger } from '#base'
import { ed25519Signer } from '#crypto'
import {
  createMainlineNode,
  type DatagramSocket,
  decodeBencode,
  type Endpoint,
  type ItemSigner,
  type MainlineNode,
} from '#mainline'
import { EventClock } from './lib/event-clock.ts'

const HOUR_MS = 3_600_000
const REPUBLISH_MS = HOUR_MS / 2
/** Answers are acted on at the end of a step: fine steps while somebody waits, coarse ones while time goes by. */
const STEP_MS = 10
const COARSE_STEP_MS = 200
const DELAY_MS_MIN = 10
const DELAY_MS_SPREAD = 90
/** A contact in an answer: id, IPv4 address, port. */
const [CONTACT_BYTES, ID_BYTES] = [26, 20]

type Outcome = {
  readonly nodes: number
  readonly churnPercent: number
  readonly seed: number
  readonly lookups: number
  readonly found: number
  readonly latencyMs: { readonly p50: number; readonly p95: number }
  readonly hops: { readonly mean: number; readonly max: number }
  readonly queries: { readonly mean: number }
}

type Member = { readonly node: MainlineNode; readonly local: Endpoint; signer?: ItemSigner }

class World {
  readonly clock = new EventClock(1_700_000_000_000)
  readonly random: Random
  readonly members: Member[] = []
  /** Sees what arrives at one address. */
  tap: { readonly at: string; readonly see: (bytes: Uint8Array, from: Endpoint) => void } | undefined
  readonly #listeners = new Map<string, (bytes: Uint8Array, from: Endpoint) => void>()
  #count = 0

  constructor(seed: number) {
    this.random = seededRandom(seed)
  }

  /** A node on a prefix of its own, which joins by one that is there. */
  async join(): Promise<Member> {
    const index = this.#count++
    const local = { host: `${20 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}.9`, port: 6881 }
    const { clock, random } = this
    const sockets = { open: async () => [this.#socket(local)], resolve: async (host: string) => [host] }
    const node = createMainlineNode({ clock, random, log: silentLogger, sockets })
    await node.start()
    const known = this.any()
    const member: Member = { node, local }
    this.members.push(member)
    if (known !== undefined) await node.bootstrap([`${known.local.host}:6881`]).catch(() => 0) // It has just gone.
    return member
  }

  async leave(member: Member): Promise<void> {
    this.members.splice(this.members.indexOf(member), 1)
    await member.node.stop()
  }

  any(): Member | undefined {
    return this.members[this.random.uint32() % Math.max(1, this.members.length)]
  }

  /** Lets time go by until the promise has settled. */
  async settle<T>(promise: Promise<T>): Promise<T> {
    let isOver = false
    promise.then(
      () => (isOver = true),
      () => (isOver = true),
    )
    while (!isOver) await this.#step(STEP_MS)
    return promise
  }

  async pass(ms: number): Promise<void> {
    for (const end = this.clock.now() + ms; this.clock.now() < end; ) await this.#step(COARSE_STEP_MS)
  }

  async #step(ms: number): Promise<void> {
    this.clock.advanceTo(this.clock.now() + ms)
    await new Promise(resolve => setImmediate(resolve))
  }

  #socket(local: Endpoint): DatagramSocket {
    const name = ({ host, port }: Endpoint): string => `${host} ${port}`
    return {
      local,
      send: (bytes, to) => {
        const copy = bytes.slice()
        this.clock.after(DELAY_MS_MIN + (this.random.uint32() % DELAY_MS_SPREAD), () => {
          if (this.tap?.at === name(to)) this.tap.see(copy, local)
          this.#listeners.get(name(to))?.(copy, local)
        })
      },
      onMessage: listener => void this.#listeners.set(name(local), listener),
      close: async () => void this.#listeners.delete(name(local)),
    }
  }
}

async function simulate(options: {
  readonly nodes: number
  readonly churnPercent: number
  readonly seed: number
  readonly lookups: number
}): Promise<Outcome> {
  const { nodes, churnPercent, seed, lookups } = options
  const world = new World(seed)
  for (let count = 0; count < nodes; count++) {
    const joining = world.join()
    // Twenty join at once, so that the simulation of the beginning is short.
    if (count % 20 === 0) await world.settle(joining)
  }
  await world.pass(60_000)
  const signers = await publish(world, lookups)
  await churnFor(world, Math.round((nodes * churnPercent) / 100))
  const outcomes: Looked[] = []
  for (const { publicKey } of signers) outcomes.push(await lookUp(world, publicKey))
  await Promise.all(world.members.map(({ node }) => node.stop()))
  const found = outcomes.filter(({ isFound }) => isFound)
  const times = found.map(({ ms }) => ms).sort((a, b) => a - b)
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length
  return {
    nodes,
    churnPercent,
    seed,
    lookups: outcomes.length,
    found: found.length,
    latencyMs: { p50: times[times.length >> 1] ?? 0, p95: times[Math.floor(times.length * 0.95)] ?? 0 },
    hops: {
      mean: Number(mean(found.map(({ hops }) => hops)).toFixed(2)),
      max: Math.max(0, ...found.map(({ hops }) => hops)),
    },
    queries: { mean: Number(mean(outcomes.map(({ queries }) => queries)).toFixed(1)) },
  }
}

/** Puts an item of each of so many nodes, which stay and put it again every half hour. */
async function publish(world: World, count: number): Promise<readonly ItemSigner[]> {
  const signers: ItemSigner[] = []
  for (const member of world.members.slice(0, count)) {
    const signer = ed25519Signer(world.random.bytes(32))
    member.signer = signer
    signers.push(signer)
    await world.settle(put(member))
    const again = (): void => {
      void put(member).catch(() => 0)
      world.clock.after(REPUBLISH_MS, again)
    }
    world.clock.after(REPUBLISH_MS, again)
  }
  return signers
}

async function put({ node, signer }: Member): Promise<number> {
  return signer === undefined ? 0 : node.putMutable({ signer, seq: 1, value: { v: 1 } })
}

/** An hour in which so many of those that publish nothing go, and as many strangers come, spread over it. */
async function churnFor(world: World, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    await world.pass(HOUR_MS / count)
    const leaving = world.members.filter(({ signer }) => signer === undefined)
    const member = leaving[world.random.uint32() % Math.max(1, leaving.length)]
    if (member !== undefined) await world.settle(world.leave(member))
    void world.join()
  }
  if (count === 0) await world.pass(HOUR_MS)
}

type Looked = { readonly isFound: boolean; readonly ms: number; readonly hops: number; readonly queries: number }

/** Looks an item up at any node. Hops: contacts that led to one another, from the own table to whoever had the value. */
async function lookUp(world: World, publicKey: Uint8Array): Promise<Looked> {
  const { node, local } = world.any() ?? { node: undefined, local: undefined }
  if (node === undefined) return { isFound: false, ms: 0, hops: 0, queries: 0 }
  const depths = new Map<string, number>()
  const holders: number[] = []
  const startedAt = world.clock.now()
  const see = (bytes: Uint8Array, from: Endpoint): void => {
    const answer = answerIn(bytes)
    if (answer === undefined) return
    const depth = depths.get(`${from.host} ${from.port}`) ?? 1
    for (const name of answer.contacts) depths.set(name, Math.min(depths.get(name) ?? depth + 1, depth + 1))
    if (!answer.hasValue) return
    holders.push(depth)
  }
  world.tap = { at: `${local.host} ${local.port}`, see }
  const before = node.status().sent['get'] ?? 0
  const item = await world.settle(node.getMutable(publicKey).catch(() => undefined))
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

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      nodes: { type: 'string', default: '1000' },
      churn: { type: 'string', default: '0,20,50' },
      seed: { type: 'string', default: '1' },
      lookups: { type: 'string', default: '100' },
      json: { type: 'boolean', default: false },
    },
  })
  for (const churn of values.churn.split(',')) {
    const outcome = await simulate({
      nodes: Number(values.nodes),
      churnPercent: Number(churn),
      seed: Number(values.seed),
      lookups: Number(values.lookups),
    })
    const { found, hops, latencyMs, lookups, nodes, queries, seed } = outcome
    process.stdout.write(
      values.json
        ? `${JSON.stringify(outcome)}\n`
        : `${nodes} nodes, ${churn} % churn in an hour (seed ${seed}): ${found} of ${lookups} found, ` +
            `p50 ${latencyMs.p50} ms, p95 ${latencyMs.p95} ms, hops ${hops.mean} (at most ${hops.max}), ` +
            `${queries.mean} queries a look-up\n`,
    )
  }
}
