/** Checks what comes over the local socket: requests in a node's own words. */
import { z } from 'zod'
import type { KeySource } from '#keyring'
import type { KeyRotationRequest } from '#node'
import { fromBase64, fromDagJson } from '#node'
import {
  type CompletionRequest,
  type FindRequest,
  PENALTY_TOKENS_MAX,
  STOP_TEXTS_MAX,
  TOKEN_ID_MAX,
  TOP_LOGPROBS_MAX,
} from '#wire'
import { ASK_MS_MAX, FIND_MS_MAX } from './limits.ts'

const tokens = z.custom<readonly number[]>(
  value => Array.isArray(value) && value.every(token => Number.isInteger(token) && token >= 0 && token <= TOKEN_ID_MAX),
  { error: 'expected a list of token ids' },
)

const prompt = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('chat'),
    messages: z.array(
      z.object({ role: z.string().max(64), content: z.string(), name: z.string().max(200).exactOptional() }),
    ),
  }),
  z.object({ kind: z.literal('text'), text: z.string() }),
  z.object({ kind: z.literal('tokens'), tokens }),
])

const sampling = z.object({
  temperature: z.number().min(0).max(2),
  topK: z.int().min(0),
  topP: z.number().min(0).max(1),
  minP: z.number().min(0).max(1),
  repeatPenalty: z.number().gt(0).max(10),
  frequencyPenalty: z.number().min(-2).max(2),
  presencePenalty: z.number().min(-2).max(2),
  penaltyLastN: z.int().min(0).max(PENALTY_TOKENS_MAX),
  seed: z.int().min(0).max(0xffff_ffff),
  logitBias: z.record(z.string().regex(/^\d{1,8}$/), z.number().min(-100).max(100)).exactOptional(),
})

/** Body of `POST /local/complete`. */
export const completionRequestSchema: z.ZodType<CompletionRequest> = z.object({
  model: z.string().min(1).max(4096),
  prompt,
  sampling,
  tokensMax: z.int().min(1).exactOptional(),
  stop: z.array(z.string().max(1000)).max(STOP_TEXTS_MAX),
  topLogprobs: z.int().min(0).max(TOP_LOGPROBS_MAX).exactOptional(),
  logits: z.boolean().exactOptional(),
  ignoreEnd: z.boolean().exactOptional(),
})

/** Query of `GET /local/plan`. */
export const planQuerySchema = z.object({ model: z.string().min(1).max(4096) })

/** Body of `POST /local/ask`, with bytes as bytes. */
export const askRequestSchema = z.object({
  peer: z.string().min(1).max(100),
  command: z.string().min(1).max(100),
  body: z.unknown().transform((value, context) => {
    const body = fromDagJson(value ?? {})
    if (body === undefined) context.addIssue({ code: 'custom', message: 'bytes must be base64' })
    return body
  }),
  timeoutMs: z.int().min(1).max(ASK_MS_MAX).exactOptional(),
  attachment: z
    .string()
    .transform((text, context) => {
      const bytes = fromBase64(text)
      if (bytes !== undefined) return bytes
      context.addIssue({ code: 'custom', message: 'expected base64' })
      return z.NEVER
    })
    .exactOptional(),
  wantsAttachment: z.boolean(),
})

/** Body of `POST /local/find`. */
export const findRequestSchema: z.ZodType<FindRequest> = z.object({
  service: z.string().regex(/^[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?$/),
  model: z.string().min(1).max(200).exactOptional(),
  timeoutMs: z.int().min(1).max(FIND_MS_MAX).exactOptional(),
})

const keySource: z.ZodType<KeySource> = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('file') }),
  z.strictObject({ kind: z.literal('environment'), text: z.string().min(1).max(4096) }),
  z.strictObject({
    kind: z.literal('pkcs11'),
    module: z.string().min(1).max(4096),
    token: z.string().min(1).max(64),
    serial: z.string().min(1).max(64).exactOptional(),
    label: z.string().min(1).max(256).exactOptional(),
    id: z
      .string()
      .regex(/^(?:[0-9a-f]{2}){1,64}$/)
      .exactOptional(),
    pin: z.string().max(256).exactOptional(),
  }),
  z.strictObject({
    kind: z.literal('kms'),
    key: z.string().min(1).max(2048),
    region: z.string().min(1).max(64).exactOptional(),
    endpoint: z.url().max(2048).exactOptional(),
  }),
])

/** Body of `POST /local/rotate`. It may hold secrets: the socket is its owner's alone, and bodies are never logged. */
export const keyRotationSchema: z.ZodType<KeyRotationRequest> = z.strictObject({
  to: keySource.exactOptional(),
  newPhrase: z.boolean().exactOptional(),
})
