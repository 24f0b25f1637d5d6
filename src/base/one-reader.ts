/** The reading side of a queue of bytes: one reader, who waits where nothing is there, and an end. */
import type { StreamError } from './stream.ts'

type Waiter = {
  readonly resolve: (result: IteratorResult<Uint8Array, undefined>) => void
  readonly reject: (error: Error) => void
}

export class OneReader {
  readonly received: AsyncIterable<Uint8Array>
  readonly #take: () => Uint8Array | undefined
  #waiter: Waiter | undefined
  #end: { readonly error?: StreamError } | undefined

  /** @param take takes the next piece out of the queue; undefined: it is empty */
  constructor(take: () => Uint8Array | undefined) {
    this.#take = take
    this.received = { [Symbol.asyncIterator]: () => ({ next: () => this.#next() }) }
  }

  /** Set once nothing more will come. */
  get end(): { readonly error?: StreamError } | undefined {
    return this.#end
  }

  /** @returns whether the reader was waiting, and has the piece now: it is not to be queued */
  give(piece: Uint8Array): boolean {
    const waiter = this.#waiter
    this.#waiter = undefined
    waiter?.resolve({ done: false, value: piece })
    return waiter !== undefined
  }

  /** Nothing more comes. What is queued is still read. Idempotent: the first end counts. */
  finish(error?: StreamError): void {
    if (this.#end !== undefined) return
    this.#end = error === undefined ? {} : { error }
    const waiter = this.#waiter
    this.#waiter = undefined
    if (error === undefined) waiter?.resolve({ done: true, value: undefined })
    else waiter?.reject(error)
  }

  #next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const piece = this.#take()
    if (piece !== undefined) return Promise.resolve({ done: false, value: piece })
    if (this.#end?.error !== undefined) return Promise.reject(this.#end.error)
    if (this.#end !== undefined) return Promise.resolve({ done: true, value: undefined })
    if (this.#waiter !== undefined) return Promise.reject(new TypeError('a stream has one reader'))
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject }
    })
  }
}
