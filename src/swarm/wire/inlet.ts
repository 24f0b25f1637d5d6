/** The receiving end of a pipe: so many bytes at first, for a handshake; then pieces as they come, for a session. */
import { concatBytes } from '#base'
import type { BytePipe } from './types.ts'

export class Inlet {
  readonly #iterator: AsyncIterator<Uint8Array>
  #rest: Uint8Array | undefined

  constructor(pipe: BytePipe) {
    this.#iterator = pipe.received[Symbol.asyncIterator]()
  }

  /** The next bytes, as they come. Rejects where the pipe breaks. Blocks come by it: it makes nothing of its own. */
  next(): Promise<IteratorResult<Uint8Array, unknown>> {
    const rest = this.#rest
    if (rest === undefined) return this.#iterator.next()
    this.#rest = undefined
    return Promise.resolve({ done: false, value: rest })
  }

  /** Exactly so many bytes; undefined where it ends before. @throws where the pipe breaks */
  async take(count: number): Promise<Uint8Array | undefined> {
    const parts: Uint8Array[] = []
    let missing = count
    while (missing > 0) {
      const { done, value: piece } = await this.next()
      if (done === true) return undefined
      parts.push(piece.subarray(0, missing))
      if (piece.byteLength > missing) this.#rest = piece.subarray(missing)
      missing -= Math.min(missing, piece.byteLength)
    }
    return concatBytes(parts)
  }
}

/** Reads to the end and throws it away. Never rejects. */
export async function drain(inlet: Inlet): Promise<void> {
  try {
    while ((await inlet.next()).done !== true) continue
  } catch {
    // Broken: an end as well.
  }
}
