/**
 * HandshakeState (Noise rev 34, section 5.3) with the DH functions `25519` and the KEM `MLKEM768` of the "hfs" draft.
 *
 * It differs from the text in two ways only. WriteMessage is cut into `writeTokens` and `writePayload`, because our
 * payloads sign the hash that the tokens leave. And what a peer can get wrong is a value, not an exception.
 */
import { assert, concatBytes, type Random } from '#base'
import {
  AEAD_TAG_BYTES,
  ML_KEM_768_CIPHERTEXT_BYTES,
  ML_KEM_768_PUBLIC_BYTES,
  ML_KEM_768_SEED_BYTES,
  type MlKemKey,
  mlKem768Encapsulate,
  mlKem768Key,
  X25519_BYTES,
  type X25519Key,
  x25519Key,
} from '#crypto'
import type { HandshakePattern, Token } from './pattern.ts'
import { SymmetricState } from './symmetric-state.ts'

/** The longest Noise message (section 3). */
const MESSAGE_BYTES_MAX = 65_535

/** What is wrong with a message: its length; a public key that gives no secret; or a tag, so bytes, keys or prologue. */
export type NoiseFault = 'size' | 'key' | 'unauthentic'

export type HandshakeStateDeps = {
  /** Must be unpredictable outside of tests: ephemeral keys come from it. */
  readonly random: Random
  /** GENERATE_KEM_CIPHERTEXT. Only a test has a reason to bring its own, to fix what a library leaves to chance. */
  readonly encapsulate?: typeof mlKem768Encapsulate
}

export type HandshakeStateOptions = {
  readonly pattern: HandshakePattern
  readonly isInitiator: boolean
  /** What both sides must agree on before the first message. */
  readonly prologue: Uint8Array
  /** The local static key. */
  readonly s: X25519Key
}

export class HandshakeState {
  readonly #random: Random
  readonly #encapsulate: typeof mlKem768Encapsulate
  readonly #pattern: HandshakePattern
  readonly #isInitiator: boolean
  readonly #symmetric: SymmetricState
  /** The first message whose tokens are still to come. */
  #next = 0
  /** Whether tokens were written whose payload is still to come. */
  #owesPayload = false
  readonly #s: X25519Key
  #e: X25519Key | undefined
  #rs: Uint8Array | undefined
  #re: Uint8Array | undefined
  #e1: MlKemKey | undefined
  #re1: Uint8Array | undefined

  /** Initialize. */
  constructor(deps: HandshakeStateDeps, { pattern, isInitiator, prologue, s }: HandshakeStateOptions) {
    this.#random = deps.random
    this.#encapsulate = deps.encapsulate ?? mlKem768Encapsulate
    this.#pattern = pattern
    this.#isInitiator = isInitiator
    this.#s = s
    this.#symmetric = new SymmetricState(pattern.protocolName)
    this.#symmetric.mixHash(prologue)
  }

