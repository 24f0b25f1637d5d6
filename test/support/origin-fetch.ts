/** What tests of origins share: files of random bytes, and reading a range to its end. */
import { seededRandom } from '#base'

/** Of any origin, whatever else it has. */
type Fetches = {
  fetch(
    range: { readonly offset: number; readonly length: number },
    options: { readonly signal: AbortSignal },
  ): AsyncIterable<Uint8Array>
}

export function randomBytes(count: number, seed = 1): Buffer {
  const random = seededRandom(seed)
  const bytes = Buffer.alloc(count)
  for (let at = 0; at + 4 <= count; at += 4) bytes.writeUInt32LE(random.uint32(), at)
  return bytes
}

/** @param options.onBytes is told how many bytes have come, after each part */
export async function fetchAll(
  origin: Fetches,
  range: { readonly offset: number; readonly length: number },
  options: { readonly signal?: AbortSignal; readonly onBytes?: (bytes: number) => void | Promise<void> } = {},
): Promise<Buffer> {
  const { signal = new AbortController().signal, onBytes } = options
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const part of origin.fetch(range, { signal })) {
    parts.push(part)
    bytes += part.byteLength
    await onBytes?.(bytes)
  }
  return Buffer.concat(parts)
}
