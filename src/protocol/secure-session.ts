/**
 * A session after its handshake: seals and opens the frames of the control stream, and makes the channels that streams
 * are sealed with. No I/O: frames go in and out.
 *
 * A control frame is encrypted for the session and signed by its sender. It is checked from cheap to dear, and nothing is
 * recorded before all of it holds, so that forged frames move no window, use up no number and fill no filter:
 *
 *     epoch known ► sequence in the window ► time within 30 s ► tag ► signature ► replay filter ► recorded
 *
 * Which faults are hostile: the stream under a session keeps order, so an honest peer never repeats a frame, never
 * leaves the window, never sends a tag or signature that does not fit. Clocks do drift and streams do stall, and the
 * replay filter is wrong once in 10^10 times: those cost a frame, never a penalty.
 */
import { assert, type Clock, type Random } from '#base'
import {
  AEAD_KEY_BYTES,
  AEAD_TAG_BYTES,
  type Ed25519Verifier,
  ed25519Verifier,
  equalInConstantTime,
  hkdfSha256,
} from '#crypto'
import {
  CONTROL_BYTES_MAX,
  decodeSeal,
  encodeFrame,
  encodeFramePrefix,
  type Frame,
  type FrameNonce,
  SESSION_ID_BYTES,
  signedBytes,
} from '#wire'
import { ChannelChain, type ChannelSecrets, type SessionRole } from './channels.ts'
import { type OpeningKey, OpeningKeys, type RekeyLimits, SealingKey } from './direction-keys.ts'
import { CONTROL_REKEY_BYTES, FRAME_AGE_MS_MAX, REORDER_WINDOW } from './limits.ts'
import { randomPool } from './random-pool.ts'
import { ReorderWindow, type WindowVerdict } from './reorder-window.ts'
import { type ReplayFilter, replayKey } from './replay-filter.ts'
import { type PlaneIdentity, planeKey } from './plane-key.ts'
import { openingOf, SealedChannel } from './sealed-channel.ts'
import { SessionError } from './session-errors.ts'
import { type FrameSigner, verifyFrame } from './signed-frames.ts'
import type { SessionFault } from './types.ts'

const CONTROL_INFO = new TextEncoder().encode('koinon/control/1')
/** Half of an epoch: resumptions are counted above it, rekeys below. */
const REKEYS_COUNT = 0x1_0000

export type SessionSigner = FrameSigner & { readonly publicKey: Uint8Array }

export type SecureSessionDeps = { readonly clock: Clock; readonly random: Random; readonly replay: ReplayFilter }

export type SecureSessionOptions = {
  /** UUID, 16 bytes. */
  readonly id: Uint8Array
  readonly role: SessionRole
  readonly signer: SessionSigner
  /** Ed25519 public key of the other side, 32 bytes. */
  readonly peerKey: Uint8Array
  /** 32-byte secrets of the handshake or the resumption, new ones each time. They are not kept: wipe them afterwards. */
  readonly keys: { readonly send: Uint8Array; readonly receive: Uint8Array }
  /** How often the session was resumed, below 65536. */
  readonly resumptions: number
  /** When the two sides began to agree on the keys, Unix milliseconds on our clock. @default now */
  readonly keysSinceMs?: number
  /** When keys are replaced. @default the module's limits */
  readonly rekey?: { readonly control?: Partial<RekeyLimits>; readonly channel?: Partial<RekeyLimits> }
}

export class SecureSession {
  readonly id: Uint8Array
  readonly #deps: SecureSessionDeps
  readonly #options: SecureSessionOptions
  readonly #nextRandom: () => number
  readonly #sealing: SealingKey
  readonly #opening: OpeningKeys
  readonly #window = new ReorderWindow(REORDER_WINDOW)
  readonly #chains: Readonly<Record<SessionRole, ChannelChain>>
  readonly #channels = new Set<SealedChannel>()
  readonly #keysSinceMs: number
  #signer: SessionSigner
  /** Our key before the last rotation: the peer addresses frames to it until it has heard of the new one. */
  #formerKey: Uint8Array | undefined
  #verifier: Ed25519Verifier
  #offsetMs = 0
  #sent = 0
  #channelRekeys = 0
  /** The last frame that waits for its signature; the next one waits for it in turn. */
  #unsigned: Promise<unknown> | undefined
  #isClosed = false

