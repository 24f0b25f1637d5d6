/** A piece that is on its way: what became of each of its blocks, and who is asked for which. */
import { assert, type Bitfield } from '#base'
import { BLOCK_BYTES, type BlockRun } from '../types.ts'
import type { Channel, Risk } from './channel.ts'

export type Request = {
  readonly channel: Channel
  readonly begun: Begun
  readonly run: BlockRun
  readonly bytes: number
  readonly sentAt: number
  /** When it should be here, by what was measured. */
  expectedAt: number
  deadline: number
  /** Its blocks were asked for elsewhere before. */
  readonly risk: Risk | undefined
}

const WANTED = 0
const ASKED = 1
const ARRIVED = 2
const STORED = 3

export class Begun {
  readonly piece: number
  readonly bytes: number
  readonly blockCount: number
  readonly requests = new Set<Request>()
  /** While no block can be verified alone, one channel gives them all, so that it is known whose a bad piece is. */
  owner: Channel | undefined
  /** The hashes of its blocks are known. */
  isVerifiable = false
  /** Something came that could not be verified alone: the store may hold it. */
  mayBeHeld = false
  /** Who gave what was held when the hashes of its blocks came. */
  heldBy: Channel | undefined
  readonly #states: Uint8Array
  readonly #asks: Uint8Array
  #wanted: number
  #stored = 0

  constructor(piece: number, bytes: number, stored: Bitfield | undefined) {
    this.piece = piece
    this.bytes = bytes
    this.blockCount = Math.ceil(bytes / BLOCK_BYTES)
    this.#states = new Uint8Array(this.blockCount)
    this.#asks = new Uint8Array(this.blockCount)
    this.#wanted = this.blockCount
    if (stored !== undefined) this.reset(stored)
  }

  /** Blocks that nobody is asked for. */
  get wantedBlocks(): number {
    return this.#wanted
  }

  /** Blocks of which the store said that it keeps them. */
  get storedBlocks(): number {
    return this.#stored
  }

  get isAllStored(): boolean {
    return this.#stored === this.blockCount
  }

  /** Nothing of it is here, and nobody is asked. */
  get isUntouched(): boolean {
    return this.#wanted === this.blockCount
  }

  bytesOf({ firstBlock, blockCount }: Pick<BlockRun, 'firstBlock' | 'blockCount'>): number {
    return Math.min((firstBlock + blockCount) * BLOCK_BYTES, this.bytes) - firstBlock * BLOCK_BYTES
  }

  /** Bytes of stored blocks. */
  storedBytes(): number {
    return this.#bytesFrom(STORED)
  }

  /** Bytes of blocks that have come, stored or not yet. */
  hereBytes(): number {
    return this.#bytesFrom(ARRIVED)
  }

  /** The first blocks that nobody is asked for. */
  nextRun(blocksMax: number): BlockRun | undefined {
    if (this.#wanted === 0) return undefined
    const firstBlock = this.#states.indexOf(WANTED)
    let end = firstBlock + 1
    while (end < this.blockCount && end - firstBlock < blocksMax && this.#states[end] === WANTED) end++
    return { piece: this.piece, firstBlock, blockCount: end - firstBlock }
  }

  /** Whether each of these blocks is asked for exactly once. */
  isAskedOnce({ firstBlock, blockCount }: BlockRun): boolean {
    for (let block = firstBlock; block < firstBlock + blockCount; block++)
      if (this.#states[block] !== ASKED || this.#asks[block] !== 1) return false
    return true
  }

  /** Whether something of it has not come yet. */
  isOpen({ firstBlock, blockCount }: BlockRun): boolean {
    for (let block = firstBlock; block < firstBlock + blockCount; block++)
      if ((this.#states[block] ?? STORED) < ARRIVED) return true
    return false
  }

  asked(request: Request): void {
    this.requests.add(request)
    for (const block of blocksOf(request.run)) {
      this.#asks[block] = (this.#asks[block] ?? 0) + 1
      if (this.#states[block] === WANTED) this.#move(block, ASKED)
    }
  }

  /** Nobody waits for this request any more. */
  released(request: Request): void {
    if (!this.requests.delete(request)) return
    for (const block of blocksOf(request.run)) {
      this.#asks[block] = (this.#asks[block] ?? 1) - 1
      if (this.#states[block] === ASKED && this.#asks[block] === 0) this.#move(block, WANTED)
    }
  }

  /** @returns bytes of it that had not come before */
  arrived(run: BlockRun): number {
    let fresh = 0
    for (const block of blocksOf(run)) {
      if ((this.#states[block] ?? STORED) >= ARRIVED) continue
      this.#move(block, ARRIVED)
      fresh += this.bytesOf({ firstBlock: block, blockCount: 1 })
    }
    return fresh
  }

  stored(run: BlockRun): void {
    for (const block of blocksOf(run)) this.#move(block, STORED)
  }

  /** These blocks are no longer here. */
  lost(blocks: Iterable<number>): void {
    for (const block of blocks)
      if (block >= 0 && block < this.blockCount) this.#move(block, (this.#asks[block] ?? 0) > 0 ? ASKED : WANTED)
  }

  /** What has arrived was not taken by the store. */
  loseArrived(): void {
    this.lost(this.#blocksIn(ARRIVED))
  }

  /** Only these blocks are in the store. What is being stored stays so. */
  reconcile(stored: Bitfield | undefined): void {
    this.lost(this.#blocksIn(STORED).filter(block => stored?.has(block) !== true))
    this.verified(stored)
  }

  /** These blocks are in the store, whoever gave them. */
  verified(stored: Bitfield | undefined): void {
    for (const block of stored?.numbers() ?? []) if (block < this.blockCount) this.#move(block, STORED)
  }

  /** Of these, those that are thought to be in the store, and are not. @returns how many bytes */
  unstored(blocks: readonly number[], stored: Bitfield | undefined): number {
    const lost = blocks.filter(block => this.#states[block] === STORED && stored?.has(block) !== true)
    this.lost(lost)
    return lost.reduce((sum, block) => sum + this.bytesOf({ firstBlock: block, blockCount: 1 }), 0)
  }

  /** As if nothing had come but these. */
  reset(stored: Bitfield | undefined): void {
    this.loseArrived()
    this.reconcile(stored)
  }

  #blocksIn(state: number): number[] {
    return [...this.#states.keys()].filter(block => this.#states[block] === state)
  }

  #bytesFrom(least: number): number {
    let bytes = 0
    for (const [block, state] of this.#states.entries())
      if (state >= least) bytes += this.bytesOf({ firstBlock: block, blockCount: 1 })
    return bytes
  }

  #move(block: number, to: number): void {
    const from = this.#states[block]
    assert(from !== undefined, 'a block that the piece does not have')
    if (from === to) return
    this.#states[block] = to
    if (from === WANTED) this.#wanted--
    if (to === WANTED) this.#wanted++
    if (from === STORED) this.#stored--
    if (to === STORED) this.#stored++
  }
}

function* blocksOf({ firstBlock, blockCount }: BlockRun): Generator<number, void> {
  for (let block = firstBlock; block < firstBlock + blockCount; block++) yield block
}
