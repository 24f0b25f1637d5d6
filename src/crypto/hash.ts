/** Hashes and message authentication. */
import { createHash, createHmac, hash, timingSafeEqual } from 'node:crypto'
import { owned } from './bytes.ts'

/** Bytes of a SHA-256 digest. */
export const SHA256_BYTES = 32

export function sha256(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return owned(hash('sha256', bytes, 'buffer'))
}

/** SHA-1, 20 bytes: for the ids of Mainline DHT only (BEP 5, BEP 44), never to authenticate. */
export function sha1(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return owned(hash('sha1', bytes, 'buffer'))
}

/** SHA-256 of bytes that come in pieces. */
export class Sha256 {
  readonly #hash = createHash('sha256')

  update(bytes: Uint8Array): this {
    this.#hash.update(bytes)
    return this
  }

  /** The digest of everything so far, without an end to it: more can be added. About 2 µs. */
  snapshot(): Uint8Array<ArrayBuffer> {
    return owned(this.#hash.copy().digest())
  }

  /** The digest of everything so far; nothing can be added afterwards. */
  digest(): Uint8Array<ArrayBuffer> {
    return owned(this.#hash.digest())
  }
}

/** HMAC-SHA-256 over the parts, one after the other. The caller must make their borders unambiguous. */
export function hmacSha256(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const hmac = createHmac('sha256', key)
  for (const part of parts) hmac.update(part)
  return owned(hmac.digest())
}

/**
 * HMAC-SHA-1 over the parts, one after the other: for MESSAGE-INTEGRITY of STUN only (RFC 8489), which knows no other where
 * ICE is spoken. HMAC does not need a hash without collisions, so it is not broken as SHA-1 is.
 */
export function hmacSha1(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const hmac = createHmac('sha1', key)
  for (const part of parts) hmac.update(part)
  return owned(hmac.digest())
}

/** Compares in a time that depends on the lengths only. For digests and secrets. */
export function equalInConstantTime(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && timingSafeEqual(a, b)
}
