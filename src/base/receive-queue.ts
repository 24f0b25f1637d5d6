/**
 * What a stream has received and nobody has read yet: bounded, with one reader. Whoever fills it stops where it is full,
 * and is told when there is room again.
 */
import { OneReader } from './one-reader.ts'
import type { StreamError } from './stream.ts'

export type ReceiveQueueLimits = {
  readonly bytesMax: number
  /** However small they are. */
  readonly piecesMax: number
}

export class ReceiveQueue {
  readonly #reader = new OneReader(() => this.#take())
  readonly received = this.#reader.received
  readonly #limits: ReceiveQueueLimits
  readonly #onRoom: () => void
  readonly #pieces: Uint8Array[] = []
  #bytes = 0

  /** @param onRoom called after each piece that was taken while the queue is nearly empty */
  constructor(limits: ReceiveQueueLimits, onRoom: () => void) {
    this.#limits = limits
    this.#onRoom = onRoom
  }

  /** Set once nothing more will be queued. */
  get end(): { readonly error?: StreamError } | undefined {
    return this.#reader.end
  }

  get isFull(): boolean {
    return this.#bytes >= this.#limits.bytesMax || this.#pieces.length >= this.#limits.piecesMax
  }

  /** Takes a piece as it is, full or not: what had arrived cannot be sent back. Bytes after the end are dropped. */
  push(received: Uint8Array): void {
    if (received.byteLength === 0 || this.end !== undefined) return
    // Sockets give Buffers, whose slice() does not copy; who reads may rely on a Uint8Array's, which does.
    const piece = new Uint8Array(received.buffer, received.byteOffset, received.byteLength)
    if (this.#reader.give(piece)) return
    this.#pieces.push(piece)
    this.#bytes += piece.byteLength
  }

  /** Nothing more comes. What is queued is still read. Idempotent: the first end counts. */
  finish(error?: StreamError): void {
    this.#reader.finish(error)
  }

  /** Forgets what is queued. */
  clear(): void {
    this.#pieces.length = 0
    this.#bytes = 0
  }

  #take(): Uint8Array | undefined {
    const piece = this.#pieces.shift()
    if (piece === undefined) return undefined
    this.#bytes -= piece.byteLength
    const { bytesMax, piecesMax } = this.#limits
    if (this.#bytes <= bytesMax / 4 && this.#pieces.length <= piecesMax / 4) this.#onRoom()
    return piece
  }
}
