/** Random numbers for frames: drawn many at once, because a draw costs more than the frame's header. */
import type { Random } from '#base'

const POOL_BYTES = 256

/** Gives unpredictable 32-bit numbers. */
export function randomPool(random: Random): () => number {
  let view = new DataView(new ArrayBuffer(0))
  let offset = 0
  return () => {
    if (offset >= view.byteLength) {
      view = new DataView(random.bytes(POOL_BYTES).buffer)
      offset = 0
    }
    offset += 4
    return view.getUint32(offset - 4)
  }
}
