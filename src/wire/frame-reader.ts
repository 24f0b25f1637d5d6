/** Cuts a byte stream into frames (`frame.ts`). Each check is made as soon as its bytes are there. */
import {
  decodeFramePrefix,
  type Frame,
  FRAME_HEADER_BYTES,
  FRAME_MAGIC,
  FRAME_PREFIX_BYTES,
  type FrameFault,
  type FramePrefix,
  type PayloadLimit,
} from './frame.ts'
import { SEALED_BIT } from './frame-types.ts'
import { FRAME_VERSION } from './versions.ts'

/** The room that an unfinished payload gets at first; it doubles as bytes arrive. */
const ROOM_BYTES_MIN = 1024

/** A reader that scatters copies shorter pieces together: a view of each would take more memory than its bytes. */
const PART_BYTES_MIN = 4 * 1024

/** The room in which it does. */
const TAIL_BYTES = 16 * 1024

/**
 * Holds at most one unfinished frame, in room that grows with the bytes that arrived, never with the length that was
 * announced. A frame that lies wholly in one piece is handed out as views of that piece.
 */
export class FrameReader {
  #limit: PayloadLimit
  #held = new Uint8Array(FRAME_HEADER_BYTES)
  #filled = 0
  /** The prefix of the frame that is being read, once its bytes are there and were checked. */
  #prefix: FramePrefix | undefined
  #fault: FrameFault | undefined
  readonly #scatters: boolean
  readonly #parts = new Parts()

  /**
   * @param options.scatters whether a payload that came in pieces is handed out as such (`Frame.parts`), which spares
   * the copies where it is large
   */
  constructor(limit: PayloadLimit, options: { readonly scatters?: boolean } = {}) {
    this.#limit = limit
    this.#scatters = options.scatters === true
  }

  /** Bytes of an unfinished frame that are held now. */
  get pendingBytes(): number {
    return this.#filled + this.#parts.bytes
  }

  /** Bytes of memory that are set aside for it: at most twice what has arrived, or 1 KiB. */
  get roomBytes(): number {
    return this.#held.byteLength
  }

  /** Which types are taken from the next frame on, and how long. */
  setLimit(limit: PayloadLimit): void {
    this.#limit = limit
  }

