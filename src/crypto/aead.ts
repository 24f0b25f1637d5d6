/** AES-256-GCM (NIST SP 800-38D) with a 96-bit IV and a 128-bit tag. */
import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject } from 'node:crypto'
import { owned, plain } from './bytes.ts'

export const AEAD_KEY_BYTES = 32
export const AEAD_IV_BYTES = 12
export const AEAD_TAG_BYTES = 16

/** One key. An IV must never be used twice with it. The key object, not its bytes: that halves the time of a short seal. */
export class Aead {
  readonly #key: KeyObject

  /** @param key 32 bytes */
  constructor(key: Uint8Array) {
    this.#key = createSecretKey(key)
  }

  /**
   * @param iv 12 bytes
   * @returns ciphertext as long as the plaintext, and its tag of 16 bytes
   */
  seal(
    iv: Uint8Array,
    associated: Uint8Array,
    plaintext: Uint8Array,
  ): { readonly ciphertext: Uint8Array; readonly tag: Uint8Array } {
    const cipher = createCipheriv('aes-256-gcm', this.#key, iv)
    cipher.setAAD(associated)
    const ciphertext = cipher.update(plaintext)
    cipher.final()
    return { ciphertext: plain(ciphertext), tag: owned(cipher.getAuthTag()) }
  }

  /** Undefined where the tag does not fit: another key, IV, associated data, or bytes; or is no tag of 16 bytes. */
  // oxlint-disable-next-line max-params -- the four that the standard names, in its order
  open(iv: Uint8Array, associated: Uint8Array, ciphertext: Uint8Array, tag: Uint8Array): Uint8Array | undefined {
    return this.openParts(iv, associated, [ciphertext], tag)?.[0]
  }

  /** The same for a ciphertext that lies in several pieces: its plaintext comes in as many, and nothing is joined. */
  // oxlint-disable-next-line max-params -- as `open`
  openParts(
    iv: Uint8Array,
    associated: Uint8Array,
    ciphertext: readonly Uint8Array[],
    tag: Uint8Array,
  ): readonly Uint8Array[] | undefined {
    // OpenSSL would throw for another length: whoever sent it, these bytes are not authentic.
    if (tag.byteLength !== AEAD_TAG_BYTES) return undefined
    const decipher = createDecipheriv('aes-256-gcm', this.#key, iv, { authTagLength: AEAD_TAG_BYTES })
    decipher.setAAD(associated)
    decipher.setAuthTag(tag)
    const plaintext = ciphertext.map(part => plain(decipher.update(part)))
    try {
      decipher.final()
    } catch {
      return undefined // The one thing that final() can say of a GCM message: it is not authentic.
    }
    return plaintext
  }
}