  get turn(): 'write' | 'read' | 'done' {
    if (this.#owesPayload) return 'write'
    if (this.#next === this.#pattern.messages.length) return 'done'
    return (this.#next % 2 === 0) === this.#isInitiator ? 'write' : 'read'
  }

  /** The handshake hash so far, 32 bytes. */
  get h(): Uint8Array {
    return this.#symmetric.h
  }

  /** The peer's static public key, once it has come. */
  get rs(): Uint8Array | undefined {
    return this.#rs
  }

  /** First half of WriteMessage. A fault here ('key') is the fault of a key that the peer sent before. */
  writeTokens(): Uint8Array | NoiseFault {
    assert(this.turn === 'write' && !this.#owesPayload, 'Noise messages are written in turn')
    const parts: Uint8Array[] = []
    for (const token of this.#tokens()) {
      const part = this.#write(token)
      if (part === undefined) return 'key'
      parts.push(part)
    }
    this.#next++
    this.#owesPayload = true
    return concatBytes(parts)
  }

  /** Second half of WriteMessage. */
  writePayload(payload: Uint8Array): Uint8Array {
    assert(this.#owesPayload, 'the payload follows its tokens')
    this.#owesPayload = false
    return this.#symmetric.encryptAndHash(payload)
  }

  /**
   * ReadMessage. After a fault the state is of no more use.
   *
   * @returns the payload, and the handshake hash as it was before the payload
   */
  readMessage(message: Uint8Array): { readonly payload: Uint8Array; readonly h: Uint8Array } | NoiseFault {
    assert(this.turn === 'read', 'Noise messages are read in turn')
    if (message.byteLength > MESSAGE_BYTES_MAX) return 'size'
    let offset = 0
    for (const token of this.#tokens()) {
      const length = this.#lengthOf(token)
      if (message.byteLength < offset + length) return 'size'
      const fault = this.#read(token, message.slice(offset, offset + length))
      if (fault !== undefined) return fault
      offset += length
    }
    this.#next++
    const h = this.h
    if (this.#symmetric.hasKey() && message.byteLength < offset + AEAD_TAG_BYTES) return 'size'
    const payload = this.#symmetric.decryptAndHash(message.subarray(offset))
    return payload === undefined ? 'unauthentic' : { payload, h }
  }

  /** Split: the keys of the two directions, 32 bytes each, the initiator's first. */
  split(): readonly [toResponder: Uint8Array, toInitiator: Uint8Array] {
    assert(this.turn === 'done', 'a handshake is split at its end')
    return this.#symmetric.split()
  }

  /** A secret (32 bytes) beside those of Split, bound to the label and to all that was said. */
  exportSecret(label: Uint8Array): Uint8Array {
    assert(this.turn === 'done', 'a handshake has secrets at its end')
    return this.#symmetric.exportSecret(label)
  }

  #tokens(): readonly Token[] {
    return this.#pattern.messages[this.#next] ?? []
  }

  /** @returns what the token adds to the message; undefined where a key of the peer gives no secret */
  #write(token: Token): Uint8Array | undefined {
    switch (token) {
      case 'e':
        this.#e = x25519Key(this.#random.bytes(X25519_BYTES))
        this.#symmetric.mixHash(this.#e.publicKey)
        return this.#e.publicKey
      case 's':
        return this.#symmetric.encryptAndHash(this.#s.publicKey)
      case 'e1':
        this.#e1 = mlKem768Key(this.#random.bytes(ML_KEM_768_SEED_BYTES))
        return this.#symmetric.encryptAndHash(this.#e1.publicKey)
      case 'ekem1': {
        assert(this.#re1 !== undefined, 'e1 comes before ekem1')
        const kem = this.#encapsulate(this.#re1)
        if (kem === undefined) return undefined
        const part = this.#symmetric.encryptAndHash(kem.ciphertext)
        this.#symmetric.mixKey(kem.secret)
        return part
      }
      default:
        return this.#mixDh(token) ? new Uint8Array(0) : undefined
    }
  }

  /** Bytes that the token has in a message of the peer. Exact, as every key and ciphertext has one length. */
  #lengthOf(token: Token): number {
    const tag = this.#symmetric.hasKey() ? AEAD_TAG_BYTES : 0
    if (token === 'e') return X25519_BYTES
    if (token === 's') return X25519_BYTES + tag
    if (token === 'e1') return ML_KEM_768_PUBLIC_BYTES + tag
    if (token === 'ekem1') return ML_KEM_768_CIPHERTEXT_BYTES + tag
    return 0
  }

  #read(token: Token, part: Uint8Array): NoiseFault | undefined {
    switch (token) {
      case 'e':
        this.#re = part
        this.#symmetric.mixHash(part)
        return undefined
      case 's':
        this.#rs = this.#symmetric.decryptAndHash(part)
        return this.#rs === undefined ? 'unauthentic' : undefined
      case 'e1':
        this.#re1 = this.#symmetric.decryptAndHash(part)
        return this.#re1 === undefined ? 'unauthentic' : undefined
      case 'ekem1': {
        assert(this.#e1 !== undefined, 'e1 comes before ekem1')
        const ciphertext = this.#symmetric.decryptAndHash(part)
        if (ciphertext === undefined) return 'unauthentic'
        const secret = this.#e1.decapsulate(ciphertext)
        if (secret === undefined) return 'key'
        this.#symmetric.mixKey(secret)
        return undefined
      }
      default:
        return this.#mixDh(token) ? undefined : 'key'
    }
  }

  /** MixKey(DH(...)): the first letter names the initiator's key, the second the responder's. */
  #mixDh(token: 'ee' | 'es' | 'se'): boolean {
    const isOursEphemeral = token === 'ee' || (token === 'es') === this.#isInitiator
    const isTheirsEphemeral = token === 'ee' || (token === 'se') === this.#isInitiator
    const ours = isOursEphemeral ? this.#e : this.#s
    const theirs = isTheirsEphemeral ? this.#re : this.#rs
    assert(ours !== undefined && theirs !== undefined, 'a public key comes before its Diffie-Hellman result')
    const secret = ours.agree(theirs)
    if (secret === undefined) return false
    this.#symmetric.mixKey(secret)
    return true
  }
}