  /**
   * The frames that `piece` completes. Taken one by one, so that a frame can change the limit for the next. The last
   * thing that comes out may be a fault; after it every call gives that fault. Whoever does not take all of them loses
   * the rest of the piece.
   */
  *push(piece: Uint8Array): Generator<Frame | FrameFault, void> {
    let rest = piece
    while (this.#fault === undefined) {
      if (
        this.#scatters &&
        this.#prefix !== undefined &&
        this.#filled === FRAME_HEADER_BYTES &&
        this.#prefix.length > 0
      ) {
        rest = this.#parts.take(rest, this.#prefix.length)
        if (this.#parts.bytes < this.#prefix.length) return
        yield this.#takeScattered()
        continue
      }
      const isHeld = this.#filled > 0
      const bytes = isHeld ? this.#held.subarray(0, this.#filled) : rest
      const needed = this.#needed(bytes)
      if (typeof needed !== 'number') {
        this.#fault = needed
        break
      }
      if (bytes.byteLength < needed) {
        if (rest.byteLength === 0) return
        rest = this.#hold(rest, this.#scatters ? Math.min(needed, FRAME_HEADER_BYTES) : needed)
        continue
      }
      const frame = this.#take(bytes, needed)
      if (isHeld) this.#release()
      else rest = rest.subarray(needed)
      yield frame
    }
    yield this.#fault
  }

  /** How many bytes this frame takes, as far as its first bytes tell. */
  #needed(bytes: Uint8Array): number | FrameFault {
    if (this.#prefix !== undefined) return FRAME_HEADER_BYTES + this.#prefix.length
    // A foreign byte is noticed at once: at the first or at the second.
    if (bytes.byteLength >= 1 && bytes[0] !== FRAME_MAGIC >> 8) return { code: 'WIRE_FRAME_FOREIGN' }
    if (bytes.byteLength >= 2 && bytes[1] !== (FRAME_MAGIC & 0xff)) return { code: 'WIRE_FRAME_FOREIGN' }
    if (bytes.byteLength < 3) return FRAME_HEADER_BYTES
    const version = bytes[2] ?? 0
    if (version !== FRAME_VERSION) return { code: 'WIRE_FRAME_VERSION', version }
    if (bytes.byteLength < 4) return FRAME_HEADER_BYTES
    const typeByte = bytes[3] ?? 0
    const maxBytes = this.#limit(typeByte & ~SEALED_BIT, (typeByte & SEALED_BIT) !== 0)
    if (maxBytes === undefined) return { code: 'WIRE_FRAME_TYPE', type: typeByte }
    if (bytes.byteLength < 8) return FRAME_HEADER_BYTES
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const lengthBytes = view.getUint32(4)
    if (lengthBytes > maxBytes) return { code: 'WIRE_FRAME_TOO_LONG', lengthBytes, maxBytes }
    if (bytes.byteLength < FRAME_PREFIX_BYTES) return FRAME_HEADER_BYTES
    this.#prefix = decodeFramePrefix(view)
    return this.#prefix === undefined ? { code: 'WIRE_FRAME_MALFORMED' } : FRAME_HEADER_BYTES + lengthBytes
  }

  #hold(rest: Uint8Array, needed: number): Uint8Array {
    const taken = rest.subarray(0, needed - this.#filled)
    const bytes = this.#filled + taken.byteLength
    if (bytes > this.#held.byteLength) {
      const room = Math.min(needed, Math.max(bytes, 2 * this.#held.byteLength, ROOM_BYTES_MIN))
      const grown = new Uint8Array(room)
      grown.set(this.#held.subarray(0, this.#filled))
      this.#held = grown
    }
    this.#held.set(taken, this.#filled)
    this.#filled = bytes
    return rest.subarray(taken.byteLength)
  }

  #take(bytes: Uint8Array, needed: number): Frame {
    const prefix = this.#prefix
    if (prefix === undefined) throw new TypeError('a whole frame has a prefix')
    this.#prefix = undefined
    return {
      type: prefix.type,
      isSealed: prefix.isSealed,
      length: prefix.length,
      nonce: prefix.nonce,
      prefix: bytes.subarray(0, FRAME_PREFIX_BYTES),
      signature: bytes.subarray(FRAME_PREFIX_BYTES, FRAME_HEADER_BYTES),
      payload: bytes.subarray(FRAME_HEADER_BYTES, needed),
    }
  }

  #takeScattered(): Frame {
    const frame = this.#take(this.#held, FRAME_HEADER_BYTES)
    this.#release()
    const parts = this.#parts.release()
    const [only] = parts
    return only !== undefined && parts.length === 1 ? { ...frame, payload: only } : { ...frame, parts }
  }

  /** The bytes that were held went out with their frame. */
  #release(): void {
    this.#held = new Uint8Array(FRAME_HEADER_BYTES)
    this.#filled = 0
  }
}

/** The pieces of one payload, as they came; short ones copied together, so that their number is bounded by their bytes. */
class Parts {
  bytes = 0
  #parts: Uint8Array[] = []
  #tail = new Uint8Array(0)
  #tailFilled = 0

  /** @returns what is left of the piece once the payload has all its bytes */
  take(piece: Uint8Array, length: number): Uint8Array {
    const taken = piece.subarray(0, length - this.bytes)
    this.bytes += taken.byteLength
    if (taken.byteLength >= PART_BYTES_MIN) {
      this.#flush()
      this.#parts.push(taken)
    } else if (taken.byteLength > 0) this.#append(taken)
    return piece.subarray(taken.byteLength)
  }

  release(): readonly Uint8Array[] {
    this.#flush()
    const parts = this.#parts
    this.#parts = []
    this.bytes = 0
    return parts
  }

  #append(bytes: Uint8Array): void {
    if (this.#tailFilled + bytes.byteLength > this.#tail.byteLength) {
      this.#flush()
      this.#tail = new Uint8Array(TAIL_BYTES)
    }
    this.#tail.set(bytes, this.#tailFilled)
    this.#tailFilled += bytes.byteLength
  }

  #flush(): void {
    if (this.#tailFilled > 0) this.#parts.push(this.#tail.subarray(0, this.#tailFilled))
    this.#tail = this.#tail.subarray(this.#tailFilled)
    this.#tailFilled = 0
  }
}
