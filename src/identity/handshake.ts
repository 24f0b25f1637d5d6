/**
 * The handshake of a session: Noise XX with hybrid forward secrecy, and inside it each side's proof that its static key
 * belongs to its node key. Pure: bytes in, bytes out.
 *
 *     message                                                  bytes   of a sender with an ML-DSA-65 key
 *     1  dialler -> listener   e, e1                            1216    1216
 *     2  listener -> dialler   e, ee, ekem1, s, es, payload     1315    6604
 *     3  dialler -> listener   s, se, payload                    179    5468
 *
 * The Noise static keys are made for one handshake and thrown away; who a node is says the payload of message 2 and 3,
 * a dag-cbor map of exactly 115 (5404) bytes:
 *
 *     { key: Ed25519 public key (32), signature (64), hybrid?: { key: ML-DSA-65 public key (1952), signature (3309) } }
 *
 * Both signatures are over the same bytes (`staticKeyStatement`): they bind the static key, the role and, by the handshake
 * hash, the prologue and everything before. The hash keeps a proof from being said again in another handshake, the role
 * from being said back. Proofs are encrypted, but who the two are is no secret: their HELLOs said it in clear.
 */
import { decode, encode } from '@ipld/dag-cbor'
import { z } from 'zod'
import { assert, concatBytes, type Random } from '#base'
import {
  AEAD_TAG_BYTES,
  ED25519_PUBLIC_BYTES,
  ED25519_SIGNATURE_BYTES,
  ed25519Verifier,
  equalInConstantTime,
  ML_DSA_65_PUBLIC_BYTES,
  ML_DSA_65_SIGNATURE_BYTES,
  ML_KEM_768_CIPHERTEXT_BYTES,
  ML_KEM_768_PUBLIC_BYTES,
  mlDsa65Verify,
  X25519_BYTES,
  type X25519Key,
  x25519Key,
} from '#crypto'
import type { HybridSigner } from './hybrid.ts'
import type { KeyProvider } from './key-provider.ts'
import { HandshakeState, type NoiseFault } from './noise/handshake-state.ts'
import { XX_HFS } from './noise/pattern.ts'

const DOMAIN = 'koinon/noise-static/1'
const RESUMPTION_LABEL = new TextEncoder().encode('koinon/resumption/1')
const NOTHING = new Uint8Array(0)

/** Heads and field names of the payload's map, and of the map inside it: dag-cbor has one form for each value. */
const PAYLOAD_BYTES = 1 + 4 + 2 + ED25519_PUBLIC_BYTES + 10 + 2 + ED25519_SIGNATURE_BYTES
const HYBRID_BYTES = 7 + 1 + 4 + 3 + ML_DSA_65_PUBLIC_BYTES + 10 + 3 + ML_DSA_65_SIGNATURE_BYTES

const MESSAGE_1_BYTES = X25519_BYTES + ML_KEM_768_PUBLIC_BYTES
const STATIC_BYTES = X25519_BYTES + AEAD_TAG_BYTES
const MESSAGE_3_BYTES = STATIC_BYTES + PAYLOAD_BYTES + AEAD_TAG_BYTES
const MESSAGE_2_BYTES = X25519_BYTES + ML_KEM_768_CIPHERTEXT_BYTES + AEAD_TAG_BYTES + MESSAGE_3_BYTES

/** Bytes that each message of a handshake may have: exactly one of these. */
export const HANDSHAKE_MESSAGE_BYTES: readonly (readonly number[])[] = [
  [MESSAGE_1_BYTES],
  [MESSAGE_2_BYTES, MESSAGE_2_BYTES + HYBRID_BYTES],
  [MESSAGE_3_BYTES, MESSAGE_3_BYTES + HYBRID_BYTES],
]

export type HandshakeRole = 'dialler' | 'listener'

/** Why a handshake or a resumption ends. For the log: the peer is told no more than that authentication failed. */
export type HandshakeFault = {
  readonly code: /** A message that it was not the peer's turn to send. */
    | 'HANDSHAKE_OUT_OF_TURN'
    /** A message of a length that it cannot have. */
    | 'HANDSHAKE_SIZE'
    /** A public key that gives no secret: a point of small order, or no ML-KEM key. */
    | 'HANDSHAKE_KEY_INVALID'
    /** A tag that does not fit: changed bytes, another prologue, or (in a resumption) another secret. */
    | 'HANDSHAKE_UNAUTHENTIC'
    /** A payload that does not parse, or a field that does not belong to the message. */
    | 'HANDSHAKE_MALFORMED'
    /** The peer is not the one that it was expected to be. */
    | 'HANDSHAKE_IDENTITY'
    /** A signature that does not hold. */
    | 'HANDSHAKE_SIGNATURE'
    /** The peer has an ML-DSA-65 key and did not use it. */
    | 'HANDSHAKE_HYBRID_MISSING'
  /** For people. */
  readonly what: string
}

