/**
 * Cuts the bytes of a peer into messages. Holds at most one that is not whole yet, in room that was allowed before it was
 * taken; the bytes of a block go straight into memory of their own, so that a worker can be given them without a copy.
 */
import type { WireFault } from './errors.ts'
import { malformed, tooLarge } from './faults.ts'
import { EXTENDED_BYTES_MAX, HASHES_MAX, UNKNOWN_BYTES_MAX } from './limits.ts'
import { uint32 } from './messages.ts'
import { HASH_BYTES, HASH_LAYERS_BYTES_MAX, HASH_RANGE_BYTES, ID, PIECE_HEAD_BYTES } from './protocol.ts'

const LENGTH_BYTES = 4
const HEAD_BYTES = 5

/** What the reader asks, and tells. */
export interface MessageSink {
  /** Nothing more is wanted now: `push` returns as soon as it can. */
  readonly isStopped: boolean
  /** Bytes that a bitfield may have. */
  readonly bitfieldBytes: { readonly min: number; readonly max: number }
  /** Whether this side has asked for it. Called once, before memory is taken. */
  allowPiece(piece: number, offset: number, length: number): WireFault | undefined
  /** Bytes of the largest `hashes` that this side has asked for; 0: none. */
  readonly hashesBytesMax: number
  /** Memory for a block, of a buffer of its own; its bytes are anything. @default new memory */
  readonly takeBuffer?: ((length: number) => Uint8Array<ArrayBuffer>) | undefined
  onKeepAlive(): void
  onPiece(piece: number, offset: number, bytes: Uint8Array<ArrayBuffer>): void
  /** The body is a view that is used again. @param id of a message that is not a piece */
  onBody(id: number, body: Uint8Array): WireFault | undefined
}

/** Exact lengths of bodies. */
const BODY_BYTES: ReadonlyMap<number, number> = new Map([
  [ID.choke, 0],
  [ID.unchoke, 0],
  [ID.interested, 0],
  [ID.notInterested, 0],
  [ID.have, 4],
  [ID.request, 12],
  [ID.cancel, 12],
  [ID.port, 2],
  [ID.suggest, 4],
  [ID.haveAll, 0],
  [ID.haveNone, 0],
  [ID.reject, 12],
  [ID.allowedFast, 4],
  [ID.hashRequest, HASH_RANGE_BYTES],
  [ID.hashReject, HASH_RANGE_BYTES],
])

type BodyHead = { readonly id: number; readonly bodyBytes: number }

type Filling = { readonly id: number; readonly bytes: Uint8Array<ArrayBuffer>; filled: number }

export class MessageReader {
  readonly #sink: MessageSink
  /** Length, id, and piece and offset of a block. */
  readonly #head = new Uint8Array(PIECE_HEAD_BYTES)
  #headFilled = 0
  #filling: Filling | undefined
  #skipBytes = 0
  #fault: WireFault | undefined

  constructor(sink: MessageSink) {
    this.#sink = sink
  }

  /** Bytes of memory that an unfinished message has taken. */
  get heldBytes(): number {
    return this.#headFilled + (this.#filling?.bytes.byteLength ?? 0)
  }

  /** Nothing of a message has come that is not whole. */
  get isBetweenMessages(): boolean {
    return this.#headFilled === 0 && this.#filling === undefined && this.#skipBytes === 0
  }

  /**
   * Takes bytes from `from` on. @returns where it stopped: at the end, or before because the sink wanted so; or what is wrong,
   * now and ever after
   */
  push(chunk: Uint8Array, from: number): number | WireFault {
    let at = from
    while (this.#fault === undefined && at < chunk.byteLength && !this.#sink.isStopped) {
      if (this.#filling !== undefined) at = this.#fill(this.#filling, chunk, at)
      else if (this.#skipBytes > 0) at = this.#skip(chunk, at)
      else at = this.#begin(chunk, at)
    }
    return this.#fault ?? at
  }

  #skip(chunk: Uint8Array, at: number): number {
    const skipped = Math.min(this.#skipBytes, chunk.byteLength - at)
    this.#skipBytes -= skipped
    return at + skipped
  }

  #fill(filling: Filling, chunk: Uint8Array, at: number): number {
    const count = Math.min(filling.bytes.byteLength - filling.filled, chunk.byteLength - at)
    filling.bytes.set(chunk.subarray(at, at + count), filling.filled)
    filling.filled += count
    if (filling.filled === filling.bytes.byteLength) {
      this.#filling = undefined
      if (filling.id === ID.piece) this.#givePiece(filling.bytes)
      else this.#give(filling.id, filling.bytes)
    }
    return at + count
  }

  /** Gathers the head of a message, in place of a copy of it where it lies whole in the chunk. */
  #begin(chunk: Uint8Array, at: number): number {
    const whole = chunk.byteLength - at >= PIECE_HEAD_BYTES && this.#headFilled === 0
    if (!whole) return this.#gather(chunk, at)
    const length = uint32(chunk, at)
    if (length === 0) return this.#keepAlive(at + LENGTH_BYTES)
    const id = chunk[at + LENGTH_BYTES] ?? 0
    if (id !== ID.piece) return this.#beginBody({ id, bodyBytes: length - 1 }, chunk, at + HEAD_BYTES)
    this.#head.set(chunk.subarray(at, at + PIECE_HEAD_BYTES))
    return this.#beginPiece(length, at + PIECE_HEAD_BYTES)
  }

