/** A part of a file as an attachment: pieces of model files, and attachments that have arrived. */
import { abortError } from '#base'
import type { ByteSource } from '#formats'
import type { DigestedAttachment } from '#protocol'
import { ATTACHMENT_READ_BYTES } from './limits.ts'

export type FileAttachmentOptions = {
  /** Where the attachment begins. @default 0 */
  readonly offset?: number
  /** @default to the end */
  readonly sizeBytes?: number
  /** SHA-256 of the part, where the file's owner knows it: then offering it does not read it. */
  readonly sha256?: Uint8Array
  /** Called once, at the release. @default the source stays open: it belongs to the caller */
  readonly onRelease?: () => Promise<void>
}

/**
 * An attachment over a range of a source, which must stay open until the release. While one piece is being sent the
 * next one is read; no more than two are in memory.
 */
export function attachmentOfFile(source: ByteSource, options: FileAttachmentOptions = {}): DigestedAttachment {
  const { offset = 0, sha256, onRelease } = options
  const sizeBytes = options.sizeBytes ?? source.size - offset
  let released: Promise<void> | undefined
  return {
    sizeBytes,
    ...(sha256 === undefined ? {} : { sha256 }),
    async *read({ from, signal }) {
      const readAt = (at: number): Promise<Uint8Array> => {
        const reading = source.read(offset + at, Math.min(ATTACHMENT_READ_BYTES, sizeBytes - at))
        // Its error counts when its turn comes. Where that never comes, nobody else would look at it.
        reading.catch(() => undefined)
        return reading
      }
      let at = from
      for (let next = at < sizeBytes ? readAt(at) : undefined; next !== undefined; ) {
        if (signal.aborted) throw abortError(signal)
        const piece = await next
        at += piece.byteLength
        next = at < sizeBytes && piece.byteLength > 0 ? readAt(at) : undefined
        if (piece.byteLength > 0) yield piece
      }
    },
    release: () => {
      released ??= onRelease?.() ?? Promise.resolve()
      return released
    },
  }
}
