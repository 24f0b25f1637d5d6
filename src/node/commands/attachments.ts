/** Attachments of a few MiB: from bytes, and into them. */
import { abortError, concatBytes } from '#base'
import { type Attachment } from '#protocol'

/** Bytes in memory as an attachment. They must not change afterwards. */
export function bytesAttachment(bytes: Uint8Array): Attachment {
  return {
    sizeBytes: bytes.byteLength,
    read: async function* ({ from, signal }) {
      if (signal.aborted) throw abortError(signal)
      yield bytes.subarray(from)
    },
    release: async () => undefined,
  }
}

/** Reads a whole attachment, whose size the dispatcher has bounded. Undefined: no bytes. */
export async function readAttachment(attachment: Attachment | undefined, signal: AbortSignal): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  if (attachment !== undefined) for await (const part of attachment.read({ from: 0, signal })) parts.push(part)
  return concatBytes(parts)
}
