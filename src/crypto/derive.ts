/** Keys from keys: HKDF-SHA256 (RFC 5869). Keys from passphrases: Argon2id (RFC 9106). */
import { argon2, hkdfSync } from 'node:crypto'
import { owned } from './bytes.ts'

/** @param length bytes to derive, at most 8160 */
// oxlint-disable-next-line max-params -- the four that the standard names, in its order
export function hkdfSha256(secret: Uint8Array, salt: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', secret, salt, info, length))
}

/** What one guess at a passphrase costs. */
export type Argon2Cost = {
  /** At least 8 for each lane. */
  readonly memoryKib: number
  readonly passes: number
  /** Lanes, each of which may take a core. */
  readonly lanes: number
}

/**
 * Derives 32 bytes from a passphrase, off the main thread. The caller bounds the cost, which is spent whatever it is.
 * @param salt at least 8 bytes, not secret, never used for another passphrase
 */
export async function argon2id(passphrase: Uint8Array, salt: Uint8Array, cost: Argon2Cost): Promise<Uint8Array> {
  const { memoryKib: memory, passes, lanes: parallelism } = cost
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>()
  const parameters = { message: passphrase, nonce: salt, parallelism, tagLength: 32, memory, passes }
  argon2('argon2id', parameters, (error, key) => {
    if (error === null) resolve(owned(key))
    else reject(error)
  })
  return promise
}
