/**
 * A Bloom filter of the peers that a node knows, so that nobody sends them to it again. As small as they are few; salted
 * anew for every exchange, so that who is taken for known by mistake is not the next time.
 */
import { concatBytes } from '#base'
import { sha256 } from '#crypto'
import { FILTER_BITS_PER_PEER, FILTER_BYTES_MAX } from './limits.ts'

/** Bytes of the salt. */
export const FILTER_SALT_BYTES = 8

/** Places of one key: seven are best for ten bits a key. The hash gives eight numbers of 32 bits. */
const HASHES = 7

const FILTER_BYTES_MIN = 8

export type KnownFilter = { readonly salt: Uint8Array; readonly bits: Uint8Array }

/** @param salt 8 random bytes */
export function createKnownFilter(publicKeys: readonly Uint8Array[], salt: Uint8Array): KnownFilter {
  const wanted = Math.ceil((publicKeys.length * FILTER_BITS_PER_PEER) / 8)
  const bits = new Uint8Array(Math.min(Math.max(wanted, FILTER_BYTES_MIN), FILTER_BYTES_MAX))
  for (const key of publicKeys) {
    for (const place of placesOf({ salt, bits }, key)) bits[place >>> 3] = (bits[place >>> 3] ?? 0) | (1 << (place & 7))
  }
  return { salt, bits }
}

/** Whether the one who made the filter knows the key: seldom true of a key that it does not know. */
export function isKnownTo(filter: KnownFilter, publicKey: Uint8Array): boolean {
  return placesOf(filter, publicKey).every(place => ((filter.bits[place >>> 3] ?? 0) & (1 << (place & 7))) !== 0)
}

function placesOf({ salt, bits }: KnownFilter, publicKey: Uint8Array): number[] {
  const hash = sha256(concatBytes([salt, publicKey]))
  const view = new DataView(hash.buffer)
  return Array.from({ length: HASHES }, (_, i) => view.getUint32(4 * i) % (8 * bits.byteLength))
}
