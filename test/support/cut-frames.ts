/** Cuts what arrives into frames, so that somebody in between can change, hold back or repeat them one by one. */
import { concatBytes } from '#base'

const HEADER_BYTES = 96
const LENGTH_AT = 4

/** @param change what is handed on for a frame: nothing, the frame, several. `index` counts from 0 */
export async function* cutFrames(
  pieces: AsyncIterable<Uint8Array>,
  change: (frame: Uint8Array, index: number) => readonly Uint8Array[] | Promise<readonly Uint8Array[]>,
): AsyncGenerator<Uint8Array, undefined, undefined> {
  let held = new Uint8Array(0)
  let index = 0
  for await (const piece of pieces) {
    held = concatBytes([held, piece])
    for (let size = sizeOf(held); size !== undefined && held.byteLength >= size; size = sizeOf(held)) {
      const frame = held.slice(0, size)
      held = held.slice(size)
      yield* await change(frame, index++)
    }
  }
  return undefined
}

function sizeOf(bytes: Uint8Array): number | undefined {
  if (bytes.byteLength < HEADER_BYTES) return undefined
  return HEADER_BYTES + new DataView(bytes.buffer, bytes.byteOffset).getUint32(LENGTH_AT)
}
