/** Parts of commands' schemas that several share. Field names are in snake_case, as OpenAI's and as JSON peers write them. */
import { z } from 'zod'
import { publicKeyOfPeer } from '#crypto'
import { MODEL_NAME_CHARS_MAX, PEER_ADDRESSES_MAX } from '#wire'
import { PEER_ID_CHARS_MAX } from '../limits.ts'

/** A hash of 32 bytes in hexadecimal. */
export const hashSchema = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 lower-case hexadecimal digits')

/** A libp2p peer id that holds an Ed25519 key. */
export const peerSchema = z
  .string()
  .max(PEER_ID_CHARS_MAX)
  .refine(peer => publicKeyOfPeer(peer) !== undefined, 'expected the peer id of an Ed25519 key')

/** A model by its id, a prefix of it of 8 digits or more, its name, or its file's name. */
export const modelNameSchema = z.string().min(1).max(MODEL_NAME_CHARS_MAX)

/** Layers [first, last). */
export const layersSchema = z
  .object({ first: z.int().min(0).max(9_999), last: z.int().min(1).max(10_000) })
  .refine(range => range.first < range.last, 'first must be below last')

const count = z.int().min(0)

/** A stage that a node serves. */
export const stageSchema = z.object({
  model: hashSchema,
  name: z.string(),
  architecture: z.string(),
  layers: layersSchema,
  layer_count: count,
  width: count,
  /** Positions of one generation. */
  context: count,
  slots: count,
  slots_free: count,
  profile: z.string(),
})
export type StageFacts = z.infer<typeof stageSchema>

export const addressesSchema = z.array(z.string()).max(PEER_ADDRESSES_MAX)
