/**
 * Length-prefixed frames over a byte stream: `u32 big-endian length | body`. Streams deliver pieces of any size, so
 * a reader has to join and cut them; it does so without spending memory that the other side has not sent yet.
 */

/** Bytes in front of each body. */
const FRAME_HEADER_BYTES = 4

/** The room that a frame's first piece gets; it doubles as bytes arrive. */
const ROOM_BYTES_MIN = 1024

/** A frame that announces more than its reader accepts. The stream is of no use after it. */
export type LengthFault = {
  readonly code: 'WIRE_LENGTH'
  readonly lengthBytes: number
  readonly maxBytes: number
}

/** Puts the length before a body. */
export function withLengthPrefix(body: Uint8Array): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(FRAME_HEADER_BYTES + body.byteLength)
  new DataView(frame.buffer).setUint32(0, body.byteLength)
  frame.set(body, FRAME_HEADER_BYTES)
  return frame
}

/**
 * Cuts a byte stream into frames. Holds at most one unfinished frame, in room that grows with the bytes that arrived
 * (never with the length that was announced).
 */
export class LengthPrefixReader {
  readonly #bodyBytesMax: number
  readonly #header = new Uint8Array(FRAME_HEADER_BYTES)
  #headerFilled = 0
  #body = new Uint8Array(0)
  #bodyFilled = 0
  #bodyLength = 0
  #fault: LengthFault | undefined

  /** @param bodyBytesMax the longest body that is accepted; a longer one is a fault as soon as its header is read */
  constructor(bodyBytesMax: number) {
    this.#bodyBytesMax = bodyBytesMax
  }

  /** Bytes of an unfinished frame that are held now, header included. 0 between frames. */
  get pendingBytes(): number {
    return this.#headerFilled + this.#bodyFilled
  }

  /**
   * Takes the next piece and returns the frames that it completes. A body that lies wholly in `piece` is a view of it,
   * not a copy. After a fault every call returns that fault.
   */
  push(piece: Uint8Array): readonly Uint8Array[] | LengthFault {
    const bodies: Uint8Array[] = []
    let rest = piece
    while (this.#fault === undefined && (rest.byteLength > 0 || this.#isComplete())) {
      if (this.#headerFilled < FRAME_HEADER_BYTES) rest = this.#takeHeader(rest)
      else rest = this.#takeBody(rest, bodies)
    }
    return this.#fault ?? bodies
  }

  /** An empty body is complete with its header, before any further byte arrives. */
  #isComplete(): boolean {
    return this.#headerFilled === FRAME_HEADER_BYTES && this.#bodyFilled === this.#bodyLength
  }

  #takeHeader(rest: Uint8Array): Uint8Array {
    const taken = rest.subarray(0, FRAME_HEADER_BYTES - this.#headerFilled)
    this.#header.set(taken, this.#headerFilled)
    this.#headerFilled += taken.byteLength
    if (this.#headerFilled === FRAME_HEADER_BYTES) {
      this.#bodyLength = new DataView(this.#header.buffer).getUint32(0)
      if (this.#bodyLength > this.#bodyBytesMax) {
        this.#fault = {
          code: 'WIRE_LENGTH',
          lengthBytes: this.#bodyLength,
          maxBytes: this.#bodyBytesMax,
        }
      }
    }
    return rest.subarray(taken.byteLength)
  }

  #takeBody(rest: Uint8Array, bodies: Uint8Array[]): Uint8Array {
    const taken = rest.subarray(0, this.#bodyLength - this.#bodyFilled)
    if (taken.byteLength === this.#bodyLength) {
      bodies.push(taken)
      this.#reset()
      return rest.subarray(taken.byteLength)
    }
    this.#makeRoom(this.#bodyFilled + taken.byteLength)
    this.#body.set(taken, this.#bodyFilled)
    this.#bodyFilled += taken.byteLength
    if (this.#bodyFilled === this.#bodyLength) {
      bodies.push(this.#body.subarray(0, this.#bodyLength))
      this.#reset()
    }
    return rest.subarray(taken.byteLength)
  }

  #makeRoom(bytes: number): void {
    if (bytes <= this.#body.byteLength) return
    const room = Math.max(bytes, 2 * this.#body.byteLength, ROOM_BYTES_MIN)
    const grown = new Uint8Array(Math.min(this.#bodyLength, room))
    grown.set(this.#body.subarray(0, this.#bodyFilled))
    this.#body = grown
  }

  #reset(): void {
    this.#headerFilled = 0
    this.#body = new Uint8Array(0)
    this.#bodyFilled = 0
    this.#bodyLength = 0
  }
}
