/** The digest of what is offered, and the checks of its chunks, made in one pass. */
import { Sha256 } from '#crypto'
import { TRANSFER_CHUNK_BYTES } from '../limits.ts'
import { wrongSize } from './attachments.ts'
import { CHECK_BYTES } from './messages.ts'
import type { DigestedAttachment } from './types.ts'

export type Digest = {
  /** SHA-256 of all bytes. */
  readonly sha256: Uint8Array
  /**
   * For each chunk the first bytes of the SHA-256 of everything up to its end, one after the other. A by-product of the
   * digest, so a chunk is checked without another pass. Empty: the owner knew the digest, nobody has read the bytes.
   */
  readonly checks: Uint8Array
}

/** The check of the chunk at `offset`. Undefined: not known. */
export function checkOf(digest: Digest, offset: number): Uint8Array | undefined {
  const at = (offset / TRANSFER_CHUNK_BYTES) * CHECK_BYTES
  return digest.checks.byteLength === 0 ? undefined : digest.checks.subarray(at, at + CHECK_BYTES)
}

/** Reads the whole attachment, unless its owner knows the digest. @throws TransferError TRANSFER_SOURCE, or what reading throws */
export async function digestOf(attachment: DigestedAttachment, signal: AbortSignal): Promise<Digest> {
  if (attachment.sha256 !== undefined) return { sha256: attachment.sha256, checks: new Uint8Array(0) }
  const { sizeBytes } = attachment
  const checks = new Uint8Array(CHECK_BYTES * Math.ceil(sizeBytes / TRANSFER_CHUNK_BYTES))
  const hash = new Sha256()
  let read = 0
  for await (const piece of attachment.read({ from: 0, signal })) {
    if (read + piece.byteLength > sizeBytes) throw wrongSize(sizeBytes)
    for (let rest = piece; rest.byteLength > 0; ) {
      const part = rest.subarray(0, TRANSFER_CHUNK_BYTES - (read % TRANSFER_CHUNK_BYTES))
      hash.update(part)
      read += part.byteLength
      rest = rest.subarray(part.byteLength)
      const isChunkEnd = read % TRANSFER_CHUNK_BYTES === 0 || read === sizeBytes
      if (isChunkEnd) {
        const index = Math.ceil(read / TRANSFER_CHUNK_BYTES) - 1
        checks.set(hash.snapshot().subarray(0, CHECK_BYTES), index * CHECK_BYTES)
      }
    }
  }
  if (read !== sizeBytes) throw wrongSize(sizeBytes)
  return { sha256: hash.digest(), checks }
}
