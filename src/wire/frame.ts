/**
 * Frame v1: what every byte between two nodes lies in. All numbers are big-endian.
 *
 *     0        2         3      4         8                                              32            96
 *     | 5A 45  | version | type | length  | nonce                                        | signature   | payload
 *     | magic  | u8      | u8   | u32     | time ms u64, epoch u32, sequence u64, rnd u32 | 64 bytes    | length bytes
 *
 * The first 32 bytes are the frame's *prefix*. A signed frame (bit 7 of the type clear) carries an Ed25519 signature over
 * the domain, sender, recipient, session, prefix and payload (`signedParts`). A sealed frame (bit 7 set) carries instead
 *
 *     32      48        64        68        76          96
 *     | tag   | session | channel | counter | 20 zeros  | payload = ciphertext
 *     | 16    | 16      | u32     | u64     |
 *
 * where the counter repeats the sequence and the tag covers prefix, session, channel and counter too.
 */
import { concatBytes } from '#base'
import { SEALED_BIT } from './frame-types.ts'
import { FRAME_VERSION } from './versions.ts'

export const FRAME_MAGIC = 0x5a45
/** What is signed of the header. */
export const FRAME_PREFIX_BYTES = 32
export const FRAME_SIGNATURE_BYTES = 64
export const FRAME_HEADER_BYTES = FRAME_PREFIX_BYTES + FRAME_SIGNATURE_BYTES
export const SESSION_ID_BYTES = 16

const SIGNED_DOMAIN = new TextEncoder().encode('koinon/frame/1')
const OFFSET = { version: 2, type: 3, length: 4, timeMs: 8, epoch: 16, sequence: 20, random: 28 } as const

export type FrameNonce = {
  /** The sender's clock, Unix milliseconds. */
  readonly timeMs: number
  /** Generation of the keys: 16 bits of resumptions, 16 bits of rekeys. 0 before there are any. */
  readonly epoch: number
  /**
   * Counts the frames of a sender in a session, or in one channel of it, from 0. It goes on when keys are replaced (so
   * that nothing can be cut out there unseen) and starts anew at a resumption.
   */
  readonly sequence: number
  /** 32 unpredictable bits: two frames of equal content differ. */
  readonly random: number
}

export type FramePrefix = {
  /** Without the sealed bit. */
  readonly type: number
  readonly isSealed: boolean
  /** Bytes of the payload. */
  readonly length: number
  readonly nonce: FrameNonce
}

export type Frame = FramePrefix & {
  /** The 32 bytes as they came. */
  readonly prefix: Uint8Array
  /** The 64 bytes behind them: a signature, or the seal of a sealed frame. */
  readonly signature: Uint8Array
  readonly payload: Uint8Array
  /** Set by a reader that scatters, where the payload came in pieces: these. `payload` is empty then. */
  readonly parts?: readonly Uint8Array[]
}

/** Writes the first 32 bytes of a frame. */
export function encodeFramePrefix(prefix: FramePrefix): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(FRAME_PREFIX_BYTES)
  writeFramePrefix(new DataView(bytes.buffer), prefix)
  return bytes
}

/** Writes the prefix at the beginning of `view`. */
export function writeFramePrefix(view: DataView, { type, isSealed, length, nonce }: FramePrefix): void {
  view.setUint16(0, FRAME_MAGIC)
  view.setUint8(OFFSET.version, FRAME_VERSION)
  view.setUint8(OFFSET.type, isSealed ? type | SEALED_BIT : type)
  view.setUint32(OFFSET.length, length)
  setUint64(view, OFFSET.timeMs, nonce.timeMs)
  view.setUint32(OFFSET.epoch, nonce.epoch)
  setUint64(view, OFFSET.sequence, nonce.sequence)
  view.setUint32(OFFSET.random, nonce.random)
}

/** Prefix, signature and payload, in one array. */
export function encodeFrame(prefix: Uint8Array, signature: Uint8Array, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  return concatBytes([prefix, signature, payload])
}

