/** CipherState (Noise rev 34, section 5.1) with the cipher functions `AESGCM` (section 12.3). */
import { assert, concatBytes } from '#base'
import { AEAD_IV_BYTES, AEAD_TAG_BYTES, Aead } from '#crypto'

/** 2^64 - 1: reserved for rekeying, so no message may use it. */
const NONCE_MAX = 2n ** 64n - 1n

export class CipherState {
  readonly #cipher: Aead | undefined
  #n: bigint

  /**
   * InitializeKey.
   *
   * @param k 32 bytes; without it the state has no key, and what it "encrypts" stays as it is
   * @param n the first nonce
   */
  constructor(k?: Uint8Array, n = 0n) {
    this.#cipher = k === undefined ? undefined : new Aead(k)
    this.#n = n
  }

  hasKey(): boolean {
    return this.#cipher !== undefined
  }

  /** EncryptWithAd. @returns ciphertext and tag, or the plaintext itself where there is no key */
  encryptWithAd(ad: Uint8Array, plaintext: Uint8Array): Uint8Array {
    if (this.#cipher === undefined) return plaintext
    assert(this.#n < NONCE_MAX, 'a Noise key has nonces left')
    const { ciphertext, tag } = this.#cipher.seal(ivOf(this.#n), ad, plaintext)
    this.#n++
    return concatBytes([ciphertext, tag])
  }

  /** DecryptWithAd. Undefined: not authentic, or no nonce is left; the nonce is not used up then. */
  decryptWithAd(ad: Uint8Array, ciphertext: Uint8Array): Uint8Array | undefined {
    if (this.#cipher === undefined) return ciphertext
    const border = ciphertext.byteLength - AEAD_TAG_BYTES
    if (border < 0 || this.#n >= NONCE_MAX) return undefined
    const plaintext = this.#cipher.open(ivOf(this.#n), ad, ciphertext.subarray(0, border), ciphertext.subarray(border))
    if (plaintext !== undefined) this.#n++
    return plaintext
  }
}

/** 32 bits of zeros, then the nonce as a big-endian u64. */
function ivOf(n: bigint): Uint8Array {
  const iv = new Uint8Array(AEAD_IV_BYTES)
  new DataView(iv.buffer).setBigUint64(4, n)
  return iv
}