export type HandshakeResult = {
  /** 32 bytes from which the keys of what we send are derived. The peer's `receive`. */
  readonly send: Uint8Array
  /** 32 bytes from which the keys of what we receive are derived. The peer's `send`. */
  readonly receive: Uint8Array
  /** 32 bytes that a later resumption starts from. Gives neither of the other two, nor they it. */
  readonly resumptionSecret: Uint8Array
  /** 32 bytes that name this exchange: equal on both sides exactly where both saw the same bytes. */
  readonly transcript: Uint8Array
  /** The peer's ML-DSA-65 public key, where it proved one. Not after a resumption, which carries no signatures. */
  readonly hybridKey?: Uint8Array
}

export type HandshakeOptions = {
  readonly role: HandshakeRole
  /** What both sides said before: the two HELLO frames. Where they saw different ones the handshake fails. */
  readonly prologue: Uint8Array
  /** The node's key, wherever it lies. */
  readonly identity: Pick<KeyProvider, 'publicKey' | 'sign'>
  readonly hybrid?: HybridSigner
  /**
   * Who the peer says that it is: its Ed25519 key, and its ML-DSA-65 key where one is known. With the latter, a peer
   * that leaves the second signature out is refused: it may be somebody who could forge the first only.
   */
  readonly expected: { readonly publicKey: Uint8Array; readonly hybridKey?: Uint8Array }
}

const bytesOf = (count: number) =>
  z.custom<Uint8Array>(value => value instanceof Uint8Array && value.byteLength === count)

const payloadSchema = z.strictObject({
  key: bytesOf(ED25519_PUBLIC_BYTES),
  signature: bytesOf(ED25519_SIGNATURE_BYTES),
  hybrid: z
    .strictObject({ key: bytesOf(ML_DSA_65_PUBLIC_BYTES), signature: bytesOf(ML_DSA_65_SIGNATURE_BYTES) })
    .optional(),
})
type Payload = z.infer<typeof payloadSchema>

const NOISE_FAULTS: Readonly<Record<NoiseFault, HandshakeFault>> = {
  size: { code: 'HANDSHAKE_SIZE', what: 'a message of the handshake is too short' },
  key: { code: 'HANDSHAKE_KEY_INVALID', what: 'a public key of the peer gives no secret' },
  unauthentic: {
    code: 'HANDSHAKE_UNAUTHENTIC',
    what: 'a message of the handshake was changed, or the two sides do not agree on what was said before it',
  },
}

/** One side of one handshake. The first fault ends it: every later `read` gives the same one. */
export class Handshake {
  readonly #options: HandshakeOptions
  readonly #staticKey: X25519Key
  readonly #state: HandshakeState
  /** Messages written or read so far. */
  #index = 0
  #turn: 'write' | 'read' | 'done' | 'failed'
  /** The next message of ours, up to its payload. */
  #tokens: Uint8Array | undefined
  #fault: HandshakeFault | undefined
  #hybridKey: Uint8Array | undefined

