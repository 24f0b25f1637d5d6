/**
 * A second Noise XX and XXhfs, to compare ours with: other libraries (noble), written message by message instead of token
 * by token, and with nothing of ours. Throws where something is wrong.
 */
import { gcm } from '@noble/ciphers/aes.js'
import { x25519 } from '@noble/curves/ed25519.js'
import { hmac } from '@noble/hashes/hmac.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js'

type Bytes = Uint8Array
/** A payload, or how to make it from the handshake hash before it. */
type PayloadOf = Bytes | ((h: Bytes) => Bytes)

export type ReferenceOptions = {
  readonly name: string
  readonly isInitiator: boolean
  readonly prologue: Bytes
  /** Private keys, 32 bytes each. */
  readonly staticSecret: Bytes
  readonly ephemeralSecret: Bytes
  /** XXhfs. The initiator's key seed (64 bytes); the responder's coins (32 bytes). */
  readonly kem?: Bytes
}

export class ReferenceNoise {
  readonly #options: ReferenceOptions
  readonly #e: Bytes
  readonly #s: Bytes
  readonly #kem: ReturnType<typeof ml_kem768.keygen> | undefined
  #ck: Bytes
  #h: Bytes
  #k: Bytes = new Uint8Array(0)
  #n = 0
  #re: Bytes = new Uint8Array(0)
  #rs: Bytes = new Uint8Array(0)
  #re1: Bytes = new Uint8Array(0)

  constructor(options: ReferenceOptions) {
    this.#options = options
    this.#e = options.ephemeralSecret
    this.#s = options.staticSecret
    this.#kem = options.isInitiator && options.kem !== undefined ? ml_kem768.keygen(options.kem) : undefined
    const name = new TextEncoder().encode(options.name)
    this.#h = sha256(name)
    if (name.length <= 32) {
      this.#h = new Uint8Array(32)
      this.#h.set(name)
    }
    this.#ck = this.#h
    this.#mixHash(options.prologue)
  }

  get h(): Bytes {
    return this.#h
  }

  /** The peer's static public key. */
  get rs(): Bytes {
    return this.#rs
  }

  write1(payload: Bytes): Bytes {
    const e = this.#hashed(x25519.getPublicKey(this.#e))
    const e1 = this.#kem === undefined ? new Uint8Array(0) : this.#hashed(this.#kem.publicKey)
    return join(e, e1, this.#hashed(payload))
  }

  read1(message: Bytes): Bytes {
    const end = this.#options.kem === undefined ? 32 : 32 + 1184
    this.#re = this.#hashed(message.slice(0, 32))
    if (end > 32) this.#re1 = this.#hashed(message.slice(32, end))
    return this.#hashed(message.slice(end))
  }

  write2(payload: PayloadOf): Bytes {
    const e = this.#hashed(x25519.getPublicKey(this.#e))
    this.#mixKey(x25519.getSharedSecret(this.#e, this.#re))
    let ciphertext = new Uint8Array(0)
    if (this.#options.kem !== undefined) {
      const { cipherText, sharedSecret } = ml_kem768.encapsulate(this.#re1, this.#options.kem)
      ciphertext = new Uint8Array(this.#seal(cipherText))
      this.#mixKey(sharedSecret)
    }
    const s = this.#seal(x25519.getPublicKey(this.#s))
    this.#mixKey(x25519.getSharedSecret(this.#s, this.#re))
    return join(e, ciphertext, s, this.#seal(typeof payload === 'function' ? payload(this.#h) : payload))
  }

  /** @returns the payload, and the hash before it */
  read2(message: Bytes): { readonly payload: Bytes; readonly h: Bytes } {
    let at = 32
    this.#re = this.#hashed(message.slice(0, at))
    this.#mixKey(x25519.getSharedSecret(this.#e, this.#re))
    if (this.#kem !== undefined) {
      at += 1088 + 16
      this.#mixKey(ml_kem768.decapsulate(this.#open(message.slice(32, at)), this.#kem.secretKey))
    }
    this.#rs = this.#open(message.slice(at, at + 48))
    this.#mixKey(x25519.getSharedSecret(this.#e, this.#rs))
    const h = this.#h
    return { payload: this.#open(message.slice(at + 48)), h }
  }

  write3(payload: PayloadOf): Bytes {
    const s = this.#seal(x25519.getPublicKey(this.#s))
    this.#mixKey(x25519.getSharedSecret(this.#s, this.#re))
    return join(s, this.#seal(typeof payload === 'function' ? payload(this.#h) : payload))
  }

  /** @returns the payload, and the hash before it */
  read3(message: Bytes): { readonly payload: Bytes; readonly h: Bytes } {
    this.#rs = this.#open(message.slice(0, 48))
    this.#mixKey(x25519.getSharedSecret(this.#e, this.#rs))
    const h = this.#h
    return { payload: this.#open(message.slice(48)), h }
  }

  /** The initiator's direction first. */
  split(): [Bytes, Bytes] {
    const temp = hmac(sha256, this.#ck, new Uint8Array(0))
    const first = hmac(sha256, temp, Uint8Array.of(1))
    return [first, hmac(sha256, temp, join(first, Uint8Array.of(2)))]
  }

  /** Koinon's secret beside those of Split: RFC 5869 with the chaining key as key and the hash as salt. */
  exported(label: string): Bytes {
    const prk = hmac(sha256, this.#h, this.#ck)
    return hmac(sha256, prk, join(new TextEncoder().encode(label), Uint8Array.of(1)))
  }

  #mixHash(data: Bytes): void {
    this.#h = sha256(join(this.#h, data))
  }

  #mixKey(secret: Bytes): void {
    const temp = hmac(sha256, this.#ck, secret)
    this.#ck = hmac(sha256, temp, Uint8Array.of(1))
    this.#k = hmac(sha256, temp, join(this.#ck, Uint8Array.of(2)))
    this.#n = 0
  }

  #hashed(data: Bytes): Bytes {
    this.#mixHash(data)
    return data
  }

  #seal(plaintext: Bytes): Bytes {
    return this.#hashed(gcm(this.#k, nonce(this.#n++), this.#h).encrypt(plaintext))
  }

  #open(ciphertext: Bytes): Bytes {
    const plaintext = gcm(this.#k, nonce(this.#n++), this.#h).decrypt(ciphertext)
    this.#mixHash(ciphertext)
    return plaintext
  }
}

function nonce(n: number): Bytes {
  return Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n)
}

function join(...parts: Bytes[]): Bytes {
  return Uint8Array.from(parts.flatMap(part => [...part]))
}
