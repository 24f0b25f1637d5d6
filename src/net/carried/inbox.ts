/**
 * What a stream has received and nobody has taken yet. The sender keeps to a window, so this is bounded by it and a
 * carrier is read without a pause: what lies behind the data of a slow reader (acknowledgements of our own, the end) is
 * never held up. Small pieces that pile up are joined: their number is bounded too.
 */
import { OneReader, type StreamError } from '#base'
import { CARRIED_PIECES_MAX } from '../limits.ts'

/** What joined pieces share, so that many small ones become few. */
const JOINED_BYTES = 64 * 1024
const SMALL_BYTES_MAX = 8 * 1024

export class Inbox {
  readonly #reader = new OneReader(() => this.#take())
  readonly received = this.#reader.received
  readonly #onTaken: (byteLength: number) => void
  #pieces: Uint8Array[] = []
  #next = 0
  #size = 0
  #joined: { readonly bytes: Uint8Array; filled: number } | undefined

  /** @param onTaken called as a piece is given to the reader */
  constructor(onTaken: (byteLength: number) => void) {
    this.#onTaken = onTaken
  }

  /** Set once nothing more will come. */
  get end(): { readonly error?: StreamError } | undefined {
    return this.#reader.end
  }

  /** Bytes that wait. */
  get size(): number {
    return this.#size
  }

  push(piece: Uint8Array): void {
    if (this.end !== undefined) return
    if (this.#reader.give(piece)) {
      this.#onTaken(piece.byteLength)
      return
    }
    this.#size += piece.byteLength
    const isCrowded = this.#pieces.length - this.#next >= CARRIED_PIECES_MAX
    if (isCrowded && piece.byteLength <= SMALL_BYTES_MAX) this.#join(piece)
    else {
      this.#pieces.push(piece)
      this.#joined = undefined
    }
  }

  /** Nothing more comes; what is here is still read. Idempotent: the first end counts. */
  finish(error?: StreamError): void {
    this.#reader.finish(error)
  }

  /** Forgets what waits. */
  clear(): void {
    this.#pieces = []
    this.#next = 0
    this.#size = 0
    this.#joined = undefined
  }

  #join(piece: Uint8Array): void {
    const joined = this.#joined
    if (joined !== undefined && joined.filled + piece.byteLength <= JOINED_BYTES) {
      joined.bytes.set(piece, joined.filled)
      joined.filled += piece.byteLength
      this.#pieces[this.#pieces.length - 1] = joined.bytes.subarray(0, joined.filled)
      return
    }
    const bytes = new Uint8Array(JOINED_BYTES)
    bytes.set(piece)
    this.#joined = { bytes, filled: piece.byteLength }
    this.#pieces.push(bytes.subarray(0, piece.byteLength))
  }

  #take(): Uint8Array | undefined {
    const piece = this.#pieces[this.#next]
    if (piece === undefined) return undefined
    this.#pieces[this.#next++] = EMPTY
    if (this.#next === this.#pieces.length) this.#clearTaken()
    else if (this.#next > CARRIED_PIECES_MAX) {
      this.#pieces = this.#pieces.slice(this.#next)
      this.#next = 0
    }
    this.#size -= piece.byteLength
    this.#onTaken(piece.byteLength)
    return piece
  }

  #clearTaken(): void {
    this.#pieces.length = 0
    this.#next = 0
    this.#joined = undefined
  }
}

const EMPTY = new Uint8Array(0)
