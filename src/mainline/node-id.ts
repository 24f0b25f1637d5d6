/** Node ids: their distance (Kademlia's XOR, BEP 5), and how they follow from an address (BEP 42). */
import type { Random } from '#base'
import { ID_BYTES, ipBytes, scopeOf } from './address.ts'
import { crc32c } from './crc32c.ts'

/** Bits of an id. */
export const ID_BITS = 8 * ID_BYTES

/** What BEP 42 keeps of an address: more and more bits to the right, which the holder of a block can choose. */
const IPV4_MASK = Uint8Array.of(0x03, 0x0f, 0x3f, 0xff)
const IPV6_MASK = Uint8Array.of(0x01, 0x03, 0x07, 0x0f, 0x1f, 0x3f, 0x7f, 0xff)

/** Negative where `a` is nearer to `target` than `b` is. */
export function compareDistance(target: Uint8Array, a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < ID_BYTES; i++) {
    const difference = ((a[i] ?? 0) ^ (target[i] ?? 0)) - ((b[i] ?? 0) ^ (target[i] ?? 0))
    if (difference !== 0) return difference
  }
  return 0
}

/** Leading bits that two ids share: 160 where they are equal. */
export function sharedBits(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < ID_BYTES; i++) {
    const difference = (a[i] ?? 0) ^ (b[i] ?? 0)
    if (difference !== 0) return 8 * i + Math.clz32(difference) - 24
  }
  return ID_BITS
}

export function equalIds(a: Uint8Array, b: Uint8Array): boolean {
  return sharedBits(a, b) === ID_BITS
}

/** A random id that shares exactly `bits` leading bits with `id`: what a bucket is refreshed with. */
export function idSharing(id: Uint8Array, bits: number, random: Random): Uint8Array {
  const made = random.bytes(ID_BYTES)
  for (let bit = 0; bit <= bits && bit < ID_BITS; bit++) {
    const mask = 0x80 >> (bit & 7)
    const wanted = bit === bits ? ~(id[bit >> 3] ?? 0) : (id[bit >> 3] ?? 0)
    made[bit >> 3] = ((made[bit >> 3] ?? 0) & ~mask) | (wanted & mask)
  }
  return made
}

/**
 * An id that fits the address (BEP 42): 21 bits of a CRC-32C, the rest random, the last byte says which of eight.
 * @param last the last byte of the id
 */
export function idOfAddress(host: string, last: number, random: Random): Uint8Array {
  const id = random.bytes(ID_BYTES)
  const crc = addressCrc(host, last)
  id[0] = crc >>> 24
  id[1] = crc >>> 16
  id[2] = ((crc >>> 8) & 0xf8) | ((id[2] ?? 0) & 0x07)
  id[ID_BYTES - 1] = last
  return id
}

/** Whether the id fits the address. Addresses that are not public always fit (BEP 42). */
export function fitsAddress(id: Uint8Array, host: string): boolean {
  if (scopeOf(host) !== 'public') return true
  const crc = addressCrc(host, id[ID_BYTES - 1] ?? 0)
  return id[0] === crc >>> 24 && id[1] === ((crc >>> 16) & 0xff) && ((id[2] ?? 0) & 0xf8) === ((crc >>> 8) & 0xf8)
}

function addressCrc(host: string, last: number): number {
  const ip = ipBytes(host) ?? new Uint8Array()
  const mask = ip.byteLength === IPV4_MASK.byteLength ? IPV4_MASK : IPV6_MASK
  const masked = mask.map((bits, i) => bits & (ip[i] ?? 0))
  masked[0] = (masked[0] ?? 0) | ((last & 0x07) << 5)
  return crc32c(masked)
}
