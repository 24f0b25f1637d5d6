/** Checks what comes over the local socket about models' weights. What texts mean is the node's to say. */
import { isAbsolute } from 'node:path'
import { z } from 'zod'
import {
  type AddModelRequest,
  benchmarksSchema,
  licenceSchema,
  MODEL_LABEL_CHARS_MAX,
  type PullRequest,
  VOTE_COMMENT_CHARS_MAX,
} from '#wire'
import { MODEL_CHARS_MAX, PULL_PEERS_MAX, PULL_SOURCES_MAX, TORRENT_BASE64_CHARS_MAX } from './limits.ts'

const model = z.string().min(1).max(MODEL_CHARS_MAX)

/** Layers of the largest model; what a model has is told by its node. */
const LAYER_MAX = 100_000

const layers = z
  .strictObject({ first: z.int().min(0).max(LAYER_MAX), last: z.int().min(1).max(LAYER_MAX) })
  .refine(({ first, last }) => first < last, { error: 'expected at least one layer' })

/** Query of `GET /local/models/details` and `/local/models/torrent`, body of `POST /local/models/verify` and `remove`. */
export const modelSchema = z.strictObject({ model })

/** Body of `POST /local/models/add`. */
export const addModelSchema: z.ZodType<AddModelRequest> = z.strictObject({
  file: z
    .string()
    .max(4_096)
    .refine(path => isAbsolute(path) && !path.includes('\0'), { error: 'expected an absolute path' }),
  name: z.string().min(1).max(MODEL_LABEL_CHARS_MAX).exactOptional(),
  licence: licenceSchema.exactOptional(),
  benchmarks: benchmarksSchema.exactOptional(),
  previous: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .exactOptional(),
})

/** Body of `POST /local/pull`. */
export const pullSchema: z.ZodType<PullRequest> = z.strictObject({
  model,
  layers: layers.exactOptional(),
  edges: z.boolean().exactOptional(),
  from: z.array(z.string().min(1).max(500)).max(PULL_PEERS_MAX).exactOptional(),
  sources: z.array(z.string().min(1).max(4_096)).max(PULL_SOURCES_MAX).exactOptional(),
  torrent: z
    .string()
    .max(TORRENT_BASE64_CHARS_MAX)
    .regex(/^[A-Za-z0-9+/]+={0,2}$/)
    .exactOptional(),
})

/** Body of `POST /local/share`. */
export const shareSchema = z.strictObject({ model, isShared: z.boolean() })

/** Body of `POST /local/models/vote`. */
export const voteSchema = z.strictObject({
  model,
  isTrusted: z.boolean(),
  comment: z.string().max(VOTE_COMMENT_CHARS_MAX),
})
