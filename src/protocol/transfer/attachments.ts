/** Attachments in memory, and reading small ones whole. */
import { abortError, concatBytes } from '#base'
import type { Attachment } from '../command.ts'
import { TransferError } from '../transfer-errors.ts'
import type { DigestedAttachment } from './types.ts'

/** An attachment over bytes that nobody changes any more. They are not copied. */
export function attachmentOfBytes(bytes: Uint8Array): Attachment {
  return attachmentOfParts([bytes], {})
}

/** An attachment over parts in memory, in order. */
export function attachmentOfParts(
  parts: readonly Uint8Array[],
  options: { readonly sha256?: Uint8Array; readonly onRelease?: () => void },
): DigestedAttachment {
  let held = parts
  let isReleased = false
  return {
    sizeBytes: parts.reduce((size, part) => size + part.byteLength, 0),
    ...(options.sha256 === undefined ? {} : { sha256: options.sha256 }),
    async *read({ from, signal }) {
      let skip = from
      for (const part of held) {
        if (signal.aborted) throw abortError(signal)
        const rest = part.subarray(Math.min(skip, part.byteLength))
        skip -= part.byteLength - rest.byteLength
        if (rest.byteLength > 0) yield rest
      }
    },
    release: () => {
      if (!isReleased) options.onRelease?.()
      isReleased = true
      held = []
      return Promise.resolve()
    },
  }
}

/**
 * Reads a whole attachment into memory. It is not released.
 * @throws TransferError TRANSFER_TOO_LARGE, before anything is read; TRANSFER_SOURCE where it has not its size
 */
export async function readAll(
  attachment: Attachment,
  options: { readonly maxBytes: number; readonly signal: AbortSignal },
): Promise<Uint8Array<ArrayBuffer>> {
  const { sizeBytes } = attachment
  if (sizeBytes > options.maxBytes) throw tooLarge(sizeBytes, options.maxBytes)
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const part of attachment.read({ from: 0, signal: options.signal })) {
    bytes += part.byteLength
    if (bytes > sizeBytes) break
    parts.push(part)
  }
  if (bytes !== sizeBytes) throw wrongSize(sizeBytes)
  return concatBytes(parts)
}

export function tooLarge(sizeBytes: number, maxBytes: number): TransferError {
  return new TransferError(
    { code: 'TRANSFER_TOO_LARGE', sizeBytes, maxBytes },
    `an attachment of ${sizeBytes} bytes; at most ${maxBytes} are taken`,
  )
}

export function wrongSize(sizeBytes: number): TransferError {
  return new TransferError(
    { code: 'TRANSFER_SOURCE' },
    `what was offered as ${sizeBytes} bytes has become shorter or longer`,
  )
}
