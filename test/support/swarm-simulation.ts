/**
 * Swarms in simulated time, from a seed: honest nodes that run both state machines, origins, and those who do harm, on lines
 * of some latency and bandwidth. A world checks itself at every step; what it throws says its seed, with which it replays.
 */
import { Bitfield, type Random, seededRandom, uniform } from '#base'
import { BLOCK_BYTES } from '../../src/swarm/types.ts'
import { Adversary, type Behaviour } from './swarm-simulation/adversary.ts'
import { Events } from './swarm-simulation/events.ts'
import { type End, Network, type Party } from './swarm-simulation/network.ts'
import { SimNode, type SimNodeOptions } from './swarm-simulation/sim-node.ts'
import { type ToyFile, ToyStore } from './swarm-simulation/toy-store.ts'

export const MIB = 1024 * 1024
const EVENTS_MAX = 60_000

export class SwarmWorld {
  readonly seed: number
  readonly events = new Events()
  readonly random: Random
  readonly file: ToyFile
  readonly network: Network
  readonly nodes: SimNode[] = []
  readonly adversaries: Adversary[] = []

  constructor(seed: number, file: ToyFile, latencyMs: (a: Party, b: Party) => number) {
    this.seed = seed
    this.random = seededRandom(seed)
    this.file = file
    this.network = new Network(this.events, latencyMs)
  }

  add(
    options: Omit<SimNodeOptions, 'store' | 'wanted'> & { readonly has?: Bitfield; readonly wanted?: Bitfield },
  ): SimNode {
    const { pieceCount } = this.file
    const store = new ToyStore(this.file, options.has ?? new Bitfield(pieceCount))
    const node = new SimNode(this, { ...options, store, wanted: options.wanted ?? Bitfield.full(pieceCount) })
    this.nodes.push(node)
    return node
  }

  addAdversary(options: ConstructorParameters<typeof Adversary>[1]): Adversary {
    const adversary = new Adversary(this, options)
    this.adversaries.push(adversary)
    return adversary
  }

  isGuilty(name: string): boolean {
    const [party] = name.split('/')
    return this.adversaries.some(adversary => adversary.isGuilty && adversary.name.split('/')[0] === party)
  }

  /** Lets time pass until it is over. @throws Error with the seed, where something broke or time is up */
  run(isOver: () => boolean, untilMs: number): void {
    try {
      while (!isOver()) {
        if (!this.events.step()) throw new Error('nothing happens any more')
        if (this.events.now > untilMs) throw new Error(`not over after ${untilMs} ms: ${this.#state()}`)
        if (this.events.count > EVENTS_MAX) throw new Error(`too many events: ${this.#state()}`)
      }
    } catch (error) {
      throw new Error(`seed ${this.seed}, at ${Math.round(this.events.now)} ms: ${(error as Error).message}`, {
        cause: error,
      })
    }
  }

  #state(): string {
    return JSON.stringify(
      this.nodes
        .filter(node => !node.isComplete)
        .map(node => ({ name: node.name, ...node.download.facts(this.events.now) })),
    )
  }
}

/** What a small world was made of, and what came of it. */
export type SmallWorld = {
  readonly world: SwarmWorld
  readonly behaviours: readonly Behaviour[]
  /** Without harm, change, or channels that break: waste is bounded tightly there. */
  readonly isCalm: boolean
}

const BEHAVIOURS: readonly Behaviour[] = ['origin', 'corrupt', 'garbage', 'stall', 'lie', 'unasked', 'choke', 'flap']

