/** Keys from keys: HKDF-SHA256 (RFC 5869). */
import { hkdfSync } from 'node:crypto'

/** @param length bytes to derive, at most 8160 */
export function hkdfSha256(secret: Uint8Array, salt: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', secret, salt, info, length))
}
