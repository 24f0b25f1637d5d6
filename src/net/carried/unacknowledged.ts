/**
 * What a stream has sent and the other side has not taken yet, in order: as references to what the stream was given, so
 * nothing is copied, but for small writes, which are joined so that many of them take no more memory than few large ones.
 *
 *     released ........ acknowledged ........ sent ........ end
 *        |  may be sent again                   |  waits
 */

/** Below it a write is copied into a slab with its neighbours. */
const SMALL_BYTES_MAX = 512
const SLAB_BYTES = 16 * 1024

export class Unacknowledged {
  #chunks: Uint8Array[] = []
  /** Of the first chunk. */
  #start = 0
  #sent = 0
  #end = 0
  /** The chunk in which `sent` lies, and where that begins. */
  #cursor = { index: 0, start: 0 }
  #slab: { readonly bytes: Uint8Array; filled: number } | undefined

  get released(): number {
    return this.#start
  }

  get sent(): number {
    return this.#sent
  }

  get end(): number {
    return this.#end
  }

  /** Bytes that are held. */
  get size(): number {
    return this.#end - this.#start
  }

  /** Takes bytes over: they may not be changed any more. */
  push(bytes: Uint8Array): void {
    this.#end += bytes.byteLength
    if (bytes.byteLength > SMALL_BYTES_MAX) {
      this.#chunks.push(bytes)
      this.#slab = undefined
      return
    }
    const slab = this.#slab
    if (slab !== undefined && slab.filled + bytes.byteLength <= SLAB_BYTES) {
      slab.bytes.set(bytes, slab.filled)
      slab.filled += bytes.byteLength
      const last = this.#chunks.length - 1
      const before = this.#chunks[last] as Uint8Array
      // A piece of the slab's beginning may have been released: the chunk goes on from where it is.
      const from = before.byteOffset
      this.#chunks[last] = new Uint8Array(slab.bytes.buffer, from, slab.filled - from)
      return
    }
    const fresh = { bytes: new Uint8Array(SLAB_BYTES), filled: bytes.byteLength }
    fresh.bytes.set(bytes)
    this.#slab = fresh
    this.#chunks.push(fresh.bytes.subarray(0, fresh.filled))
  }

  /** Counts so many bytes as sent: those that were pushed last, by whoever sent them himself. */
  sentAll(): void {
    this.#sent = this.#end
    const index = Math.max(0, this.#chunks.length - 1)
    this.#cursor = { index, start: this.#end - (this.#chunks[index]?.byteLength ?? 0) }
  }

  /** The next bytes to send, at most so many; they count as sent. Undefined: there are none. */
  next(maxBytes: number): Uint8Array | undefined {
    if (this.#sent >= this.#end || maxBytes <= 0) return undefined
    let { index, start } = this.#cursor
    for (;;) {
      const chunk = this.#chunks[index] as Uint8Array
      if (this.#sent < start + chunk.byteLength) {
        const from = this.#sent - start
        const bytes = chunk.subarray(from, from + maxBytes)
        this.#sent += bytes.byteLength
        this.#cursor = { index, start }
        return bytes
      }
      start += chunk.byteLength
      index++
    }
  }

  /** Lets go of what lies before `offset`, which must have been sent once. */
  release(offset: number): void {
    let count = 0
    while (count < this.#chunks.length) {
      const { byteLength } = this.#chunks[count] as Uint8Array
      if (this.#start + byteLength > offset) break
      this.#start += byteLength
      count++
    }
    if (count > 0) {
      this.#chunks.splice(0, count)
      if (this.#chunks.length === 0) this.#slab = undefined
      this.#cursor = {
        index: Math.max(0, this.#cursor.index - count),
        start: Math.max(this.#start, this.#cursor.start),
      }
      if (this.#cursor.index === 0) this.#cursor.start = this.#start
    }
  }

  /** Sends again from here on. */
  rewind(offset: number): void {
    this.#sent = offset
    this.#cursor = { index: 0, start: this.#start }
  }

  clear(): void {
    this.#chunks = []
    this.#slab = undefined
    this.#start = this.#end
    this.#sent = this.#end
    this.#cursor = { index: 0, start: this.#end }
  }
}