/** A small world of chance: at least one honest seed or origin that stays, so that every download can complete. */
export function makeSmallWorld(seed: number): SmallWorld {
  const random = seededRandom(seed ^ 0x5eed)
  const chance = (share: number): boolean => uniform(random) < share
  const between = (from: number, to: number): number => from + Math.floor(uniform(random) * (to - from + 1))
  const oneOf = <T>(values: readonly T[]): T => values[between(0, values.length - 1)] as T
  const pieceBlocks = oneOf([1, 4, 8, 64])
  const pieceCount = between(1, pieceBlocks === 64 ? 6 : 24)
  const pieceBytes = pieceBlocks * BLOCK_BYTES
  const bytes = (pieceCount - 1) * pieceBytes + between(1, pieceBytes)
  const latencies = oneOf([0.2, 5, 40, 150])
  const world = new SwarmWorld(seed, { pieceCount, pieceBytes, bytes }, () => latencies)
  const line = (): SimNodeOptions['line'] => ({ up: oneOf([0.1, 1, 20, 300]) * MIB, down: oneOf([1, 50, 500]) * MIB })
  const kindOf = (): { requestBytesMax: number; givesLeaves: boolean } =>
    chance(0.3)
      ? { requestBytesMax: BLOCK_BYTES, givesLeaves: chance(0.3) }
      : { requestBytesMax: Math.min(64, Math.max(1, pieceBlocks)) * BLOCK_BYTES, givesLeaves: chance(0.9) }
  const some = (share: number): Bitfield => {
    const numbers = Array.from({ length: pieceCount }, (_, piece) => piece)
    return Bitfield.of(
      pieceCount,
      numbers.filter(() => chance(share)),
    )
  }
  world.add({ name: 'seed', line: line(), ...kindOf(), has: Bitfield.full(pieceCount) })
  const leechers = between(1, 3)
  for (let index = 0; index < leechers; index++) {
    const has = chance(0.3) ? some(0.5) : new Bitfield(pieceCount)
    world.add({
      name: `leecher${index}`,
      line: line(),
      ...kindOf(),
      has,
      wanted: chance(0.7) ? Bitfield.full(pieceCount) : some(0.6),
    })
  }
  const behaviours = Array.from({ length: chance(0.6) ? between(1, 3) : 0 }, () => oneOf(BEHAVIOURS))
  for (const [index, behaviour] of behaviours.entries())
    world.addAdversary({
      name: `${behaviour}${index}/1`,
      line: line(),
      behaviour,
      badOneIn: oneOf([3, 20, 100]),
      ...kindOf(),
    })
  const isChanging = chance(0.4)
  connectAll(world, random)
  if (isChanging) disturb(world, { random, chance, between })
  return { world, behaviours, isCalm: !isChanging && behaviours.every(behaviour => behaviour === 'origin') }
}

function connectAll(world: SwarmWorld, random: Random): void {
  for (const [index, node] of world.nodes.entries()) {
    for (const other of world.nodes.slice(0, index)) keepConnected(world, node, { other, random })
    if (index === 0) continue
    for (const adversary of world.adversaries) keepConnected(world, node, { other: adversary, random })
  }
}

/** As discovery does: who went away is dialled again, but not at once, and not for ever. */
function keepConnected(world: SwarmWorld, node: SimNode, { other, random }: { other: Party; random: Random }): void {
  let dials = 0
  const dial = (): void => {
    const isThere = [...node.ends.values()].some((end: End) => end.other.owner === other)
    if (!isThere && (other instanceof SimNode || dials < 5)) {
      dials++
      world.network.connect(node, other)
    }
    world.events.after(3_000 + (random.uint32() % 2_000), dial)
  }
  world.events.after(random.uint32() % 500, dial)
}

type Dice = {
  readonly random: Random
  readonly chance: (share: number) => boolean
  readonly between: (from: number, to: number) => number
}

/** What may happen in the middle: channels break, a disk is full, other pieces are wanted, a process is killed. */
function disturb(world: SwarmWorld, { chance, between }: Dice): void {
  const leechers = world.nodes.slice(1)
  const { pieceCount } = world.file
  for (const node of leechers) {
    if (chance(0.4)) node.store.writesLeft = between(0, pieceCount)
    if (chance(0.3)) world.events.after(between(100, 5_000), () => node.restart())
    if (chance(0.4)) {
      const wanted = Bitfield.of(
        pieceCount,
        Array.from({ length: pieceCount }, (_, piece) => piece).filter(() => chance(0.7)),
      )
      world.events.after(between(50, 3_000), () => node.want(wanted))
      if (chance(0.5)) world.events.after(between(3_000, 6_000), () => node.want(Bitfield.full(pieceCount)))
    }
    const breaks = chance(0.5) ? between(1, 5) : 0
    for (let index = 0; index < breaks; index++)
      world.events.after(between(10, 8_000), () => {
        const end = [...node.ends.values()][between(0, Math.max(0, node.ends.size - 1))]
        if (end !== undefined) world.network.close(end)
      })
  }
}

/** Runs a small world until every download is complete. */
export function runSmallWorld(seed: number): SmallWorld {
  const made = makeSmallWorld(seed)
  const { world } = made
  const settledAt = 6_500 // Nothing changes what is wanted after that.
  world.run(
    () => (made.isCalm || world.events.now > settledAt) && world.nodes.every(node => node.isComplete),
    3_600_000,
  )
  return made
}
