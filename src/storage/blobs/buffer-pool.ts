/** Buffers that the thread has given back: who receives blocks into them costs neither new memory nor its clearing. */
import { BLOB_POOL_BYTES_MAX } from '../limits.ts'

export class BufferPool {
  readonly #free = new Map<number, ArrayBuffer[]>()
  #bytes = 0

  /** A view of exactly this length over a buffer of its own. Its bytes are anything. */
  take(length: number): Uint8Array<ArrayBuffer> {
    const found = this.#free.get(length)?.pop()
    if (found === undefined) return new Uint8Array(length)
    this.#bytes -= length
    return new Uint8Array(found)
  }

  give(buffer: ArrayBuffer): void {
    if (buffer.byteLength === 0) return
    if (this.#bytes + buffer.byteLength > BLOB_POOL_BYTES_MAX) {
      // Freed now: the collector sees only that the object is small, and would let many of them pile up.
      buffer.transfer(0)
      return
    }
    this.#bytes += buffer.byteLength
    const same = this.#free.get(buffer.byteLength)
    if (same === undefined) this.#free.set(buffer.byteLength, [buffer])
    else same.push(buffer)
  }
}