  #gather(chunk: Uint8Array, from: number): number {
    let at = from
    while (at < chunk.byteLength) {
      this.#head[this.#headFilled++] = chunk[at++] ?? 0
      if (this.#headFilled < LENGTH_BYTES) continue
      const length = uint32(this.#head, 0)
      if (this.#headFilled === LENGTH_BYTES) {
        if (length > 0) continue
        this.#headFilled = 0
        return this.#keepAlive(at)
      }
      const id = this.#head[LENGTH_BYTES] ?? 0
      if (id !== ID.piece) {
        this.#headFilled = 0
        return this.#beginBody({ id, bodyBytes: length - 1 }, chunk, at)
      }
      if (length < PIECE_HEAD_BYTES - LENGTH_BYTES + 1) return this.#fail(malformed('a block without bytes'), at)
      if (this.#headFilled < PIECE_HEAD_BYTES) continue
      this.#headFilled = 0
      return this.#beginPiece(length, at)
    }
    return at
  }

  #keepAlive(at: number): number {
    this.#sink.onKeepAlive()
    return at
  }

  #beginPiece(length: number, at: number): number {
    const bytes = length - (PIECE_HEAD_BYTES - LENGTH_BYTES)
    if (bytes <= 0) return this.#fail(malformed('a block without bytes'), at)
    const fault = this.#sink.allowPiece(uint32(this.#head, 5), uint32(this.#head, 9), bytes)
    if (fault !== undefined) return this.#fail(fault, at)
    this.#filling = { id: ID.piece, bytes: this.#sink.takeBuffer?.(bytes) ?? ownBytes(bytes), filled: 0 }
    return at
  }

  #beginBody({ id, bodyBytes }: BodyHead, chunk: Uint8Array, at: number): number {
    const wrong = this.#checkLength(id, bodyBytes)
    if (wrong !== undefined) return this.#fail(wrong, at)
    if (!isKnown(id)) {
      this.#skipBytes = bodyBytes
      return at
    }
    const end = at + bodyBytes
    if (end <= chunk.byteLength) {
      this.#give(id, chunk.subarray(at, end))
      return end
    }
    this.#filling = { id, bytes: new Uint8Array(bodyBytes), filled: 0 }
    return at
  }

  #checkLength(id: number, bodyBytes: number): WireFault | undefined {
    const exact = BODY_BYTES.get(id)
    if (exact !== undefined) return bodyBytes === exact ? undefined : malformed(`message ${id} of another length`)
    if (id === ID.bitfield) {
      const { min, max } = this.#sink.bitfieldBytes
      if (bodyBytes > max) return tooLarge('a bitfield')
      return bodyBytes < min ? malformed('a bitfield of another length') : undefined
    }
    if (id === ID.hashes) {
      if (bodyBytes < HASH_RANGE_BYTES + HASH_BYTES) return malformed('hashes without a hash')
      if (bodyBytes > HASH_RANGE_BYTES + (HASHES_MAX * HASH_BYTES + HASH_LAYERS_BYTES_MAX)) return tooLarge('hashes')
      return bodyBytes > this.#sink.hashesBytesMax
        ? { code: 'SWARM_UNASKED', blame: 'peer', what: 'hashes' }
        : undefined
    }
    if (id === ID.extended) {
      if (bodyBytes === 0) return malformed('an extended message without an id')
      return bodyBytes > EXTENDED_BYTES_MAX ? tooLarge('an extended message') : undefined
    }
    return bodyBytes > UNKNOWN_BYTES_MAX ? tooLarge('a message of a kind that is not known') : undefined
  }

  #givePiece(bytes: Uint8Array<ArrayBuffer>): void {
    this.#sink.onPiece(uint32(this.#head, 5), uint32(this.#head, 9), bytes)
  }

  #give(id: number, body: Uint8Array): void {
    this.#fault = this.#sink.onBody(id, body)
  }

  #fail(fault: WireFault, at: number): number {
    this.#fault = fault
    return at
  }
}

function isKnown(id: number): boolean {
  return BODY_BYTES.has(id) || id === ID.bitfield || id === ID.hashes || id === ID.extended
}

/** Memory of its own, exactly so large, that need not be zeroed since all of it is overwritten before anybody sees it. */
function ownBytes(count: number): Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset, byteLength } = Buffer.allocUnsafeSlow(count)
  return new Uint8Array(buffer, byteOffset, byteLength)
}
