/** Small pieces of dag-cbor with one encoding for each value, as what is signed needs it. */
import { decode, encode } from '@ipld/dag-cbor'
import { equalInConstantTime } from '#crypto'

/** The value; undefined for bytes that are none, or that say one in another than the canonical way. For some KiB at most. */
export function decodeCanonicalCbor(bytes: Uint8Array): unknown {
  try {
    const value: unknown = decode(bytes)
    return equalInConstantTime(encode(value), bytes) ? value : undefined
  } catch {
    return undefined // dag-cbor throws errors of many kinds for bytes that are none: all mean the same here.
  }
}
