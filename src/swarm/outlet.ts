/** The outgoing side of one model: tells the state machine of uploads what peers ask for, and reads and sends what it orders. */
import { type Clock, type Logger, messageOf } from '#base'
import type { Budget } from './budget.ts'
import { BLOCK_BYTES, type PieceStore } from './types.ts'
import type { ChannelId, UploadMachine, UploadOrder } from './transfer/types.ts'
import type { BlockSpan, PeerMessage } from './wire/types.ts'

/** A peer that is served. */
export interface Served {
  readonly channel: ChannelId
  readonly party: string
  readonly requestBytesMax: number
  /** Bytes of blocks that it was sent. */
  sentBytes: number
  isChoked: boolean
  /** False: it takes no more before it says so. */
  send(message: PeerMessage): boolean
  flooded(isBan: boolean): void
}

export type OutletDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly store: PieceStore
  readonly machine: UploadMachine
  readonly budget: Budget
  readonly onEvent: () => void
}

/** How fast the measure of the rate forgets. */
const RATE_WINDOW_MS = 2_000

export class Outlet {
  readonly #deps: OutletDeps
  readonly #channels = new Map<ChannelId, Served>()
  readonly #reads = new Set<Promise<void>>()
  #uploadedBytes = 0
  #rate = 0
  #ratedAt = 0
  #ratedBytes = 0

  constructor(deps: OutletDeps) {
    this.#deps = deps
    this.#ratedAt = deps.clock.monotonic()
  }

  get uploadedBytes(): number {
    return this.#uploadedBytes
  }

  /** Bytes a second, smoothed. */
  get rate(): number {
    return this.#rate
  }

  join(served: Served): void {
    this.#channels.set(served.channel, served)
    const { party, requestBytesMax } = served
    this.#deps.machine.joined(served.channel, { party, requestBytesMax }, this.#now())
    this.#deps.onEvent()
  }

  leave(served: Served): void {
    if (!this.#channels.delete(served.channel)) return
    this.#deps.machine.left(served.channel, this.#now())
    this.#deps.onEvent()
  }

  interested(served: Served, isInterested: boolean): void {
    this.#deps.machine.interested(served.channel, isInterested, this.#now())
    this.#deps.onEvent()
  }

  /** Something of a piece is wanted: what is not here, or lies beyond it, is refused. */
  requested(served: Served, span: BlockSpan): void {
    const { store, machine } = this.#deps
    if (this.#isHere(span, store)) machine.requested(served.channel, spanOf(span), this.#now())
    else served.send({ kind: 'reject', ...spanOf(span) })
    this.#deps.onEvent()
  }

  cancelled(served: Served, span: BlockSpan): void {
    this.#deps.machine.cancelled(served.channel, spanOf(span))
    this.#deps.onEvent()
  }

  writable(served: Served, isWritable: boolean): void {
    this.#deps.machine.writable(served.channel, isWritable)
    this.#deps.onEvent()
  }

  /** What came from the peer, for tit for tat. */
  received(served: Served, bytes: number): void {
    this.#deps.machine.received(served.channel, bytes, this.#now())
  }

  setSeeding(isSeeding: boolean): void {
    this.#deps.machine.setSeeding(isSeeding)
  }

  run(): void {
    const { budget, machine } = this.#deps
    machine.allow(budget.sendable)
    for (const order of machine.orders(this.#now())) this.#carryOut(order)
    this.#measure()
  }

  async settled(): Promise<void> {
    while (this.#reads.size > 0) await Promise.all(this.#reads)
  }

  #carryOut(order: UploadOrder): void {
    const served = this.#channels.get(order.channel)
    if (served === undefined) return
    if (order.kind === 'choke') {
      served.isChoked = order.isChoked
      served.send({ kind: order.isChoked ? 'choke' : 'unchoke' })
    } else if (order.kind === 'reject') served.send({ kind: 'reject', ...spanOf(order) })
    else if (order.kind === 'close') served.flooded(order.isBan)
    else {
      this.#deps.budget.up.charge(order.length)
      this.#deps.budget.outgoing += order.length
      const read = this.#send(served, spanOf(order)).finally(() => this.#reads.delete(read))
      this.#reads.add(read)
    }
  }

  async #send(served: Served, span: BlockSpan): Promise<void> {
    const { store, machine, log, budget } = this.#deps
    let sent = 0
    try {
      const bytes = await store.read(span.piece, span.offset, span.length)
      if (this.#channels.has(served.channel)) {
        const onTaken = (): void => free(bytes)
        const hasRoom = served.send({ kind: 'piece', piece: span.piece, offset: span.offset, bytes, onTaken })
        sent = bytes.byteLength
        if (!hasRoom) machine.writable(served.channel, false)
      }
    } catch (error) {
      log.warn('a piece could not be read for a peer', { piece: span.piece, error: messageOf(error) })
      served.send({ kind: 'reject', ...span })
    }
    budget.outgoing -= span.length
    served.sentBytes += sent
    this.#uploadedBytes += sent
    this.#ratedBytes += sent
    if (this.#channels.has(served.channel)) machine.sent(served.channel, sent, this.#now())
    this.#deps.onEvent()
  }

  #isHere({ piece, offset, length }: BlockSpan, store: PieceStore): boolean {
    if (piece >= store.pieceCount || length < 1 || offset + length > store.pieceBytes(piece)) return false
    if (store.has.has(piece)) return true
    const blocks = store.blocksOf(piece)
    if (blocks === undefined) return false
    const last = Math.floor((offset + length - 1) / BLOCK_BYTES)
    for (let block = Math.floor(offset / BLOCK_BYTES); block <= last; block++) if (!blocks.has(block)) return false
    return true
  }

  #measure(): void {
    const now = this.#now()
    const elapsedMs = now - this.#ratedAt
    if (elapsedMs < RATE_WINDOW_MS / 10) return
    const keep = Math.exp(-elapsedMs / RATE_WINDOW_MS)
    this.#rate = this.#rate * keep + ((this.#ratedBytes * 1000) / elapsedMs) * (1 - keep)
    this.#ratedAt = now
    this.#ratedBytes = 0
  }

  #now(): number {
    return this.#deps.clock.monotonic()
  }
}

/**
 * Gives memory back now. The collector sees only the small object that holds it, lets many of them pile up, and marks the whole
 * heap for their sake.
 */
function free(bytes: Uint8Array<ArrayBuffer>): void {
  bytes.buffer.transfer(0)
}

/** The span alone, of an order or a message. */
function spanOf({ piece, offset, length }: BlockSpan): BlockSpan {
  return { piece, offset, length }
}
