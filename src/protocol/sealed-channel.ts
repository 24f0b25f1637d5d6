/**
 * One stream's place in a session: seals what we send on it, opens what the other side sends. Frames are counted strictly
 * in order, each direction for itself, and the count goes on when a key is replaced: a frame that is missing, repeated,
 * swapped, or from another stream ends the channel.
 */
import { concatBytes, type Clock } from '#base'
import { AEAD_TAG_BYTES, type BegunSeal } from '#crypto'
import {
  decodeSeal,
  type Frame,
  FRAME_HEADER_BYTES,
  FRAME_PREFIX_BYTES,
  FRAME_SIGNATURE_BYTES,
  FRAME_TYPES,
  SEAL_TAG_BYTES,
  writeFramePrefix,
  writeSealCounter,
  writeSealFields,
} from '#wire'
import { OpeningKeys, type RekeyLimits, SealingKey } from './direction-keys.ts'
import { BEGUN_MS_MAX, CHANNEL_REKEY_BYTES } from './limits.ts'
import { SessionError } from './session-errors.ts'
import type { SessionFault } from './types.ts'

/** Session, channel, counter and the spare zeros: what lies behind the tag. */
const SEAL_FIELDS_BYTES = FRAME_SIGNATURE_BYTES - SEAL_TAG_BYTES
const ASSOCIATED_BYTES = FRAME_PREFIX_BYTES + SEAL_FIELDS_BYTES
const OPENING = new TextEncoder().encode('koinon/open/1 ')
/** From here on it pays to take memory that nobody has zeroed: all of it is written at once. */
const UNZEROED_BYTES_MIN = 16 * 1024

/**
 * What a tag covers beside the ciphertext: the prefix, then the seal's fields, as they lie in the frame without the tag
 * between them. One array for every frame of a direction.
 */
class Associated {
  readonly bytes = new Uint8Array(ASSOCIATED_BYTES)
  readonly prefix = this.bytes.subarray(0, FRAME_PREFIX_BYTES)
  readonly fields = this.bytes.subarray(FRAME_PREFIX_BYTES)
  readonly prefixView = new DataView(this.bytes.buffer, 0, FRAME_PREFIX_BYTES)
  /** The codec's offsets count from the tag, whose place is that of the prefix's last bytes here: it is not written. */
  readonly #sealView = new DataView(this.bytes.buffer, FRAME_PREFIX_BYTES - SEAL_TAG_BYTES)

