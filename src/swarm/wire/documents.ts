/** Documents in chunks (BEP 9, and Koinon's own of the same kind): giving them, and putting them together. */
import { concatBytes } from '#base'
import { CHUNK_BYTES, CHUNKS_AT_ONCE_MAX } from './limits.ts'
import type { ChunkMessage } from './types.ts'

/** The answer to a request for a chunk. @param document undefined: this side does not have it */
export function chunkOf(document: Uint8Array | undefined, chunk: number): ChunkMessage {
  const from = chunk * CHUNK_BYTES
  if (document === undefined || from >= document.byteLength) return { what: 'reject', chunk }
  const bytes = document.subarray(from, from + CHUNK_BYTES)
  return { what: 'data', chunk, totalBytes: document.byteLength, bytes }
}

/** One document from one peer. Memory grows with the chunks that came; whether it is the right one, its hash says. */
export class DocumentFetch {
  readonly #totalBytes: number
  readonly #chunks = new Map<number, Uint8Array>()
  #nextChunk = 0

  /** @param totalBytes as the other side said it, at least 1 and within the bound of its kind */
  constructor(totalBytes: number) {
    this.#totalBytes = totalBytes
  }

  /** Chunks to ask for now; each is given once. */
  orders(): number[] {
    const orders: number[] = []
    const openMax = Math.min(this.#chunkCount, this.#chunks.size + CHUNKS_AT_ONCE_MAX)
    while (this.#nextChunk < openMax) orders.push(this.#nextChunk++)
    return orders
  }

  /** @returns false where it is a chunk of another document than was announced: the peer is of no use */
  put(data: Extract<ChunkMessage, { what: 'data' }>): boolean {
    if (data.totalBytes !== this.#totalBytes || data.chunk >= this.#nextChunk) return false
    this.#chunks.set(data.chunk, data.bytes)
    return true
  }

  /** The whole; undefined while something is missing. */
  get document(): Uint8Array<ArrayBuffer> | undefined {
    if (this.#chunks.size < this.#chunkCount) return undefined
    return concatBytes([...this.#chunks].sort(([a], [b]) => a - b).map(([, bytes]) => bytes))
  }

  get #chunkCount(): number {
    return Math.ceil(this.#totalBytes / CHUNK_BYTES)
  }
}