  /** @param deps.random must be unpredictable: every secret of the session comes from it */
  constructor(deps: { readonly random: Random }, options: HandshakeOptions) {
    this.#options = options
    this.#staticKey = x25519Key(deps.random.bytes(X25519_BYTES))
    this.#state = new HandshakeState(deps, {
      pattern: XX_HFS,
      isInitiator: options.role === 'dialler',
      prologue: options.prologue,
      s: this.#staticKey,
    })
    this.#turn = this.#state.turn
    const fault = this.#prepare()
    assert(fault === undefined, 'the first message needs no key of the peer')
  }

  /** Whose message comes next. 'failed' after a fault: there is no next one. */
  get turn(): 'write' | 'read' | 'done' | 'failed' {
    return this.#turn
  }

  /**
   * Our next message. Asynchronous because the node's key may lie in a token or a service.
   *
   * @throws KeyringError where that fails; the handshake cannot go on then
   */
  async write(): Promise<Uint8Array> {
    const tokens = this.#tokens
    assert(this.#turn === 'write' && tokens !== undefined, 'a message of the handshake is written once, in its turn')
    this.#tokens = undefined
    const payload = this.#index === 0 ? NOTHING : await this.#signedPayload()
    const message = concatBytes([tokens, this.#state.writePayload(payload)])
    this.#index++
    // The peer may have ended the handshake, by a message out of turn, while the key was signing.
    if (this.#fault === undefined) this.#turn = this.#state.turn
    return message
  }

  /** Takes the peer's next message. @returns what is wrong with it, or with the peer */
  read(message: Uint8Array): HandshakeFault | undefined {
    if (this.#fault !== undefined) return this.#fault
    this.#fault = this.#read(message)
    this.#turn = this.#fault === undefined ? this.#state.turn : 'failed'
    return this.#fault
  }

  /** The secrets, once `turn` is 'done'. The peer has proved that it has them if it was the last to write. */
  result(): HandshakeResult {
    assert(this.#turn === 'done', 'a handshake has a result when it is done')
    const [toListener, toDialler] = this.#state.split()
    const isDialler = this.#options.role === 'dialler'
    return {
      send: isDialler ? toListener : toDialler,
      receive: isDialler ? toDialler : toListener,
      resumptionSecret: this.#state.exportSecret(RESUMPTION_LABEL),
      transcript: this.#state.h,
      ...(this.#hybridKey === undefined ? {} : { hybridKey: this.#hybridKey }),
    }
  }

  #read(message: Uint8Array): HandshakeFault | undefined {
    if (this.#turn !== 'read') return { code: 'HANDSHAKE_OUT_OF_TURN', what: 'a message of the handshake out of turn' }
    if (HANDSHAKE_MESSAGE_BYTES[this.#index]?.includes(message.byteLength) !== true) {
      return {
        code: 'HANDSHAKE_SIZE',
        what: `message ${this.#index + 1} of the handshake has ${message.byteLength} bytes`,
      }
    }
    const read = this.#state.readMessage(message)
    if (typeof read === 'string') return NOISE_FAULTS[read]
    const isFirst = this.#index === 0
    this.#index++
    const fault = isFirst ? undefined : this.#checkPayload(read.payload, read.h)
    return fault ?? this.#prepare()
  }

  /**
   * Computes our next message up to its payload. Done as soon as the peer's keys are here, so that what is wrong with
   * them is a fault of the message that brought them, and `write` has none.
   */
  #prepare(): HandshakeFault | undefined {
    if (this.#state.turn !== 'write') return undefined
    const tokens = this.#state.writeTokens()
    if (typeof tokens === 'string') return NOISE_FAULTS[tokens]
    this.#tokens = tokens
    return undefined
  }

  async #signedPayload(): Promise<Uint8Array> {
    const { role, identity, hybrid } = this.#options
    const statement = staticKeyStatement(role, this.#staticKey.publicKey, this.#state.h)
    const payload = { key: identity.publicKey, signature: await identity.sign(statement) }
    if (hybrid === undefined) return encode(payload)
    return encode({ ...payload, hybrid: { key: hybrid.publicKey, signature: await hybrid.sign(statement) } })
  }

  #checkPayload(bytes: Uint8Array, h: Uint8Array): HandshakeFault | undefined {
    const payload = decodePayload(bytes)
    if (payload === undefined) return { code: 'HANDSHAKE_MALFORMED', what: 'a proof of identity that does not parse' }
    const { role, expected } = this.#options
    if (!equalInConstantTime(payload.key, expected.publicKey)) {
      return { code: 'HANDSHAKE_IDENTITY', what: 'the peer has another key than the one that it announced' }
    }
    assert(this.#state.rs !== undefined, 'the static key comes before the payload')
    const statement = staticKeyStatement(role === 'dialler' ? 'listener' : 'dialler', this.#state.rs, h)
    if (!ed25519Verifier(expected.publicKey).verify(statement, payload.signature)) {
      return { code: 'HANDSHAKE_SIGNATURE', what: 'the signature of the peer does not hold' }
    }
    return this.#checkHybrid(payload.hybrid, statement)
  }

  #checkHybrid(hybrid: Payload['hybrid'], statement: Uint8Array): HandshakeFault | undefined {
    const { hybridKey } = this.#options.expected
    if (hybrid === undefined) {
      if (hybridKey === undefined) return undefined
      return { code: 'HANDSHAKE_HYBRID_MISSING', what: 'the peer did not sign with its ML-DSA-65 key' }
    }
    if (hybridKey !== undefined && !equalInConstantTime(hybrid.key, hybridKey)) {
      return { code: 'HANDSHAKE_IDENTITY', what: 'the peer has another ML-DSA-65 key than the one that is known' }
    }
    if (!mlDsa65Verify(hybrid.key, statement, hybrid.signature)) {
      return { code: 'HANDSHAKE_SIGNATURE', what: 'the ML-DSA-65 signature of the peer does not hold' }
    }
    this.#hybridKey = hybrid.key
    return undefined
  }
}

/**
 * What proves that a static key belongs to a node key: domain, role as ASCII, static public key, handshake hash before
 * the payload. The last two have 32 bytes each, so no two statements of different parts are equal.
 */
function staticKeyStatement(role: HandshakeRole, staticKey: Uint8Array, h: Uint8Array): Uint8Array {
  return concatBytes([new TextEncoder().encode(DOMAIN + role), staticKey, h])
}

function decodePayload(bytes: Uint8Array): Payload | undefined {
  try {
    return payloadSchema.safeParse(decode(bytes)).data
  } catch {
    return undefined // dag-cbor throws errors of many kinds for bytes that are none: all mean the same here.
  }
}
