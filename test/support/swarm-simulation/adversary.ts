/** Those who do harm to a download, and origins, which only give. None of them downloads. */
import type { Random } from '#base'
import { BLOCK_BYTES, type BlockRun } from '../../../src/swarm/types.ts'
import type { Events } from './events.ts'
import type { End, Line, Message, Network, Party, Range } from './network.ts'
import { NONE, runOf } from './sim-node.ts'
import { pieceBytesOf, type ToyFile } from './toy-store.ts'

export type Behaviour =
  /** Has everything, and gives it. */
  | 'origin'
  /** Is one in so many blocks bad. */
  | 'corrupt'
  | 'garbage'
  /** Lets ask, and never answers. */
  | 'stall'
  /** Says that it has everything, and rejects it all. */
  | 'lie'
  /** Sends what nobody asked for. */
  | 'unasked'
  /** Never lets anybody ask. */
  | 'choke'
  /** Chokes and unchokes all the time. */
  | 'flap'

const UNASKED_MS = 200
const FLAP_MS = 700
const FLAP_FOR_MS = 60_000

export class Adversary implements Party {
  readonly name: string
  readonly line: Line
  readonly behaviour: Behaviour
  readonly kind: 'origin' | 'peer'
  readonly options: { readonly requestBytesMax: number; readonly givesLeaves: boolean }
  /** Who got something bad, or unasked, of it: it may be banned. */
  isGuilty = false
  readonly #file: ToyFile
  readonly #network: Network
  readonly #events: Events
  readonly #random: Random
  readonly #badOneIn: number

  constructor(
    world: { readonly network: Network; readonly random: Random; readonly file: ToyFile },
    options: {
      readonly name: string
      readonly line: Line
      readonly behaviour: Behaviour
      readonly badOneIn: number
      readonly requestBytesMax: number
      readonly givesLeaves: boolean
    },
  ) {
    this.name = options.name
    this.line = options.line
    this.behaviour = options.behaviour
    this.kind = options.behaviour === 'origin' ? 'origin' : 'peer'
    this.options = options
    this.#badOneIn = options.badOneIn
    this.#network = world.network
    this.#events = world.network.events
    this.#random = world.random
    this.#file = world.file
  }

  opened(end: End): void {
    if (this.behaviour === 'origin') return
    this.#network.send(end, { kind: 'pieces', pieces: 'all' })
    if (this.behaviour === 'unasked') this.#sendUnasked(end)
    if (this.behaviour === 'flap') this.#flap(end, this.#events.now + FLAP_FOR_MS)
  }

  closed(): void {}

  received(end: End, message: Message): void {
    if (message.kind === 'interest' && this.behaviour !== 'choke')
      this.#network.send(end, { kind: 'choke', isChoked: !message.isInterested })
    if (message.kind === 'ask-leaves')
      this.#network.send(end, { kind: this.options.givesLeaves ? 'leaves' : 'no-leaves', piece: message.piece })
    if (message.kind !== 'request') return
    if (this.behaviour === 'lie') this.#network.send(end, { kind: 'reject', range: message.range })
    else if (this.behaviour !== 'stall') this.#give(end, message.range)
  }

  #give(end: End, range: Range): void {
    const run = runOf(range)
    const bad = this.#badOf(run)
    if (bad.size > 0) this.isGuilty = true
    this.#network.send(end, { kind: 'data', range, run, bad })
  }

  #badOf(run: BlockRun): ReadonlySet<number> {
    const blocks = Array.from({ length: run.blockCount }, (_, index) => run.firstBlock + index)
    if (this.behaviour === 'garbage') return new Set(blocks)
    if (this.behaviour !== 'corrupt') return NONE
    return new Set(blocks.filter(() => this.#random.uint32() % this.#badOneIn === 0))
  }

  #sendUnasked(end: End): void {
    if (!end.isOpen) return
    this.isGuilty = true
    const piece = this.#random.uint32() % this.#file.pieceCount
    const range = { piece, offset: 0, length: Math.min(BLOCK_BYTES, pieceBytesOf(this.#file, piece)) }
    this.#network.send(end, { kind: 'data', range, run: runOf(range), bad: new Set([0]) })
    this.#events.after(UNASKED_MS, () => this.#sendUnasked(end))
  }

  #flap(end: End, until: number): void {
    if (!end.isOpen || this.#events.now > until) return
    this.#network.send(end, { kind: 'choke', isChoked: this.#random.uint32() % 2 === 0 })
    this.#events.after(FLAP_MS, () => this.#flap(end, until))
  }
}
