/**
 * The pieces of one download: which are needed, which are begun, and how many channels have each. What a channel has that is
 * of use is counted as it changes, so that nothing looks through all pieces but a change of what is wanted.
 */
import { Bitfield, type Random } from '#base'
import { Begun } from './begun.ts'
import type { Channel } from './channel.ts'
import { Picker } from './picker.ts'

export type PieceFacts = {
  readonly pieceCount: number
  pieceBytes(piece: number): number
  /** Verified pieces of the store; read whenever what is wanted changes. */
  readonly has: Bitfield
  /** Verified blocks of a piece that is not whole. */
  blocksOf(piece: number): Bitfield | undefined
}

export class Pieces {
  readonly facts: PieceFacts
  readonly picker: Picker
  /** Wanted, and not here. */
  readonly needed: Bitfield
  readonly begun = new Map<number, Begun>()
  /** Begun pieces with blocks that nobody is asked for, in the order in which they were begun. */
  readonly open = new Set<Begun>()
  readonly channels = new Set<Channel>()
  wantedBytes = 0
  /** Bytes of whole pieces that are wanted. */
  doneBytes = 0
  /** Pieces that came whole since the start. */
  completed = 0
  /** Changes whenever there is something new to pick. */
  version = 0
  #wanted: Bitfield
  #seeds = 0

  constructor(facts: PieceFacts, random: Random) {
    this.facts = facts
    this.picker = new Picker(facts.pieceCount, random)
    this.needed = new Bitfield(facts.pieceCount)
    this.#wanted = new Bitfield(facts.pieceCount)
  }

  /** @returns what was begun and is not wanted any more */
  want(wanted: Bitfield): readonly Begun[] {
    this.#wanted = wanted.clone()
    this.wantedBytes = 0
    this.doneBytes = 0
    const dropped: Begun[] = []
    for (let piece = 0; piece < this.facts.pieceCount; piece++) {
      const isWanted = wanted.has(piece)
      const isHere = this.facts.has.has(piece)
      const bytes = isWanted ? this.facts.pieceBytes(piece) : 0
      this.wantedBytes += bytes
      if (isHere) this.doneBytes += bytes
      if (isWanted && !isHere) this.#need(piece)
      else if (this.needed.has(piece)) {
        const begun = this.begun.get(piece)
        if (begun !== undefined) dropped.push(begun)
        this.#needNot(piece)
      }
    }
    return dropped
  }

  begin(piece: number): Begun {
    this.#unpick(piece)
    const begun = new Begun(piece, this.facts.pieceBytes(piece), this.facts.blocksOf(piece))
    this.begun.set(piece, begun)
    this.open.add(begun)
    this.version++
    return begun
  }

  /** To be called after anything changed in it: it is picked from while it has blocks to ask for. */
  touch(begun: Begun): void {
    if (this.begun.get(begun.piece) !== begun) return
    if (begun.isUntouched && begun.requests.size === 0 && begun.owner === undefined) {
      this.begun.delete(begun.piece)
      this.open.delete(begun)
      this.#pickable(begun.piece)
    } else if (begun.wantedBlocks > 0) {
      if (!this.open.has(begun)) this.version++
      this.open.add(begun)
    } else this.open.delete(begun)
  }

  /** The piece is here. @returns whether it was needed */
  complete(piece: number): boolean {
    if (!this.needed.has(piece)) return false
    this.#needNot(piece)
    this.completed++
    if (this.#wanted.has(piece)) this.doneBytes += this.facts.pieceBytes(piece)
    return true
  }

  join(channel: Channel): void {
    this.channels.add(channel)
    if (channel.pieces === undefined && !channel.isOrigin) this.#seeds++
  }

  leave(channel: Channel): void {
    if (!this.channels.delete(channel)) return
    this.#uncount(channel)
  }

  setPieces(channel: Channel, pieces: Bitfield | 'all'): void {
    this.#uncount(channel)
    channel.needed = 0
    channel.fresh = 0
    channel.pieces = pieces === 'all' || pieces.isFull ? undefined : new Bitfield(this.facts.pieceCount)
    if (channel.pieces === undefined) this.#seeds++
    else if (pieces !== 'all') for (const piece of pieces.numbers()) this.addPiece(channel, piece)
    channel.dryAt = -1
  }

  addPiece(channel: Channel, piece: number): void {
    if (channel.pieces?.set(piece) !== true) return
    this.picker.count(piece, 1)
    if (this.needed.has(piece)) channel.needed++
    if (this.picker.has(piece)) channel.fresh++
    channel.dryAt = -1
  }

  /** Needed pieces that it has. */
  neededOf(channel: Channel): number {
    return channel.pieces === undefined ? this.needed.count : channel.needed
  }

  /** Needed pieces that it has and nobody has begun. */
  freshOf(channel: Channel): number {
    return channel.pieces === undefined ? this.picker.size : channel.fresh
  }

  /** Needed pieces that nobody has. */
  unavailable(): number {
    if (this.#seeds > 0 || [...this.channels].some(channel => channel.isOrigin)) return 0
    let count = 0
    for (const piece of this.needed.numbers()) if (this.picker.availabilityOf(piece) === 0) count++
    return count
  }

  #need(piece: number): void {
    if (!this.needed.set(piece)) return
    this.#each(piece, channel => channel.needed++)
    const stored = this.facts.blocksOf(piece)
    this.#pickable(piece)
    // What was begun before this process came goes first, as what this one began.
    if (stored !== undefined && !stored.isEmpty) this.begin(piece)
  }

  #needNot(piece: number): void {
    this.needed.clear(piece)
    this.#each(piece, channel => channel.needed--)
    this.#unpick(piece)
    const begun = this.begun.get(piece)
    this.begun.delete(piece)
    if (begun !== undefined) this.open.delete(begun)
  }

  #pickable(piece: number): void {
    if (this.picker.has(piece)) return
    this.picker.add(piece)
    this.version++
    this.#each(piece, channel => channel.fresh++)
  }

  #unpick(piece: number): void {
    if (!this.picker.has(piece)) return
    this.picker.remove(piece)
    this.#each(piece, channel => channel.fresh--)
  }

  #each(piece: number, action: (channel: Channel) => void): void {
    for (const channel of this.channels) if (channel.pieces?.has(piece) === true) action(channel)
  }

  #uncount(channel: Channel): void {
    if (channel.pieces === undefined) this.#seeds -= channel.isOrigin ? 0 : 1
    else for (const piece of channel.pieces.numbers()) this.picker.count(piece, -1)
  }
}
