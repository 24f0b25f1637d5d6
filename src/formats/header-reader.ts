/**
 * Reads little-endian values from the start of a source, block by block. Every length is checked against the source's
 * size before memory is spent on it, so a file that lies about its lengths costs nothing.
 */
import type { ByteSource } from './byte-source.ts'
import { FormatError } from './errors.ts'
import { GGUF_BLOCK_BYTES, GGUF_HEADER_BYTES_MAX } from './limits.ts'

export class HeaderReader {
  readonly #source: ByteSource
  #block: Buffer = Buffer.alloc(0)
  #view: DataView = new DataView(new ArrayBuffer(0))
  /** Where `#block` starts in the source, and where we are in `#block`. */
  #blockOffset = 0
  #cursor = 0

  constructor(source: ByteSource) {
    this.#source = source
  }

  /** Bytes from the start of the source to the next value. */
  get offset(): number {
    return this.#blockOffset + this.#cursor
  }

  /** Bytes from here to the end of the source. */
  get remaining(): number {
    return this.#source.size - this.offset
  }

  /** Whether `count` bytes are at hand. Lets tight loops skip the `await`. */
  has(count: number): boolean {
    return this.#block.byteLength - this.#cursor >= count
  }

  /** Makes `count` bytes available to the synchronous readers below. @throws FormatError */
  async need(count: number): Promise<void> {
    if (this.has(count)) return
    const start = this.offset
    if (count > this.remaining) {
      throw new FormatError(
        { code: 'FORMAT_GGUF_TRUNCATED', offset: start, size: this.#source.size },
        `the file ends at byte ${this.#source.size}, but its header needs ${count} bytes at byte ${start}: it is truncated or damaged`,
      )
    }
    if (start + count > GGUF_HEADER_BYTES_MAX) {
      throw beyondLimit('header bytes', { value: start + count, offset: start, limit: GGUF_HEADER_BYTES_MAX })
    }
    const length = Math.min(Math.max(count, GGUF_BLOCK_BYTES), this.remaining)
    const bytes = await this.#source.read(start, length)
    if (bytes.byteLength < count) {
      throw new FormatError(
        { code: 'FORMAT_GGUF_TRUNCATED', offset: start, size: start + bytes.byteLength },
        `the file became shorter while it was read: ${count} bytes at byte ${start} are gone`,
      )
    }
    this.#block = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#blockOffset = start
    this.#cursor = 0
  }

  /** The readers below want their bytes to be there: call `need` first. */
  uint32(): number {
    return this.#view.getUint32(this.#advance(4), true)
  }

  /** A number where it is exact, else a bigint. */
  uint64(): number | bigint {
    const value = this.#view.getBigUint64(this.#advance(8), true)
    return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value
  }

  /** Reads a scalar through a `DataView` getter. */
  scalar<T>(size: number, get: (view: DataView, at: number) => T): T {
    return get(this.#view, this.#advance(size))
  }

  /** UTF-8 text of `length` bytes; bytes that are not UTF-8 become U+FFFD. */
  text(length: number): string {
    const start = this.#advance(length)
    return this.#block.toString('utf8', start, start + length)
  }

  /** A string (length, bytes) where all of it is at hand; else undefined, and nothing is taken. */
  textAtHand(): string | undefined {
    if (!this.has(8)) return undefined
    const length = this.#view.getBigUint64(this.#cursor, true)
    if (length > BigInt(this.#block.byteLength - this.#cursor - 8)) return undefined
    this.#cursor += 8
    return this.text(Number(length))
  }

  /**
   * A 64-bit count or length, refused above `max`, or where so many items of at least `itemBytes` cannot follow.
   * @throws FormatError
   */
  count(what: string, bounds: { readonly max: number; readonly itemBytes: number }): number {
    const offset = this.offset
    const value = Number(this.uint64())
    if (value > bounds.max) throw beyondLimit(what, { value, offset, limit: bounds.max })
    if (value * bounds.itemBytes > this.remaining) {
      throw new FormatError(
        { code: 'FORMAT_GGUF_TRUNCATED', offset, size: this.#source.size },
        `the file claims ${value} ${what} at byte ${offset}, but ends at byte ${this.#source.size}: it is truncated or damaged`,
      )
    }
    return value
  }

  #advance(count: number): number {
    const at = this.#cursor
    this.#cursor += count
    return at
  }
}

function beyondLimit(what: string, found: { value: number; offset: number; limit: number }): FormatError {
  const { value, offset, limit } = found
  return new FormatError(
    { code: 'FORMAT_GGUF_LIMIT', value, limit, offset },
    `the file claims ${value} ${what} at byte ${offset}; at most ${limit} are read`,
  )
}
