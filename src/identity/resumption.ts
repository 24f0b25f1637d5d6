/**
 * Resumption: a session goes on over a new connection, or after a restart, without the cost of a handshake. Pure.
 *
 *     1  dialler -> listener   { share }          X25519 public key (32), fresh
 *     2  listener -> dialler   { share, mac }     its own, and a proof (32) that it has the old session's secret
 *     3  dialler -> listener   { mac }            the same of the dialler
 *
 *     t    = SHA-256('koinon/resume/1' || SHA-256(prologue) || dialler's share || listener's share)
 *     keys = HKDF-SHA256(secret, salt = X25519 result, info = 'koinon/resume-keys/1' || t)        5 x 32 bytes
 *          = key of the dialler's mac, key of the listener's mac, dialler to listener, listener to dialler, next secret
 *     mac  = HMAC-SHA256(key of the sender's mac, t)
 *
 * **Who it is.** Only the two nodes of the old session have its secret. Each side's mac has its own key, so a mac that
 * is said back proves nothing. The frames around these messages are signed too, so a stolen secret without the stolen
 * node key resumes nothing.
 *
 * **Forward secrecy.** Every key needs the fresh X25519 result, whose private keys live as long as this object. And the
 * secret is a ratchet: each resumption replaces it by one that cannot be computed from it, and both sides throw the
 * old one away. So a secret that is stolen opens nothing that was recorded: not the sessions before it, whose keys are
 * its siblings or its ancestors behind a one-way function; nor a session that was resumed from it, without the X25519
 * result. Two limits: whoever steals the secret *and* breaks X25519 (a quantum computer) opens what was resumed from it,
 * until the next whole handshake brings ML-KEM again; a thief who has the node key too can resume in the node's place,
 * until the node itself resumes or makes a new handshake. That is why a secret has a short life (`protocol`).
 */
import { assert, concatBytes, type Random } from '#base'
import {
  equalInConstantTime,
  hkdfSha256,
  hmacSha256,
  SHA256_BYTES,
  sha256,
  X25519_BYTES,
  type X25519Key,
  x25519Key,
} from '#crypto'
import type { HandshakeFault, HandshakeResult, HandshakeRole } from './handshake.ts'

const TRANSCRIPT_LABEL = new TextEncoder().encode('koinon/resume/1')
const KEYS_LABEL = new TextEncoder().encode('koinon/resume-keys/1')

/** One message of a resumption: a share of 32 bytes, a mac of 32 bytes, or both. */
export type ResumeMessage = {
  readonly share?: Uint8Array | undefined
  readonly mac?: Uint8Array | undefined
}

export type ResumptionOptions = {
  readonly role: HandshakeRole
  /** 32 bytes: `resumptionSecret` of the session's last handshake or resumption. Throw it away when this one is done. */
  readonly secret: Uint8Array
  /** What both sides said before: the two HELLO frames. Where they saw different ones the resumption fails. */
  readonly prologue: Uint8Array
}

type Keys = {
  readonly diallerMac: Uint8Array
  readonly listenerMac: Uint8Array
  readonly result: HandshakeResult
}

/** One side of one resumption. The first fault ends it: every later `read` gives the same one. */
export class Resumption {
  readonly #options: ResumptionOptions
  readonly #key: X25519Key
  #turn: 'write' | 'read' | 'done' | 'failed'
  /** Known as soon as both shares are. */
  #keys: Keys | undefined
  #fault: HandshakeFault | undefined

  /** @param deps.random must be unpredictable: the share comes from it */
  constructor(deps: { readonly random: Random }, options: ResumptionOptions) {
    assert(options.secret.byteLength === SHA256_BYTES, 'the secret of a session has 32 bytes')
    this.#options = options
    this.#key = x25519Key(deps.random.bytes(X25519_BYTES))
    this.#turn = this.#isDialler ? 'write' : 'read'
  }