  constructor(session: Uint8Array, channel: number) {
    writeSealFields(this.#sealView, { session, channel, counter: 0 })
  }

  setCounter(counter: number): void {
    writeSealCounter(this.#sealView, counter)
  }
}

/** A frame without what it carries: all that is known of it as soon as its length is. */
type BegunFrame = {
  readonly counter: number
  readonly rekeys: number
  readonly length: number
  /** By the monotonic clock, in milliseconds. */
  readonly since: number
  /** With room for the tag. */
  readonly header: Uint8Array
  readonly seal: BegunSeal
}

export type SealedChannelOptions = {
  /** 16 bytes. */
  readonly session: Uint8Array
  readonly number: number
  /** High half of the epoch. */
  readonly resumptions: number
  /** 32 bytes each; they are not kept. */
  readonly secrets: { readonly send: Uint8Array; readonly receive: Uint8Array }
  readonly limits: Partial<RekeyLimits>
  /** Called when a key of ours or of the other side was replaced. */
  readonly onRekey: () => void
  /** Called once. */
  readonly onClose: (channel: SealedChannel) => void
}

export class SealedChannel {
  /** Odd where the session's dialler has opened it, even where its listener has. */
  readonly number: number
  readonly #deps: { readonly clock: Clock; readonly nextRandom: () => number }
  readonly #options: SealedChannelOptions
  readonly #sealing: SealingKey
  readonly #opening: OpeningKeys
  readonly #ours: Associated
  readonly #theirs: Associated
  #sent = 0
  /** Of the frame that was sent last, in bytes. */
  #sentLength = 0
  #begun: BegunFrame | undefined
  #received = 0
  #isClosed = false

  /** Sessions make channels; nothing else does. */
  constructor(deps: { readonly clock: Clock; readonly nextRandom: () => number }, options: SealedChannelOptions) {
    const { session, number, secrets, limits } = options
    this.number = number
    this.#deps = deps
    this.#options = options
    this.#sealing = new SealingKey(deps.clock, {
      secret: secrets.send,
      limits: { bytes: CHANNEL_REKEY_BYTES, ...limits },
    })
    this.#opening = new OpeningKeys(deps.clock, secrets.receive)
    this.#ours = new Associated(session, number)
    this.#theirs = new Associated(session, number)
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /**
   * The next frame of our direction, whole. Frames must be written in the order in which they were sealed.
   * @throws SessionError after `close`, or once the channel has used up its keys
   */
  seal(plaintext: Uint8Array): Uint8Array<ArrayBuffer> {
    const [header, ciphertext] = this.sealInParts(plaintext)
    const frame = room(FRAME_HEADER_BYTES + ciphertext.byteLength)
    frame.set(header)
    frame.set(ciphertext, FRAME_HEADER_BYTES)
    return frame
  }

  /** The next frame in two pieces, header and ciphertext: where a copy would cost more than a second write. */
  sealInParts(plaintext: Uint8Array): readonly [header: Uint8Array, ciphertext: Uint8Array] {
    if (this.#isClosed) throw new SessionError({ code: 'PROTOCOL_SESSION_CLOSED' }, 'the channel has ended')
    const length = plaintext.byteLength
    const rekeysBefore = this.#sealing.rekeys
    this.#sealing.prepare(length)
    if (this.#sealing.rekeys !== rekeysBefore) this.#options.onRekey()
    const { header, seal } = this.#takeBegun(length) ?? this.#begin(length)
    const { ciphertext, tag } = seal.seal(plaintext)
    header.set(tag, FRAME_PREFIX_BYTES)
    this.#sent++
    this.#sentLength = length
    return [header, ciphertext]
  }

  #begin(length: number): BegunFrame {
    const { prefix, prefixView, fields, bytes } = this.#ours
    const counter = this.#sent
    const rekeys = this.#sealing.rekeys
    writeFramePrefix(prefixView, {
      type: FRAME_TYPES.data,
      isSealed: true,
      length,
      nonce: {
        timeMs: this.#deps.clock.now(),
        epoch: this.#options.resumptions * 0x1_0000 + rekeys,
        sequence: counter,
        random: this.#deps.nextRandom(),
      },
    })
    this.#ours.setCounter(counter)
    const header = new Uint8Array(FRAME_HEADER_BYTES)
    header.set(prefix)
    header.set(fields, FRAME_PREFIX_BYTES + SEAL_TAG_BYTES)
    const seal = this.#sealing.begin(counter, bytes)
    return { counter, rekeys, length, since: this.#deps.clock.monotonic(), header, seal }
  }

  /** The frame that was begun, where it is still the next one and as long as was thought. */
  #takeBegun(length: number): BegunFrame | undefined {
    const begun = this.#begun
    this.#begun = undefined
    const isNext = begun?.counter === this.#sent && begun.rekeys === this.#sealing.rekeys && begun.length === length
    return isNext && this.#deps.clock.monotonic() - begun.since <= BEGUN_MS_MAX ? begun : undefined
  }

  /** What the other side's next frame holds, in memory of its own; or why it is not that frame. After a fault: close. */
  open(frame: Frame): Uint8Array | SessionFault {
    const opened = this.openInParts(frame)
    return 'reason' in opened ? opened : concatBytes(opened)
  }

  /** The same without joining what came in several pieces. */
  openInParts(frame: Frame): readonly Uint8Array[] | SessionFault {
    if (this.#isClosed) return fault('stopping', 'the channel has ended', false)
    const associated = this.#theirs
    associated.setCounter(this.#received)
    if (!frame.isSealed || frame.type !== FRAME_TYPES.data) return fault('malformed', 'not a sealed frame')
    const isNext = frame.nonce.sequence === this.#received && endsWith(frame.signature, associated.fields)
    if (!isNext) return this.#whyNotNext(frame)
    const rekeys = frame.nonce.epoch - this.#options.resumptions * 0x1_0000
    // Frames come in order, and no key is without one: it is the key before, or the next one.
    const isInTurn = rekeys === this.#opening.rekeys || rekeys === this.#opening.rekeys + 1
    const key = isInTurn ? this.#opening.at(rekeys) : undefined
    if (key === undefined) return fault('replay', 'a sealed frame of another epoch')
    associated.bytes.set(frame.prefix)
    const plaintext = this.#opening.openParts(key, this.#received, {
      associated: associated.bytes,
      parts: frame.parts ?? [frame.payload],
      tag: frame.signature.subarray(0, AEAD_TAG_BYTES),
    })
    if (plaintext === undefined) return fault('authentication', 'the tag of a sealed frame does not fit')
    if (rekeys > this.#opening.rekeys) {
      this.#opening.accept(key, { keepsOld: false })
      this.#options.onRekey()
    }
    this.#received++
    return plaintext
  }

  /** Does what can be done of the next frame each way before it is there. To be called while nobody waits. */
  beginNext(): void {
    if (this.#isClosed) return
    // A row is as long as the one before.
    if (this.#sentLength > 0 && this.#begun?.counter !== this.#sent) this.#begun = this.#begin(this.#sentLength)
    this.#opening.begin(this.#received)
  }

  /** Drops the keys. Idempotent. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#begun = undefined
    this.#sealing.close()
    this.#opening.close()
    this.#options.onClose(this)
  }

  #whyNotNext(frame: Frame): SessionFault {
    const seal = decodeSeal(frame.signature)
    if (seal === undefined || seal.counter !== frame.nonce.sequence) return fault('malformed', 'a seal that cannot be')
    if (seal.counter !== this.#received) {
      return fault('replay', seal.counter < this.#received ? 'a sealed frame came twice' : 'a sealed frame is missing')
    }
    return fault('authentication', 'a sealed frame of another session or channel')
  }
}

/** The first frame of a channel, as its opener sends it: the stream's protocol, so that streams cannot be swapped. */
export function openingOf(protocol: string): Uint8Array {
  return concatBytes([OPENING, new TextEncoder().encode(protocol)])
}

function room(bytes: number): Uint8Array<ArrayBuffer> {
  if (bytes < UNZEROED_BYTES_MIN) return new Uint8Array(bytes)
  return new Uint8Array(Buffer.allocUnsafeSlow(bytes).buffer)
}

function endsWith(signature: Uint8Array, fields: Uint8Array): boolean {
  for (let i = 0; i < SEAL_FIELDS_BYTES; i++) {
    if (signature[SEAL_TAG_BYTES + i] !== fields[i]) return false
  }
  return true
}

function fault(reason: SessionFault['reason'], what: string, isHostile = true): SessionFault {
  return { reason, what, isHostile }
}
