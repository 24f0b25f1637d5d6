/** A Bloom filter whose places come from a keyed hash, so that nobody can look for bytes that collide. */
import { hmacSha256 } from '#crypto'

/** Each has a part of the filter of its own. */
const HASHES = 12
/** 20 bits of the hash choose a bit of 2^20: 240 of the 256 bits that HMAC-SHA-256 gives. */
const PLACE_BITS = 20
const WORDS = (HASHES * 2 ** PLACE_BITS) / 32

/** The bits that stand for one key, as numbers of bits in the filter. */
export function placesOf(secret: Uint8Array, key: Uint8Array): Uint32Array {
  const hash = hmacSha256(secret, key)
  const places = new Uint32Array(HASHES)
  for (let i = 0; i < HASHES; i++) {
    const bit = i * PLACE_BITS
    const byte = bit >>> 3
    const [a = 0, b = 0, c = 0] = hash.subarray(byte, byte + 3)
    const bits = (a << 16) | (b << 8) | c
    // Two numbers of 20 bits lie in 5 bytes: the first begins on a byte, the second in the middle of one.
    const place = (bit & 7) === 0 ? bits >>> 4 : bits & 0xf_ffff
    places[i] = i * 2 ** PLACE_BITS + place
  }
  return places
}

export type BloomWords = { readonly indexes: Uint32Array; readonly values: Uint32Array }

/**
 * 1.5 MiB. With n keys it takes a new one for known with the probability (1 - e^(-n / 2^20))^12: 7 in 10^12 for 2^17,
 * less than 10^-30 for 1000.
 */
export class Bloom {
  readonly #words = new Uint32Array(WORDS)

  has(places: Uint32Array): boolean {
    for (const place of places) {
      if (((this.#words[place >>> 5] ?? 0) & (1 << (place & 31))) === 0) return false
    }
    return true
  }

  add(places: Uint32Array): void {
    for (const place of places) this.#words[place >>> 5] = (this.#words[place >>> 5] ?? 0) | (1 << (place & 31))
  }

  /** The words that are not zero: few, after a usual minute. */
  export(): BloomWords {
    let used = 0
    for (const word of this.#words) if (word !== 0) used++
    const indexes = new Uint32Array(used)
    const values = new Uint32Array(used)
    let next = 0
    for (let index = 0; index < WORDS; index++) {
      const value = this.#words[index] ?? 0
      if (value === 0) continue
      indexes[next] = index
      values[next++] = value
    }
    return { indexes, values }
  }

  /** Undefined where these words were never exported: an index that is not there. */
  static import({ indexes, values }: BloomWords): Bloom | undefined {
    const bloom = new Bloom()
    for (const [i, index] of indexes.entries()) {
      if (index >= WORDS) return undefined
      bloom.#words[index] = values[i] ?? 0
    }
    return bloom
  }
}