  /** Whose message comes next. 'failed' after a fault: there is no next one. */
  get turn(): 'write' | 'read' | 'done' | 'failed' {
    return this.#turn
  }

  /** Our next message. */
  write(): ResumeMessage {
    assert(this.#turn === 'write', 'a message of the resumption is written in its turn')
    const share = this.#key.publicKey
    if (this.#keys === undefined) {
      this.#turn = 'read'
      return { share }
    }
    const { diallerMac, listenerMac } = this.#keys
    this.#turn = this.#isDialler ? 'done' : 'read'
    return this.#isDialler ? { mac: diallerMac } : { share, mac: listenerMac }
  }

  /** Takes the peer's next message. @returns what is wrong with it */
  read(message: ResumeMessage): HandshakeFault | undefined {
    if (this.#fault !== undefined) return this.#fault
    this.#fault = this.#read(message)
    if (this.#fault !== undefined) this.#turn = 'failed'
    return this.#fault
  }

  /** The secrets of the resumed session, once `turn` is 'done'. */
  result(): HandshakeResult {
    assert(this.#turn === 'done' && this.#keys !== undefined, 'a resumption has a result when it is done')
    return this.#keys.result
  }

  get #isDialler(): boolean {
    return this.#options.role === 'dialler'
  }

  #read({ share, mac }: ResumeMessage): HandshakeFault | undefined {
    if (this.#turn !== 'read') return { code: 'HANDSHAKE_OUT_OF_TURN', what: 'a message of the resumption out of turn' }
    // The dialler reads a share and a mac; the listener a share, then, when it has its keys, a mac.
    const isShareDue = this.#keys === undefined
    const isMacDue = this.#isDialler || !isShareDue
    if ((share !== undefined) !== isShareDue || (mac !== undefined) !== isMacDue) {
      return { code: 'HANDSHAKE_MALFORMED', what: 'a message of the resumption lacks a field, or has one too many' }
    }
    if (share !== undefined) {
      if (share.byteLength !== X25519_BYTES) return { code: 'HANDSHAKE_SIZE', what: 'a share that has not 32 bytes' }
      this.#keys = this.#deriveKeys(share)
      if (this.#keys === undefined) {
        return { code: 'HANDSHAKE_KEY_INVALID', what: 'the share of the peer gives no secret' }
      }
    }
    if (mac !== undefined && this.#keys !== undefined) {
      const expected = this.#isDialler ? this.#keys.listenerMac : this.#keys.diallerMac
      if (!equalInConstantTime(mac, expected)) {
        return { code: 'HANDSHAKE_UNAUTHENTIC', what: 'the peer has another secret, or something was changed' }
      }
    }
    this.#turn = this.#isDialler || mac === undefined ? 'write' : 'done'
    return undefined
  }

  /** Undefined: a share of small order. */
  #deriveKeys(theirs: Uint8Array): Keys | undefined {
    const agreed = this.#key.agree(theirs)
    if (agreed === undefined) return undefined
    const { secret, prologue } = this.#options
    const ours = this.#key.publicKey
    const shares = this.#isDialler ? [ours, theirs] : [theirs, ours]
    const transcript = sha256(concatBytes([TRANSCRIPT_LABEL, sha256(prologue), ...shares]))
    const bytes = hkdfSha256(secret, agreed, concatBytes([KEYS_LABEL, transcript]), 5 * SHA256_BYTES)
    const key = (index: number): Uint8Array => bytes.slice(index * SHA256_BYTES, (index + 1) * SHA256_BYTES)
    const toListener = key(2)
    const toDialler = key(3)
    return {
      diallerMac: hmacSha256(key(0), transcript),
      listenerMac: hmacSha256(key(1), transcript),
      result: {
        send: this.#isDialler ? toListener : toDialler,
        receive: this.#isDialler ? toDialler : toListener,
        resumptionSecret: key(4),
        transcript,
      },
    }
  }
}
