/** AES-256-GCM (NIST SP 800-38D) with a 96-bit IV and a 128-bit tag. */
import {
  type CipherGCM,
  createCipheriv,
  createDecipheriv,
  createSecretKey,
  type DecipherGCM,
  type KeyObject,
} from 'node:crypto'
import { owned, plain } from './bytes.ts'

export const AEAD_KEY_BYTES = 32
export const AEAD_IV_BYTES = 12
export const AEAD_TAG_BYTES = 16

export type Sealed = { readonly ciphertext: Uint8Array; readonly tag: Uint8Array }

/** One key. An IV must never be used twice with it. The key object, not its bytes: that halves the time of a short seal. */
export class Aead {
  readonly #key: KeyObject

  /** @param key 32 bytes */
  constructor(key: Uint8Array) {
    this.#key = createSecretKey(key)
  }

  /**
   * What can be done of a seal before there is anything to seal: where time is short then, a good part of it.
   * @param iv 12 bytes
   */
  beginSeal(iv: Uint8Array, associated: Uint8Array): BegunSeal {
    const cipher = createCipheriv('aes-256-gcm', this.#key, iv)
    cipher.setAAD(associated)
    return new BegunSeal(cipher)
  }

  /** What can be done of opening before there is a frame. @param iv 12 bytes */
  beginOpen(iv: Uint8Array): BegunOpen {
    return new BegunOpen(createDecipheriv('aes-256-gcm', this.#key, iv, { authTagLength: AEAD_TAG_BYTES }))
  }

  /** @param iv 12 bytes */
  seal(iv: Uint8Array, associated: Uint8Array, plaintext: Uint8Array): Sealed {
    return this.beginSeal(iv, associated).seal(plaintext)
  }

  /** Undefined where the tag does not fit: another key, IV, associated data, or bytes; or is no tag of 16 bytes. */
  // oxlint-disable-next-line max-params -- the four that the standard names, in its order
  open(iv: Uint8Array, associated: Uint8Array, ciphertext: Uint8Array, tag: Uint8Array): Uint8Array | undefined {
    return this.beginOpen(iv).open(associated, [ciphertext], tag)?.[0]
  }
}

/** Good for one seal. */
export class BegunSeal {
  readonly #cipher: CipherGCM

  constructor(cipher: CipherGCM) {
    this.#cipher = cipher
  }

  /** @returns ciphertext as long as the plaintext, and its tag of 16 bytes */
  seal(plaintext: Uint8Array): Sealed {
    const cipher = this.#cipher
    const ciphertext = cipher.update(plaintext)
    cipher.final()
    return { ciphertext: plain(ciphertext), tag: owned(cipher.getAuthTag()) }
  }
}

/** Good for one opening. */
export class BegunOpen {
  readonly #decipher: DecipherGCM

  constructor(decipher: DecipherGCM) {
    this.#decipher = decipher
  }

  /**
   * Opens a ciphertext that lies in any number of pieces: its plaintext comes in as many, and nothing is joined.
   * Undefined where the tag does not fit, or is no tag of 16 bytes.
   */
  open(associated: Uint8Array, ciphertext: readonly Uint8Array[], tag: Uint8Array): readonly Uint8Array[] | undefined {
    // OpenSSL would throw for another length: whoever sent it, these bytes are not authentic.
    if (tag.byteLength !== AEAD_TAG_BYTES) return undefined
    const decipher = this.#decipher
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
