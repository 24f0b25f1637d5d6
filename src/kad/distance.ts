/** Where keys and peers lie: libp2p hashes both with SHA-256, and what is near by XOR of the hashes is close. */
import { sha256 } from '#crypto'

/** @returns below 0 where `a` is closer to `target` than `b` is; all of them hashes of 32 bytes */
export function compareDistance(target: Uint8Array, a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < target.byteLength; i++) {
    const at = target[i] ?? 0
    const difference = ((a[i] ?? 0) ^ at) - ((b[i] ?? 0) ^ at)
    if (difference !== 0) return difference
  }
  return 0
}

/** Where a key lies. @param key a record's key as text, or bytes */
export function pointOf(key: string | Uint8Array): Uint8Array {
  return sha256(typeof key === 'string' ? new TextEncoder().encode(key) : key)
}