/** What a signature covers, each part behind its length (u32), so that no two lists of parts give the same bytes. */
export function signedBytes(context: FrameContext, prefix: Uint8Array, payload: Uint8Array): Uint8Array {
  const parts = [SIGNED_DOMAIN, context.sender, context.recipient, context.session, prefix, payload]
  const bytes = new Uint8Array(parts.reduce((size, part) => size + 4 + part.byteLength, 0))
  const view = new DataView(bytes.buffer)
  let offset = 0
  for (const part of parts) {
    view.setUint32(offset, part.byteLength)
    bytes.set(part, offset + 4)
    offset += 4 + part.byteLength
  }
  return bytes
}

/** Who says it to whom in which conversation. */
export type FrameContext = {
  /** Ed25519 public keys, 32 bytes each. */
  readonly sender: Uint8Array
  readonly recipient: Uint8Array
  /** 16 bytes; zeros in a HELLO, which proposes one. */
  readonly session: Uint8Array
}

/** The seal of a sealed frame, which stands where a signature would. */
export type FrameSeal = {
  readonly tag: Uint8Array
  readonly session: Uint8Array
  readonly channel: number
  readonly counter: number
}

const SEAL = { session: 16, channel: 32, counter: 36, rest: 44 } as const

/** Bytes of the tag of a sealed frame: the first of the 64. */
export const SEAL_TAG_BYTES = SEAL.session

/** Writes session, channel and counter at their places of the 64 bytes; the tag's place stays as it is. */
export function writeSealFields(view: DataView, seal: Omit<FrameSeal, 'tag'>): void {
  new Uint8Array(view.buffer, view.byteOffset + SEAL.session, SESSION_ID_BYTES).set(seal.session)
  view.setUint32(SEAL.channel, seal.channel)
  writeSealCounter(view, seal.counter)
}

/** Writes the counter alone: the rest is the same for every frame of a channel. */
export function writeSealCounter(view: DataView, counter: number): void {
  setUint64(view, SEAL.counter, counter)
}

/** Undefined where the spare bytes are not zero or the counter is beyond what can be counted. */
export function decodeSeal(signature: Uint8Array): FrameSeal | undefined {
  const view = new DataView(signature.buffer, signature.byteOffset, signature.byteLength)
  const counter = getUint64(view, SEAL.counter)
  if (counter === undefined) return undefined
  for (let offset = SEAL.rest; offset < FRAME_SIGNATURE_BYTES; offset += 4) {
    if (view.getUint32(offset) !== 0) return undefined
  }
  return {
    tag: signature.subarray(0, SEAL.session),
    session: signature.subarray(SEAL.session, SEAL.channel),
    channel: view.getUint32(SEAL.channel),
    counter,
  }
}

/** Bytes that are no frame of ours. The stream is of no use after it. */
export type FrameFault =
  /** Not our magic: somebody else's bytes. */
  | { readonly code: 'WIRE_FRAME_FOREIGN' }
  | { readonly code: 'WIRE_FRAME_VERSION'; readonly version: number }
  | { readonly code: 'WIRE_FRAME_TYPE'; readonly type: number }
  | { readonly code: 'WIRE_FRAME_TOO_LONG'; readonly lengthBytes: number; readonly maxBytes: number }
  /** A number in the header that cannot be. */
  | { readonly code: 'WIRE_FRAME_MALFORMED' }

/** The longest payload of a type, by its first bits; undefined: this type is not taken here. */
export type PayloadLimit = (type: number, isSealed: boolean) => number | undefined

/** @param view at least 32 bytes. The magic is not looked at. */
export function decodeFramePrefix(view: DataView): FramePrefix | undefined {
  const typeByte = view.getUint8(OFFSET.type)
  const timeMs = getUint64(view, OFFSET.timeMs)
  const sequence = getUint64(view, OFFSET.sequence)
  if (timeMs === undefined || sequence === undefined) return undefined
  return {
    type: typeByte & ~SEALED_BIT,
    isSealed: (typeByte & SEALED_BIT) !== 0,
    length: view.getUint32(OFFSET.length),
    nonce: { timeMs, epoch: view.getUint32(OFFSET.epoch), sequence, random: view.getUint32(OFFSET.random) },
  }
}

function setUint64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, Math.floor(value / 2 ** 32))
  view.setUint32(offset + 4, value >>> 0)
}

/** Undefined beyond 2^53, where a JavaScript number can no longer count. */
function getUint64(view: DataView, offset: number): number | undefined {
  const value = view.getUint32(offset) * 2 ** 32 + view.getUint32(offset + 4)
  return Number.isSafeInteger(value) ? value : undefined
}
