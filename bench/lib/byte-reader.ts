import { concatBytes } from '#base'
import type { Way } from './raw-stream.ts'

/** Bytes of a stream by number, however they are cut. */
export class ByteReader {
  readonly #pieces: AsyncIterator<Uint8Array>
  #rest = new Uint8Array(0) as Uint8Array

  constructor(stream: Way) {
    this.#pieces = stream.received[Symbol.asyncIterator]()
  }

  async take(count: number): Promise<Uint8Array> {
    while (this.#rest.byteLength < count) {
      const next = await this.#next()
      this.#rest = this.#rest.byteLength === 0 ? next : concatBytes([this.#rest, next])
    }
    const taken = this.#rest.subarray(0, count)
    this.#rest = this.#rest.subarray(count)
    return taken
  }

  async skip(count: number): Promise<void> {
    let left = count - this.#rest.byteLength
    this.#rest = left < 0 ? this.#rest.subarray(count) : new Uint8Array(0)
    while (left > 0) {
      const next = await this.#next()
      if (next.byteLength > left) this.#rest = next.subarray(left)
      left -= next.byteLength
    }
  }

  async #next(): Promise<Uint8Array> {
    const next = await this.#pieces.next()
    if (next.done === true) throw new Error('the stream has ended')
    return next.value
  }
}
