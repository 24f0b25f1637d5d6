/**
 * How a stream lies in a connection of the data plane: segments, each a length (u32, big-endian) and as many bytes; a
 * length of 0 ends the direction. A connection that ends without it was cut, and TLS alone does not say so: Node takes a
 * FIN of anybody for the end.
 */
const LENGTH_BYTES = 4

/** The end of a direction. */
export const END_SEGMENT: Uint8Array = new Uint8Array(LENGTH_BYTES)

/** What stands before so many bytes. */
export function segmentHeader(byteLength: number): Uint8Array {
  const header = new Uint8Array(LENGTH_BYTES)
  new DataView(header.buffer).setUint32(0, byteLength)
  return header
}

/** Finds the bytes of a stream in what a connection brings, without copying any. Lengths cost no memory. */
export class SegmentReader {
  readonly #length = new Uint8Array(LENGTH_BYTES)
  #lengthFilled = 0
  /** Bytes of the segment that are still to come. */
  #left = 0
  #hasEnded = false

  /** Whether the end was said. */
  get hasEnded(): boolean {
    return this.#hasEnded
  }

  /** Calls `onBytes` with views of `received`. @returns whether that can be: false where bytes follow the end */
  push(received: Uint8Array, onBytes: (bytes: Uint8Array) => void): boolean {
    let at = 0
    while (at < received.byteLength) {
      if (this.#hasEnded) return false
      if (this.#left > 0) {
        const bytes = received.subarray(at, at + this.#left)
        this.#left -= bytes.byteLength
        at += bytes.byteLength
        onBytes(bytes)
        continue
      }
      this.#length[this.#lengthFilled++] = received[at++] ?? 0
      if (this.#lengthFilled < LENGTH_BYTES) continue
      this.#lengthFilled = 0
      this.#left = new DataView(this.#length.buffer).getUint32(0)
      this.#hasEnded = this.#left === 0
    }
    return true
  }
}
