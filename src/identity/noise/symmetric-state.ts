/** SymmetricState (Noise rev 34, section 5.2) with the hash functions `SHA256`: HASHLEN is 32. */
import { concatBytes } from '#base'
import { hkdfSha256, SHA256_BYTES, sha256 } from '#crypto'
import { CipherState } from './cipher-state.ts'

const NOTHING = new Uint8Array(0)

export class SymmetricState {
  #cipher = new CipherState()
  #ck: Uint8Array
  #h: Uint8Array

  /** InitializeSymmetric. */
  constructor(protocolName: string) {
    const name = new TextEncoder().encode(protocolName)
    const isShort = name.byteLength <= SHA256_BYTES
    this.#h = isShort ? concatBytes([name, new Uint8Array(SHA256_BYTES - name.byteLength)]) : sha256(name)
    this.#ck = this.#h
  }

  mixKey(inputKeyMaterial: Uint8Array): void {
    const [ck, k] = hkdf(this.#ck, inputKeyMaterial)
    this.#ck = ck
    this.#cipher = new CipherState(k)
  }

  mixHash(data: Uint8Array): void {
    this.#h = sha256(concatBytes([this.#h, data]))
  }

  /** GetHandshakeHash: everything that was said so far, in 32 bytes. */
  get h(): Uint8Array {
    return this.#h
  }

  hasKey(): boolean {
    return this.#cipher.hasKey()
  }

  encryptAndHash(plaintext: Uint8Array): Uint8Array {
    const ciphertext = this.#cipher.encryptWithAd(this.#h, plaintext)
    this.mixHash(ciphertext)
    return ciphertext
  }

  /** Undefined: not authentic. */
  decryptAndHash(ciphertext: Uint8Array): Uint8Array | undefined {
    const plaintext = this.#cipher.decryptWithAd(this.#h, ciphertext)
    if (plaintext !== undefined) this.mixHash(ciphertext)
    return plaintext
  }

  /** Split: the keys of the two CipherStates, the initiator's way first. */
  split(): readonly [toResponder: Uint8Array, toInitiator: Uint8Array] {
    return hkdf(this.#ck, NOTHING)
  }

  /**
   * Another secret of this handshake (32 bytes), one per label: it opens none of the keys that Split gives, nor they it.
   * Not in Noise itself.
   */
  exportSecret(label: Uint8Array): Uint8Array {
    return hkdfSha256(this.#ck, this.#h, label, SHA256_BYTES)
  }
}

/** HKDF(chaining_key, input_key_material, 2) of Noise: RFC 5869 with the chaining key as salt and empty info. */
function hkdf(ck: Uint8Array, inputKeyMaterial: Uint8Array): readonly [Uint8Array, Uint8Array] {
  const output = hkdfSha256(inputKeyMaterial, ck, NOTHING, 2 * SHA256_BYTES)
  return [output.subarray(0, SHA256_BYTES), output.subarray(SHA256_BYTES)]
}
