/**
 * How a stream that may change its carrier lies in one: frames, each a header (u32, big-endian: the kind in its first
 * byte, the length of what follows in the other three) and so many bytes. Only data is of any length, and it is handed on
 * as it comes: lengths cost no memory.
 *
 *     0 DATA     1 ... 1 MiB
 *     1 ACK      u64 consumed
 *     2 FIN      u64 length of the direction
 *     3 FIN_ACK
 *     4 RESET    u8 why
 *     5 OPEN     16 bytes id, u32 number of the carrier, u8 flags, u64 received, u64 consumed: the opener's first
 *     6 READY    u64 received, u64 consumed: the listener's first
 */
import { concatBytes } from '#base'
import { CARRIED_DATA_BYTES_MAX } from '../limits.ts'

export const STREAM_ID_BYTES = 16
const HEADER_BYTES = 4
const U64_BYTES = 8
const U32_SPAN = 2 ** 32
const OPEN_BYTES = STREAM_ID_BYTES + 4 + 1 + 2 * U64_BYTES
/** Flag of OPEN: the opener has heard from the listener on this stream before. */
const HAS_HEARD = 1

const KIND = { data: 0, ack: 1, fin: 2, finAck: 3, reset: 4, open: 5, ready: 6 } as const
/** Bytes behind the header, by kind. */
const LENGTHS: readonly (number | undefined)[] = [undefined, U64_BYTES, U64_BYTES, 0, 1, OPEN_BYTES, 2 * U64_BYTES]

/** Why a stream ends at once: `reset` by its user, `unknown` to the peer, `finished` both ways before, or for a `fault`. */
export type ResetReason = 'reset' | 'unknown' | 'finished' | 'fault' | 'full'
const RESET_REASONS: readonly ResetReason[] = ['reset', 'unknown', 'finished', 'fault', 'full']

/** Offsets of one side: what it has received of the other's bytes, and what of that its user has taken. */
export type Received = { readonly received: number; readonly consumed: number }

export type OpenFrame = Received & {
  readonly kind: 'open'
  /** 16 random bytes that only the two ends know. */
  readonly id: Uint8Array
  /** Counts the carriers of the stream; 0 is the first. */
  readonly number: number
  readonly hasHeard: boolean
}

export type CarriedFrame =
  | { readonly kind: 'ack'; readonly consumed: number }
  | { readonly kind: 'fin'; readonly length: number }
  | { readonly kind: 'fin-ack' }
  | { readonly kind: 'reset'; readonly reason: ResetReason }
  | OpenFrame
  | ({ readonly kind: 'ready' } & Received)

/** What stands before so many bytes of data. */
export function dataHeader(byteLength: number): Uint8Array {
  return headerOf(KIND.data, byteLength)
}

export function encodeCarried(frame: CarriedFrame): Uint8Array {
  switch (frame.kind) {
    case 'ack':
      return concatBytes([headerOf(KIND.ack, U64_BYTES), u64(frame.consumed)])
    case 'fin':
      return concatBytes([headerOf(KIND.fin, U64_BYTES), u64(frame.length)])
    case 'fin-ack':
      return headerOf(KIND.finAck, 0)
    case 'reset':
      return concatBytes([headerOf(KIND.reset, 1), Uint8Array.of(RESET_REASONS.indexOf(frame.reason))])
    case 'ready':
      return concatBytes([headerOf(KIND.ready, 2 * U64_BYTES), u64(frame.received), u64(frame.consumed)])
    default: {
      const fixed = new Uint8Array(5)
      new DataView(fixed.buffer).setUint32(0, frame.number)
      fixed[4] = frame.hasHeard ? HAS_HEARD : 0
      return concatBytes([headerOf(KIND.open, OPEN_BYTES), frame.id, fixed, u64(frame.received), u64(frame.consumed)])
    }
  }
}

export type FrameSink = {
  /** Bytes of the stream: a view of what was pushed. */
  readonly onData: (bytes: Uint8Array) => void
  readonly onFrame: (frame: CarriedFrame) => void
}

