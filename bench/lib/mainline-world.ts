/**
 * A network of our Mainline DHT nodes in one process: datagrams in memory that take 10 to 100 ms, a clock of its own, chance
 * from a seed. The nodes are the real ones; what is simulated is the network between them and the time.
 */
import { type Random, seededRandom, silentLogger } from '#base'
import { createMainlineNode, type DatagramSocket, type Endpoint, type ItemSigner, type MainlineNode } from '#mainline'
import { EventClock } from './event-clock.ts'

/** Answers are acted on at the end of a step: fine steps while somebody waits, coarse ones while time goes by. */
const STEP_MS = 10
const COARSE_STEP_MS = 200
const DELAY_MS_MIN = 10
const DELAY_MS_SPREAD = 90

export type Member = { readonly node: MainlineNode; readonly local: Endpoint; signer?: ItemSigner }

export class MainlineWorld {
  readonly clock = new EventClock(1_700_000_000_000)
  readonly random: Random
  readonly members: Member[] = []
  /** Sees what arrives at one address. */
  tap: { readonly at: string; readonly see: (bytes: Uint8Array, from: Endpoint) => void } | undefined
  readonly #listeners = new Map<string, (bytes: Uint8Array, from: Endpoint) => void>()
  #count = 0
  #datagrams = 0

  constructor(seed: number) {
    this.random = seededRandom(seed)
  }

  /** Sent so far. */
  get datagrams(): number {
    return this.#datagrams
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
    if (known !== undefined) await node.bootstrap([nameOf(known.local, ':')]).catch(() => 0) // It has just gone.
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
    for (const end = this.clock.now() + ms; this.clock.now() < end; ) {
      await this.#step(Math.min(COARSE_STEP_MS, end - this.clock.now()))
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.members.map(({ node }) => node.stop()))
  }

  async #step(ms: number): Promise<void> {
    this.clock.advanceTo(this.clock.now() + ms)
    await new Promise(resolve => setImmediate(resolve))
  }

  #socket(local: Endpoint): DatagramSocket {
    const own = nameOf(local)
    return {
      local,
      send: (bytes, to) => {
        this.#datagrams++
        const copy = bytes.slice()
        const name = nameOf(to)
        this.clock.after(DELAY_MS_MIN + (this.random.uint32() % DELAY_MS_SPREAD), () => {
          if (this.tap?.at === name) this.tap.see(copy, local)
          this.#listeners.get(name)?.(copy, local)
        })
      },
      onMessage: listener => void this.#listeners.set(own, listener),
      close: async () => void this.#listeners.delete(own),
    }
  }
}

export function nameOf({ host, port }: Endpoint, separator = ' '): string {
  return `${host}${separator}${port}`
}
