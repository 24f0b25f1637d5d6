/**
 * Reads dag-cbor one item at a time, and only the one canonical encoding of each: shortest heads, definite lengths. What
 * is read this way needs no memory beyond what the reader makes of it, however the bytes lie.
 *
 *   head = major type (3 bits) | value (5 bits, or 1, 2, 4, 8 bytes that follow)
 *
 * Source: RFC 8949, section 3, and the DAG-CBOR specification.
 */

const MAJOR = { uint: 0, bytes: 2, text: 3, array: 4, map: 5 } as const

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Each method gives undefined where the next item is another one; nothing more can be read then. */
export class CborReader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.byteLength
  }

  /** A whole number from 0 to 2^53 - 1. */
  uint(): number | undefined {
    return this.#head(MAJOR.uint)
  }

  /** How many items the array has that begins here. */
  array(): number | undefined {
    return this.#head(MAJOR.array)
  }

  /** How many entries the map has that begins here. */
  map(): number | undefined {
    return this.#head(MAJOR.map)
  }

  /** A view of the bytes. */
  bytes(): Uint8Array | undefined {
    return this.#string(MAJOR.bytes)
  }

  text(): string | undefined {
    const bytes = this.#string(MAJOR.text)
    if (bytes === undefined) return undefined
    try {
      return utf8.decode(bytes)
    } catch {
      return undefined // Not UTF-8.
    }
  }

  #string(major: number): Uint8Array | undefined {
    const length = this.#head(major)
    if (length === undefined || length > this.#bytes.byteLength - this.#at) return undefined
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }

  #head(major: number): number | undefined {
    const first = this.#bytes[this.#at]
    if (first === undefined || first >> 5 !== major) return undefined
    const info = first & 31
    this.#at++
    if (info < 24) return info
    const size = 2 ** (info - 24)
    if (size > 8 || size > this.#bytes.byteLength - this.#at) return undefined
    const value = this.#value(size)
    this.#at += size
    const least = size === 1 ? 24 : 2 ** (4 * size)
    return value >= least && Number.isSafeInteger(value) ? value : undefined
  }

  #value(size: number): number {
    if (size === 1) return this.#view.getUint8(this.#at)
    if (size === 2) return this.#view.getUint16(this.#at)
    if (size === 4) return this.#view.getUint32(this.#at)
    return this.#view.getUint32(this.#at) * 2 ** 32 + this.#view.getUint32(this.#at + 4)
  }
}
