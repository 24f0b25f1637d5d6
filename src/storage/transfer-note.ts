/** What stands beside the file of an unfinished attachment: whose it is, and how much of it is good. */
import { z } from 'zod'
import { fromHex, toHex } from '#base'

export type TransferNote = {
  readonly peer: string
  /** Of the whole, as announced. */
  readonly sha256: Uint8Array
  readonly sizeBytes: number
  /** Bytes from the start that are good, and their SHA-256. */
  readonly keptBytes: number
  readonly keptSha256: Uint8Array
  /** Unix milliseconds. */
  readonly at: number
}

const digest = z
  .string()
  .regex(/^[0-9a-f]{64}$/)
  .transform(fromHex)
const size = z
  .int()
  .min(1)
  .max(2 ** 32)

const noteSchema = z
  .object({
    version: z.literal(1),
    peer: z.string().min(1).max(128),
    sha256: digest,
    sizeBytes: size,
    keptBytes: size,
    keptSha256: digest,
    at: z.int().min(0),
  })
  .refine(note => note.keptBytes <= note.sizeBytes)
  .transform(({ version: _version, ...note }): TransferNote => note)

export function encodeNote(note: TransferNote): string {
  const { peer, sizeBytes, keptBytes, at } = note
  const digests = { sha256: toHex(note.sha256), keptSha256: toHex(note.keptSha256) }
  return `${JSON.stringify({ version: 1, peer, sizeBytes, keptBytes, at, ...digests })}\n`
}

/** Undefined: damaged, or of another version. */
export function decodeNote(text: string): TransferNote | undefined {
  try {
    return noteSchema.safeParse(JSON.parse(text)).data
  } catch {
    // Not JSON: the process may have been killed in the middle of something.
    return undefined
  }
}
