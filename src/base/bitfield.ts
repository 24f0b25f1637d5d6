/** A set of small integers, one bit each: which pieces there are. Its bytes are BitTorrent's (BEP 3): the high bit first. */
import { assert } from './errors.ts'

export class Bitfield {
  /** Numbers 0 to `size` - 1 can be in it. */
  readonly size: number
  readonly #bytes: Uint8Array
  #count = 0

  constructor(size: number) {
    this.size = size
    this.#bytes = new Uint8Array(Math.ceil(size / 8))
  }

  /** All numbers. */
  static full(size: number): Bitfield {
    const made = new Bitfield(size)
    made.#bytes.fill(0xff)
    const spareBits = made.#bytes.byteLength * 8 - size
    if (spareBits > 0) made.#bytes[made.#bytes.byteLength - 1] = (0xff << spareBits) & 0xff
    made.#count = size
    return made
  }

  static of(size: number, numbers: Iterable<number>): Bitfield {
    const made = new Bitfield(size)
    for (const number of numbers) made.set(number)
    return made
  }

  /** @returns undefined for bytes of another length, or with spare bits that are not zero */
  static decode(bytes: Uint8Array, size: number): Bitfield | undefined {
    const made = new Bitfield(size)
    if (bytes.byteLength !== made.#bytes.byteLength) return undefined
    const spareBits = bytes.byteLength * 8 - size
    if (spareBits > 0 && ((bytes.at(-1) ?? 0) & (2 ** spareBits - 1)) !== 0) return undefined
    made.#bytes.set(bytes)
    for (const byte of bytes) made.#count += onesIn(byte)
    return made
  }

  /** How many are in it. */
  get count(): number {
    return this.#count
  }

  get isFull(): boolean {
    return this.#count === this.size
  }

  get isEmpty(): boolean {
    return this.#count === 0
  }

  has(number: number): boolean {
    return ((this.#bytes[number >> 3] ?? 0) & (0x80 >> (number & 7))) !== 0
  }

  /** @returns whether it was not there before */
  set(number: number): boolean {
    assert(number >= 0 && number < this.size, 'a number that a bitfield has no room for')
    if (this.has(number)) return false
    this.#bytes[number >> 3] = (this.#bytes[number >> 3] ?? 0) | (0x80 >> (number & 7))
    this.#count++
    return true
  }

  /** @returns whether it was there before */
  clear(number: number): boolean {
    if (!this.has(number)) return false
    this.#bytes[number >> 3] = (this.#bytes[number >> 3] ?? 0) & ~(0x80 >> (number & 7))
    this.#count--
    return true
  }

  /** In order. */
  *numbers(): Generator<number, void> {
    for (const [at, byte] of this.#bytes.entries()) {
      if (byte === 0) continue
      for (let bit = 0; bit < 8; bit++) if ((byte & (0x80 >> bit)) !== 0) yield at * 8 + bit
    }
  }

  /** Whether everything in the other is in this one. */
  contains(other: Bitfield): boolean {
    return other.#bytes.every((byte, at) => (byte & ~(this.#bytes[at] ?? 0)) === 0)
  }

  clone(): Bitfield {
    const made = new Bitfield(this.size)
    made.#bytes.set(this.#bytes)
    made.#count = this.#count
    return made
  }

  /** A copy, as BEP 3 sends it. */
  encode(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice()
  }
}

function onesIn(byte: number): number {
  let count = 0
  for (let rest = byte; rest !== 0; rest &= rest - 1) count++
  return count
}
