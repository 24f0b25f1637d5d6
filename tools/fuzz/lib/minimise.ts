/** Makes an input that fails smaller, as long as it fails in the same way. */
import { concatBytes } from '#base'

const TRIES_MAX = 4000

/** @param fails whether the input still fails as the first one did */
export async function minimise(input: Uint8Array, fails: (input: Uint8Array) => Promise<boolean>): Promise<Uint8Array> {
  let smallest = input
  let tries = 0
  const attempt = async (candidate: Uint8Array): Promise<boolean> => {
    if (candidate.byteLength >= smallest.byteLength || tries++ > TRIES_MAX || !(await fails(candidate))) return false
    smallest = candidate
    return true
  }
  for (let size = Math.ceil(input.byteLength / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let from = 0; from < smallest.byteLength; ) {
      const without = concatBytes([smallest.subarray(0, from), smallest.subarray(from + size)])
      if (!(await attempt(without))) from += size
    }
  }
  return smallest
}
