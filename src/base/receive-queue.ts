/**
 * What a stream has received and nobody has read yet: bounded, with one reader. Whoever fills it stops where it is full,
 * and is told when there is room again.
 */
import type { StreamError } from './stream.ts'

type Waiter = {
  readonly resolve: (result: IteratorResult<Uint8Array, undefined>) => void
  readonly reject: (error: Error) => void
}

export type ReceiveQueueLimits = {
  readonly bytesMax: number
  /** However small they are. */
  readonly piecesMax: number
}

export class ReceiveQueue {
  readonly received: AsyncIterable<Uint8Array>
  readonly #limits: ReceiveQueueLimits
  readonly #onRoom: () => void
  readonly #pieces: Uint8Array[] = []
  #bytes = 0
  #waiter: Waiter | undefined
  #end: { readonly error?: StreamError } | undefined

  /** @param onRoom called after each piece that was taken while the queue is nearly empty */
  constructor(limits: ReceiveQueueLimits, onRoom: () => void) {
    this.#limits = limits
    this.#onRoom = onRoom
    this.received = { [Symbol.asyncIterator]: () => ({ next: () => this.#next() }) }
  }

  /** Set once nothing more will be queued. */
  get end(): { readonly error?: StreamError } | undefined {
    return this.#end
  }

  get isFull(): boolean {
    return this.#bytes >= this.#limits.bytesMax || this.#pieces.length >= this.#limits.piecesMax
  }

  /** Takes a piece as it is, full or not: what had arrived cannot be sent back. Bytes after the end are dropped. */
  push(received: Uint8Array): void {
    if (received.byteLength === 0 || this.#end !== undefined) return
    // Sockets give Buffers, whose slice() does not copy; who reads may rely on a Uint8Array's, which does.
    const piece = new Uint8Array(received.buffer, received.byteOffset, received.byteLength)
    const waiter = this.#waiter
    if (waiter !== undefined) {
      this.#waiter = undefined
      waiter.resolve({ done: false, value: piece })
      return
    }
    this.#pieces.push(piece)
    this.#bytes += piece.byteLength
  }

  /** Nothing more comes. What is queued is still read. Idempotent: the first end counts. */
  finish(error?: StreamError): void {
    if (this.#end !== undefined) return
    this.#end = error === undefined ? {} : { error }
    const waiter = this.#waiter
    this.#waiter = undefined
    if (waiter === undefined) return
    if (error === undefined) waiter.resolve({ done: true, value: undefined })
    else waiter.reject(error)
  }

  /** Forgets what is queued. */
  clear(): void {
    this.#pieces.length = 0
    this.#bytes = 0
  }

  #next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const piece = this.#pieces.shift()
    if (piece !== undefined) {
      this.#bytes -= piece.byteLength
      const { bytesMax, piecesMax } = this.#limits
      if (this.#bytes <= bytesMax / 4 && this.#pieces.length <= piecesMax / 4) this.#onRoom()
      return Promise.resolve({ done: false, value: piece })
    }
    if (this.#end?.error !== undefined) return Promise.reject(this.#end.error)
    if (this.#end !== undefined) return Promise.resolve({ done: true, value: undefined })
    if (this.#waiter !== undefined) return Promise.reject(new TypeError('a stream has one reader'))
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject }
    })
  }
}
