/**
 * The incoming side of one model: tells the state machine of a download what happens, and carries out what it orders. What
 * has come is written to the store, which verifies it; until it is there it counts against the memory of all transfers.
 */
import { type Bitfield, type Clock, type Logger, messageOf } from '#base'
import type { Budget } from './budget.ts'
import { GIVERS_REMEMBERED_MAX, HASH_REQUEST_MS_MAX } from './limits.ts'
import { bytesOfRun, runOf, type Source } from './source.ts'
import type { ChannelId, DownloadBlame, DownloadFacts, DownloadMachine, DownloadOrder } from './transfer/types.ts'
import type { BlockRun, PieceStore, WriteResult } from './types.ts'
import type { BlockSpan } from './wire/types.ts'

export type IntakeDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly store: PieceStore
  readonly machine: DownloadMachine
  readonly budget: Budget
  /** A piece is whole. */
  readonly onPiece: (piece: number) => void
  /** The disk takes no more, or fails. The machine rests until `resume`. */
  readonly onStuck: (why: { readonly kind: 'full' } | { readonly kind: 'failed'; readonly reason: string }) => void
  /** A peer that has left was found to have given what is not the model. */
  readonly onLateBlame: (peer: string, why: DownloadBlame) => void
  /** Something happened that orders may follow from. */
  readonly onEvent: () => void
}

/** Bytes of a piece, from an offset on. */
type ArrivedBlocks = { readonly piece: number; readonly offset: number; readonly bytes: Uint8Array<ArrayBuffer> }

/** A channel that was asked for something. */
type Asked = { readonly source: Source; readonly runs: Map<number, number> }

/** Hashes of a piece's blocks that were asked for. What comes of the piece before them waits, so that each block is checked alone. */
type LeavesAsked = {
  readonly source: Source
  readonly until: number
  readonly waiting: { readonly run: BlockRun; readonly bytes: Uint8Array<ArrayBuffer> }[]
}

/** Blocks of a piece of 1 MiB: a block has one number over the whole torrent. */
const BLOCKS_PER_PIECE = 64

export class Intake {
  readonly #deps: IntakeDeps
  readonly #channels = new Map<ChannelId, Asked>()
  readonly #leavesAsked = new Map<number, LeavesAsked>()
  readonly #writes = new Set<Promise<void>>()
  /** Bytes of blocks by who gave them. */
  readonly given = new Map<string, number>()
  #downloadedBytes = 0
  #isStuck = false

  constructor(deps: IntakeDeps) {
    this.#deps = deps
  }

  get downloadedBytes(): number {
    return this.#downloadedBytes
  }

  get isStuck(): boolean {
    return this.#isStuck
  }

  join(source: Source): void {
    this.#channels.set(source.channel, { source, runs: new Map() })
    this.#deps.machine.joined(source.channel, source.facts, this.#now())
    this.#deps.onEvent()
  }