  constructor(deps: SecureSessionDeps, options: SecureSessionOptions) {
    const { id, role, signer, peerKey, keys, resumptions, rekey } = options
    assert(id.byteLength === SESSION_ID_BYTES, 'a session has an id of 16 bytes')
    assert(resumptions >= 0 && resumptions < REKEYS_COUNT, 'a session is resumed fewer than 65536 times')
    this.id = id
    this.#deps = deps
    this.#options = options
    this.#keysSinceMs = options.keysSinceMs ?? deps.clock.now()
    this.#nextRandom = randomPool(deps.random)
    this.#sealing = new SealingKey(deps.clock, {
      secret: hkdfSha256(keys.send, id, CONTROL_INFO, AEAD_KEY_BYTES),
      limits: { bytes: CONTROL_REKEY_BYTES, ...rekey?.control },
    })
    this.#opening = new OpeningKeys(deps.clock, hkdfSha256(keys.receive, id, CONTROL_INFO, AEAD_KEY_BYTES))
    const secrets = byRole(role, keys)
    this.#chains = {
      dialler: new ChannelChain({ opener: 'dialler', session: id, secrets }),
      listener: new ChannelChain({ opener: 'listener', session: id, secrets }),
    }
    this.#signer = signer
    this.#verifier = ed25519Verifier(peerKey)
  }

  /** How often a key was replaced: both directions of the control stream, and of all channels. */
  get rekeys(): number {
    return this.#sealing.rekeys + this.#opening.rekeys + this.#channelRekeys
  }

  /** Epoch of our next control frame, as far as no rekey is due: resumptions above, rekeys below 2^16. */
  get epoch(): number {
    return this.#epochOf(this.#sealing.rekeys)
  }

  /** What HELLO measured: the peer's clock minus ours, in milliseconds. */
  setClockOffset(theirsMinusOursMs: number): void {
    this.#offsetMs = theirsMinusOursMs
  }

  /** From the next frame on we sign with this key. Frames that the peer still addresses to the one before are taken. */
  setSigner(signer: SessionSigner): void {
    this.#formerKey = this.#signer.publicKey
    this.#signer = signer
  }

  /** From the next frame on only this key speaks for the peer, and our frames are addressed to it. */
  setPeerKey(publicKey: Uint8Array): void {
    this.#verifier = ed25519Verifier(publicKey)
  }

  /**
   * The next control frame, whole; at once where the signer answers at once and none before it still waits. Its place is
   * taken by the call: promises resolve in the order of the calls. Where a signer fails, that frame is lost and the
   * others go on.
   * @throws SessionError for a body of more than `CONTROL_BYTES_MAX` less 16 bytes, or with all keys used up, or closed
   */
  sealControl(type: number, body: Uint8Array): Uint8Array | Promise<Uint8Array> {
    checkLength(body)
    const length = body.byteLength + AEAD_TAG_BYTES
    this.#sealing.prepare(length)
    const sequence = this.#sent++
    const nonce: FrameNonce = {
      timeMs: this.#deps.clock.now(),
      epoch: this.epoch,
      sequence,
      random: this.#nextRandom(),
    }
    const prefix = encodeFramePrefix({ type, isSealed: false, length, nonce })
    const { ciphertext, tag } = this.#sealing.seal(sequence, prefix, body)
    const payload = new Uint8Array(length)
    payload.set(ciphertext)
    payload.set(tag, ciphertext.byteLength)
    const context = { sender: this.#signer.publicKey, recipient: this.#verifier.publicKey, session: this.id }
    const signature = this.#signer.sign(signedBytes(context, prefix, payload))
    if (signature instanceof Uint8Array && this.#unsigned === undefined) return encodeFrame(prefix, signature, payload)
    return this.#inTurn(Promise.resolve(signature).then(bytes => encodeFrame(prefix, bytes, payload)))
  }

  /** What a control frame says, in memory of its own; or why it is refused. */
  openControl(frame: Frame): { readonly body: Uint8Array } | SessionFault {
    const key = this.#keyOf(frame)
    if ('reason' in key) return key
    const { sequence, timeMs } = frame.nonce
    const verdict = this.#window.check(sequence)
    if (verdict !== 'fresh') return fault('replay', WHY_OUTSIDE[verdict])
    const ourTimeMs = timeMs - this.#offsetMs
    if (!this.#isTimely(ourTimeMs)) return fault('replay', 'a frame that is more than 30 s away from now', false)
    const body = this.#opening.open(key, sequence, {
      associated: frame.prefix,
      ciphertext: frame.payload.subarray(0, -AEAD_TAG_BYTES),
      tag: frame.payload.subarray(-AEAD_TAG_BYTES),
    })
    if (body === undefined) return fault('authentication', 'the tag of a frame does not fit')
    if (!this.#isSigned(frame)) return fault('authentication', 'the signature of a frame does not hold')
    this.#window.record(sequence)
    this.#opening.accept(key, { keepsOld: true })
    const sender = this.#verifier.publicKey
    const once = replayKey({ sender, session: this.id, epoch: frame.nonce.epoch, sequence })
    if (this.#deps.replay.check(once, ourTimeMs, this.#keysSinceMs) !== 'fresh')
      return fault('replay', 'the replay filter knows it', false)
    return { body: new Uint8Array(body.buffer, body.byteOffset, body.byteLength) }
  }

  /** A channel with our next number. @throws SessionError when there is none left, or after `close` */
  openChannel(): SealedChannel {
    const { number, secrets } = this.#takeChannel()
    return this.#channel(number, secrets)
  }

  /**
   * The channel that the other side opens with this frame. It must be the first of its number and name the protocol of
   * the stream that it came on.
   */
  acceptChannel(first: Frame, protocol: string): SealedChannel | SessionFault {
    if (this.#isClosed) return fault('stopping', 'the session has ended', false)
    const seal = first.isSealed ? decodeSeal(first.signature) : undefined
    if (seal === undefined) return fault('malformed', 'a stream that does not begin with a sealed frame')
    if (!this.#isTimely(first.nonce.timeMs - this.#offsetMs)) {
      return fault('replay', 'a stream that began more than 30 s away from now', false)
    }
    const chain = this.#chains[otherRole(this.#options.role)]
    const found = chain.find(seal.channel)
    if (found === undefined) return fault('replay', 'a channel that was open before, or that cannot be')
    const channel = this.#channel(seal.channel, found.secrets)
    const opening = channel.open(first)
    if (!(opening instanceof Uint8Array)) {
      channel.close()
      return opening
    }
    found.commit()
    const expected = openingOf(protocol)
    if (opening.byteLength === expected.byteLength && opening.every((byte, i) => byte === expected[i])) return channel
    channel.close()
    return fault('authentication', 'a stream that was opened for another protocol')
  }

  /**
   * The key of a connection beside this one, for which our next channel number is used up.
   * @throws SessionError as `openChannel` does
   */
  openPlane(): { readonly identity: PlaneIdentity; readonly key: Uint8Array } {
    const { number, secrets } = this.#takeChannel()
    const identity = { session: this.id, resumptions: this.#options.resumptions, number }
    return { identity, key: planeKey(this.id, secrets) }
  }

  /** The key of a connection that the other side dials. Undefined: of another session, used before, or not to be. */
  planeKeyFor(identity: PlaneIdentity): Uint8Array | undefined {
    const found = this.#findPlane(identity)
    return found === undefined ? undefined : planeKey(this.id, found.secrets)
  }

  /** The other side has proved that it has the key: the number is used up. False: it was before. */
  acceptPlane(identity: PlaneIdentity): boolean {
    const found = this.#findPlane(identity)
    found?.commit()
    return found !== undefined
  }

  /** Drops every key, those of channels too. Idempotent. */
  close(): void {
    this.#isClosed = true
    this.#sealing.close()
    this.#opening.close()
    this.#chains.dialler.close()
    this.#chains.listener.close()
    for (const channel of this.#channels) channel.close()
  }

  #keyOf(frame: Frame): OpeningKey | SessionFault {
    if (this.#isClosed) return fault('stopping', 'the session has ended', false)
    if (frame.isSealed || frame.payload.byteLength < AEAD_TAG_BYTES) return fault('malformed', 'not a control frame')
    const rekeys = frame.nonce.epoch - this.#epochOf(0)
    const key = rekeys < 0 || rekeys >= REKEYS_COUNT ? undefined : this.#opening.at(rekeys)
    return key ?? fault('replay', 'a frame of an epoch that is over, or that cannot be')
  }

  #isSigned(frame: Frame): boolean {
    const context = { sender: this.#verifier.publicKey, session: this.id }
    if (verifyFrame(frame, { ...context, recipient: this.#signer.publicKey }, this.#verifier)) return true
    const former = this.#formerKey
    return former !== undefined && verifyFrame(frame, { ...context, recipient: former }, this.#verifier)
  }

  #isTimely(ourTimeMs: number): boolean {
    return Math.abs(ourTimeMs - this.#deps.clock.now()) <= FRAME_AGE_MS_MAX
  }

  #takeChannel(): { readonly number: number; readonly secrets: ChannelSecrets } {
    if (this.#isClosed) throw new SessionError({ code: 'PROTOCOL_SESSION_CLOSED' }, 'the session has ended')
    return this.#chains[this.#options.role].take()
  }

  #findPlane({ session, resumptions, number }: PlaneIdentity): ReturnType<ChannelChain['find']> {
    const isOurs = resumptions === this.#options.resumptions && equalInConstantTime(session, this.id)
    return isOurs && !this.#isClosed ? this.#chains[otherRole(this.#options.role)].find(number) : undefined
  }

  #channel(number: number, secrets: ChannelSecrets): SealedChannel {
    const { role, resumptions, rekey } = this.#options
    const channel = new SealedChannel(
      { clock: this.#deps.clock, nextRandom: this.#nextRandom },
      {
        session: this.id,
        number,
        resumptions,
        secrets: { send: secrets[role], receive: secrets[otherRole(role)] },
        limits: rekey?.channel ?? {},
        onRekey: () => {
          this.#channelRekeys++
        },
        onClose: closed => void this.#channels.delete(closed),
      },
    )
    this.#channels.add(channel)
    return channel
  }

  #inTurn(frame: Promise<Uint8Array>): Promise<Uint8Array> {
    const before = this.#unsigned
    const turn = Promise.allSettled([before, frame]).then(() => frame)
    const settled = turn.then(
      () => undefined,
      () => undefined, // The caller hears of it; those behind it go on.
    )
    this.#unsigned = settled
    void settled.then(() => {
      if (this.#unsigned === settled) this.#unsigned = undefined
    })
    return turn
  }

  #epochOf(rekeys: number): number {
    return this.#options.resumptions * REKEYS_COUNT + rekeys
  }
}

const WHY_OUTSIDE: Readonly<Record<Exclude<WindowVerdict, 'fresh'>, string>> = {
  duplicate: 'a frame that came before',
  stale: 'a frame from behind the window',
  ahead: 'a frame from beyond the window',
}

function byRole(role: SessionRole, { send, receive }: SecureSessionOptions['keys']): ChannelSecrets {
  return role === 'dialler' ? { dialler: send, listener: receive } : { dialler: receive, listener: send }
}

function otherRole(role: SessionRole): SessionRole {
  return role === 'dialler' ? 'listener' : 'dialler'
}

/** @throws SessionError PROTOCOL_MESSAGE_TOO_LONG */
export function checkLength(body: Uint8Array): void {
  const maxBytes = CONTROL_BYTES_MAX - AEAD_TAG_BYTES
  const sizeBytes = body.byteLength
  if (sizeBytes <= maxBytes) return
  throw new SessionError(
    { code: 'PROTOCOL_MESSAGE_TOO_LONG', sizeBytes, maxBytes },
    `a message of ${sizeBytes} bytes is longer than ${maxBytes}`,
  )
}

function fault(reason: SessionFault['reason'], what: string, isHostile = true): SessionFault {
  return { reason, what, isHostile }
}