/** Finds the frames in what a carrier brings, without copying data. */
export class CarriedReader {
  readonly #fixed = new Uint8Array(HEADER_BYTES + OPEN_BYTES)
  readonly #view = new DataView(this.#fixed.buffer)
  #filled = 0
  /** Bytes of a header, and of what belongs to it where that is no data. */
  #wanted = HEADER_BYTES
  #dataLeft = 0

  /** @returns what cannot be read; undefined: nothing yet */
  push(piece: Uint8Array, sink: FrameSink): string | undefined {
    let at = 0
    while (at < piece.byteLength) {
      if (this.#dataLeft > 0) {
        const bytes = at === 0 && piece.byteLength <= this.#dataLeft ? piece : piece.subarray(at, at + this.#dataLeft)
        this.#dataLeft -= bytes.byteLength
        at += bytes.byteLength
        sink.onData(bytes)
        continue
      }
      while (at < piece.byteLength && this.#filled < this.#wanted) this.#fixed[this.#filled++] = piece[at++] ?? 0
      if (this.#filled < this.#wanted) return undefined
      if (this.#wanted === HEADER_BYTES) {
        const fault = this.#onHeader()
        if (fault !== undefined) return fault
        if (this.#filled < this.#wanted) continue
      }
      const frame = this.#filled === 0 ? undefined : this.#decode()
      if (typeof frame === 'string') return frame
      if (frame !== undefined) sink.onFrame(frame)
    }
    return undefined
  }

  #onHeader(): string | undefined {
    const header = this.#view.getUint32(0)
    const kind = header >>> 24
    const length = header & 0xff_ffff
    if (kind === KIND.data) {
      if (length === 0 || length > CARRIED_DATA_BYTES_MAX) return 'data of a length that cannot be'
      this.#dataLeft = length
      this.#filled = 0
      return undefined
    }
    if (LENGTHS[kind] !== length) return 'a frame of no known kind and length'
    this.#wanted = HEADER_BYTES + length
    return undefined
  }

  #decode(): CarriedFrame | string {
    const kind = this.#fixed[0]
    this.#filled = 0
    this.#wanted = HEADER_BYTES
    switch (kind) {
      case KIND.ack:
        return whole({ kind: 'ack', consumed: this.#u64(4) }, this.#u64(4))
      case KIND.fin:
        return whole({ kind: 'fin', length: this.#u64(4) }, this.#u64(4))
      case KIND.finAck:
        return { kind: 'fin-ack' }
      case KIND.ready:
        return received({ kind: 'ready', received: this.#u64(4), consumed: this.#u64(12) })
      case KIND.reset: {
        const reason = RESET_REASONS[this.#fixed[4] ?? 0]
        return reason === undefined ? 'a reset for no known reason' : { kind: 'reset', reason }
      }
      default: {
        const at = HEADER_BYTES + STREAM_ID_BYTES
        const flags = this.#fixed[at + 4] ?? 0
        if (flags > HAS_HEARD) return 'an opening with unknown flags'
        return received({
          kind: 'open',
          id: this.#fixed.slice(HEADER_BYTES, at),
          number: this.#view.getUint32(at),
          hasHeard: flags === HAS_HEARD,
          received: this.#u64(at + 5),
          consumed: this.#u64(at + 5 + U64_BYTES),
        })
      }
    }
  }

  #u64(at: number): number {
    return this.#view.getUint32(at) * U32_SPAN + this.#view.getUint32(at + 4)
  }
}

function whole(frame: CarriedFrame, offset: number): CarriedFrame | string {
  return Number.isSafeInteger(offset) ? frame : 'an offset that no stream reaches'
}

function received<T extends CarriedFrame & Received>(frame: T): T | string {
  if (!Number.isSafeInteger(frame.received)) return 'an offset that no stream reaches'
  return frame.consumed <= frame.received ? frame : 'more taken than received'
}

function headerOf(kind: number, length: number): Uint8Array {
  return Uint8Array.of(kind, length >>> 16, (length >>> 8) & 0xff, length & 0xff)
}

function u64(value: number): Uint8Array {
  const bytes = new Uint8Array(U64_BYTES)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, Math.floor(value / U32_SPAN))
  view.setUint32(4, value % U32_SPAN)
  return bytes
}