  leave(source: Source): void {
    const asked = this.#channels.get(source.channel)
    if (asked === undefined) return
    this.#channels.delete(source.channel)
    for (const bytes of asked.runs.values()) this.#deps.budget.incoming -= bytes
    for (const [piece, leaves] of this.#leavesAsked) if (leaves.source === source) this.#writeWaiting(piece)
    this.#deps.machine.left(source.channel, this.#now())
    this.#deps.onEvent()
  }

  hasPieces(source: Source, pieces: Bitfield | 'all'): void {
    this.#deps.machine.hasPieces(source.channel, pieces)
    this.#deps.onEvent()
  }

  hasPiece(source: Source, piece: number): void {
    this.#deps.machine.hasPiece(source.channel, piece)
    this.#deps.onEvent()
  }

  choked(source: Source, isChoked: boolean): void {
    this.#deps.machine.choked(source.channel, isChoked, this.#now())
    this.#deps.onEvent()
  }

  rejected(source: Source, { piece, offset, length }: BlockSpan): void {
    const run = runOf(piece, offset, length)
    if (run === undefined) return
    this.#answered(source.channel, run)
    this.#deps.machine.rejected(source.channel, run, this.#now())
    this.#deps.onEvent()
  }

  leavesRejected(source: Source, piece: number): void {
    this.#deps.machine.leavesRejected(source.channel, piece, this.#now())
    if (this.#leavesAsked.get(piece)?.source === source) this.#writeWaiting(piece)
    this.#deps.onEvent()
  }

  /** Goes on without answers that are late. */
  round(): void {
    const now = this.#now()
    for (const [piece, { source, until }] of this.#leavesAsked) if (until <= now) this.leavesRejected(source, piece)
  }

  /** Hashes of a piece's blocks have come. */
  leaves(source: Source, piece: number, leaves: Uint8Array): void {
    const { machine, store } = this.#deps
    if (store.putLeaves(piece, leaves)) {
      machine.leavesKnown(piece, this.#now())
      this.#writeWaiting(piece)
    } else machine.blame(source.channel, { why: 'bad-data', isBan: true })
    this.#deps.onEvent()
  }

  /** Blocks that the store had held are lost. */
  heldLost(piece: number, blocks: readonly number[], why: 'bad' | 'failed'): void {
    if (why === 'bad') this.#deps.log.warn('blocks came that are not the model', { piece, blocks: blocks.length })
    this.#deps.machine.heldLost(piece, blocks, { isBad: why === 'bad' })
    this.#deps.onEvent()
  }

  /** Bytes of a piece have come. They belong to this from now on. */
  arrived(source: Source, { piece, offset, bytes }: ArrivedBlocks): void {
    const { budget, machine } = this.#deps
    const run = runOf(piece, offset, bytes.byteLength)
    if (run === undefined) return
    source.receivedBytes += bytes.byteLength
    this.#downloadedBytes += bytes.byteLength
    this.#count(source.facts.party, bytes.byteLength)
    this.#answered(source.channel, run)
    if (machine.arrived(source.channel, run, this.#now())) {
      budget.incoming += bytes.byteLength
      const asked = this.#leavesAsked.get(piece)
      if (asked?.source === source) asked.waiting.push({ run, bytes })
      else this.#startWrite(source.channel, run, bytes)
    }
    this.#deps.onEvent()
  }

  want(pieces: Bitfield): void {
    this.#deps.machine.want(pieces)
    this.#deps.onEvent()
  }

  /** There may be room again. */
  resume(): void {
    if (!this.#isStuck) return
    this.#isStuck = false
    this.#deps.machine.resume(this.#now())
    this.#deps.onEvent()
  }

  facts(): DownloadFacts {
    return this.#deps.machine.facts(this.#now())
  }

  /** Carries out what is to be done now. */
  run(): void {
    const { budget, machine } = this.#deps
    machine.allow(budget.askable)
    for (const order of machine.orders(this.#now())) this.#carryOut(order)
  }

  /** Nothing is asked for any more; but what was found of those who gave something is still told. */
  judge(): void {
    for (const order of this.#deps.machine.orders(this.#now())) if (order.kind === 'close') this.#close(order)
  }

  /** Resolves when nothing is being written. */
  async settled(): Promise<void> {
    while (this.#writes.size > 0) await Promise.all(this.#writes)
  }

  #carryOut(order: DownloadOrder): void {
    if (order.kind === 'forget') {
      this.#forget(order.piece)
      return
    }
    if (order.kind === 'close') {
      this.#close(order)
      return
    }
    const asked = this.#channels.get(order.channel)
    if (asked === undefined) return
    const { source } = asked
    if (order.kind === 'request') this.#request(asked, order.run)
    else if (order.kind === 'cancel') {
      this.#answered(order.channel, order.run)
      source.cancel(order.run, this.#bytesOf(order.run))
    } else if (order.kind === 'leaves') {
      const until = this.#now() + HASH_REQUEST_MS_MAX
      this.#writeWaiting(order.piece)
      this.#leavesAsked.set(order.piece, { source, until, waiting: [] })
      source.askLeaves(order.piece)
    } else source.setInterested(order.isInterested)
  }

  #close({ channel, peer, why, isBan }: Extract<DownloadOrder, { kind: 'close' }>): void {
    const asked = this.#channels.get(channel)
    if (asked !== undefined) asked.source.end(why, isBan)
    else if (isBan && peer !== undefined) this.#deps.onLateBlame(peer, why)
  }

  #request({ source, runs }: Asked, run: BlockRun): void {
    const { budget } = this.#deps
    const bytes = this.#bytesOf(run)
    runs.set(keyOf(run), bytes)
    budget.incoming += bytes
    budget.down.charge(bytes)
    source.request(run, bytes)
  }

  #answered(channel: ChannelId, run: BlockRun): void {
    const runs = this.#channels.get(channel)?.runs
    const bytes = runs?.get(keyOf(run))
    if (runs === undefined || bytes === undefined) return
    runs.delete(keyOf(run))
    this.#deps.budget.incoming -= bytes
  }

  #writeWaiting(piece: number): void {
    const asked = this.#leavesAsked.get(piece)
    this.#leavesAsked.delete(piece)
    for (const { run, bytes } of asked?.waiting ?? []) this.#startWrite(asked?.source.channel ?? 0, run, bytes)
  }

  /** What one gave of a piece is not mixed with what the next gives. */
  #forget(piece: number): void {
    const asked = this.#leavesAsked.get(piece)
    this.#leavesAsked.delete(piece)
    for (const { run, bytes } of asked?.waiting ?? []) {
      this.#deps.budget.incoming -= bytes.byteLength
      this.#deps.machine.stored(asked?.source.channel ?? 0, run, { isDropped: true }, this.#now())
    }
    this.#deps.store.forgetHeld(piece)
  }

  #startWrite(channel: ChannelId, run: BlockRun, bytes: Uint8Array<ArrayBuffer>): void {
    const write = this.#write(channel, run, bytes).finally(() => this.#writes.delete(write))
    this.#writes.add(write)
  }

  async #write(channel: ChannelId, run: BlockRun, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const { budget, store } = this.#deps
    // The store has the bytes from here on; a view may be detached when it is done with them.
    const { byteLength } = bytes
    let result: WriteResult
    try {
      result = await store.write(run, bytes)
    } catch (error) {
      result = { kind: 'failed', reason: messageOf(error) }
    }
    budget.incoming -= byteLength
    this.#stored(channel, run, result)
    this.#deps.onEvent()
  }

  #stored(channel: ChannelId, run: BlockRun, result: WriteResult): void {
    const { machine, onPiece, onStuck, log } = this.#deps
    const now = this.#now()
    if (result.kind === 'kept') {
      machine.stored(channel, run, { isPieceDone: result.isPieceDone }, now)
      if (result.isPieceDone) onPiece(run.piece)
    } else if (result.kind === 'bad') {
      log.warn('blocks came that are not the model', { piece: run.piece, blocks: result.blocks.length })
      machine.stored(channel, run, { bad: result.blocks }, now)
    } else {
      machine.suspend()
      this.#isStuck = true
      onStuck(result)
    }
  }

  #count(party: string, bytes: number): void {
    const given = this.given.get(party)
    if (given !== undefined || this.given.size < GIVERS_REMEMBERED_MAX) this.given.set(party, (given ?? 0) + bytes)
  }

  #bytesOf(run: BlockRun): number {
    return bytesOfRun(run, this.#deps.store.pieceBytes(run.piece))
  }

  #now(): number {
    return this.#deps.clock.monotonic()
  }
}

function keyOf(run: BlockRun): number {
  return run.piece * BLOCKS_PER_PIECE + run.firstBlock
}
