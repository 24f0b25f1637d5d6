/** Random access to bytes that are somewhere: a file, memory, later a swarm. */
import type { HashOptions } from './file-hasher.ts'
import type { HashedFile } from './pieces.ts'

export interface ByteSource {
  /** Size in bytes. */
  readonly size: number
  /** Reads exactly `length` bytes from `offset`; fewer only where the source ends (a file that shrank meanwhile). */
  read(offset: number, length: number): Promise<Uint8Array>
  /** Hashes all of it faster than by reading it from here: in threads. Missing where there is no such way. */
  hash?(options?: HashOptions): Promise<HashedFile>
}

/** A source over bytes in memory. */
export function memorySource(bytes: Uint8Array): ByteSource {
  return {
    size: bytes.byteLength,
    read: (offset, length) => Promise.resolve(bytes.subarray(offset, offset + length)),
  }
}
