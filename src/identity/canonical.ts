/** Dag-cbor with one encoding for each value, as statements need it that are signed, stored and compared as bytes. */
import { decode, encode } from '@ipld/dag-cbor'
import { z } from 'zod'
import { equalInConstantTime } from '#crypto'

/** Exactly that many bytes. */
export const bytesOf = (count: number) =>
  z.custom<Uint8Array>(value => value instanceof Uint8Array && value.byteLength === count)

/** Decodes what fits the schema and is encoded in the one way; undefined: anything else. */
export function decodeCanonical<T extends z.ZodType>(schema: T, bytes: Uint8Array): z.infer<T> | undefined {
  try {
    const value: unknown = decode(bytes)
    // The decoder takes maps in any order: two encodings of one statement would be two statements to who stores them.
    return equalInConstantTime(encode(value), bytes) ? schema.safeParse(value).data : undefined
  } catch {
    return undefined // dag-cbor throws errors of many kinds for bytes that are none: all mean the same here.
  }
}
