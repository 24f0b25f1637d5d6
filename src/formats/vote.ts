/**
 * What one node says about a model: whether others should trust it, and why. The signature around it is made elsewhere;
 * here is the payload:
 *
 *   dag-cbor { at: Unix ms, comment, model: model id (32), sequence, trusted: bool }
 *
 * Of two votes of one node on one model the one with the higher sequence counts.
 */
import { encode } from '@ipld/dag-cbor'
import { z } from 'zod'
import { fromHex, toHex } from '#base'
import { SHA256_BYTES } from '#crypto'
import { decodeCanonicalCbor } from './canonical-cbor.ts'
import { bytesOf, label } from './card.ts'
import { caught, type DescriptionFault, refusal } from './errors.ts'
import { VOTE_BYTES_MAX, VOTE_COMMENT_CHARS_MAX } from './limits.ts'

export type ModelVote = {
  /** Model id, 64 hexadecimal digits. */
  readonly model: string
  readonly isTrusted: boolean
  /** 200 UTF-16 units at most; may be empty. */
  readonly comment: string
  /** Grows with every vote of one node on one model. */
  readonly sequence: number
  /** Unix milliseconds, as the voter's clock says. */
  readonly at: number
}

const wireSchema = z.strictObject({
  at: z.int().min(0),
  comment: label(VOTE_COMMENT_CHARS_MAX, 0),
  model: bytesOf(SHA256_BYTES),
  sequence: z.int().min(0),
  trusted: z.boolean(),
})

/** The payload that is signed. @throws FormatError FORMAT_VOTE_MALFORMED for what others would refuse */
export function encodeVote({ model, isTrusted, ...rest }: ModelVote): Uint8Array {
  if (!/^[0-9a-f]{64}$/.test(model)) throw malformed()
  const parsed = wireSchema.safeParse({ ...rest, model: fromHex(model), trusted: isTrusted })
  if (!parsed.success) throw malformed()
  return encode(parsed.data)
}

/** Reads a payload whose signature was checked. */
export function decodeVote(bytes: Uint8Array): ModelVote | DescriptionFault {
  return caught(() => parseVote(bytes))
}

/** As `decodeVote`. @throws FormatError FORMAT_VOTE_MALFORMED */
export function parseVote(bytes: Uint8Array): ModelVote {
  if (bytes.byteLength > VOTE_BYTES_MAX) throw malformed()
  const parsed = wireSchema.safeParse(decodeCanonicalCbor(bytes))
  if (!parsed.success) throw malformed()
  const { model, trusted, ...rest } = parsed.data
  return { ...rest, model: toHex(model), isTrusted: trusted }
}

function malformed(): Error {
  return refusal('FORMAT_VOTE_MALFORMED', 'not a vote on a model')
}
