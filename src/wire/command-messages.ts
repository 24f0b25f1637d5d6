/**
 * Commands over a session: a request in a frame of the command's own type, then any number of events, then one response
 * or one error. All carry the request's id, so answers may come in any order and a request can be cancelled.
 */
import { z } from 'zod'
import { bytesOf, bytesUpTo } from './control-messages.ts'
import { ERROR_CODE_CHARS_MAX, ERROR_SENTENCE_CHARS_MAX, INLINE_ATTACHMENT_BYTES_MAX } from './limits.ts'

/** A UUID (RFC 9562), 16 bytes. */
const id = bytesOf(16)

/** A large part of a message: inline, or announced here and sent over `/koinon/bulk/1`. */
const attachmentSchema = z.union([
  z.object({ bytes: bytesUpTo(INLINE_ATTACHMENT_BYTES_MAX) }),
  z.object({
    transfer: id,
    sizeBytes: z
      .int()
      .min(0)
      .max(2 ** 32),
    sha256: bytesOf(32),
  }),
])
export type AttachmentHeader = z.infer<typeof attachmentSchema>

export const PRIORITIES = ['high', 'normal', 'low'] as const
export type Priority = (typeof PRIORITIES)[number]

/** The envelope of a request; the command's own schema checks `body`. */
export const requestSchema = z.object({
  id,
  body: z.unknown(),
  /** How long the answer is worth waiting for, from the moment that the request arrives. */
  deadlineMs: z
    .int()
    .min(1)
    .max(24 * 60 * 60 * 1000)
    .optional(),
  /** Where the request is sent again after a lost connection: the index of the first event that has not come yet. */
  eventsFrom: z.int().min(0).optional(),
  attachment: attachmentSchema.optional(),
})
export type RequestMessage = z.infer<typeof requestSchema>

export const responseSchema = z.object({ id, body: z.unknown(), attachment: attachmentSchema.optional() })
export type ResponseMessage = z.infer<typeof responseSchema>

/** One of many answers, in order. `index` counts them from 0, so that none is lost or doubled over a lost connection. */
export const eventSchema = z.object({ id, index: z.int().min(0), body: z.unknown() })
export type EventMessage = z.infer<typeof eventSchema>

/** The one form of every refusal and failure (PROTO-10). */
export const errorSchema = z.object({
  id,
  /** A code of `docs/reference/errors.md`. */
  code: z
    .string()
    .regex(/^[A-Z][A-Z0-9_]*$/)
    .max(ERROR_CODE_CHARS_MAX),
  message: z.string().max(ERROR_SENTENCE_CHARS_MAX),
  retryAfterMs: z.int().min(0).max(0xffff_ffff).optional(),
})
export type ErrorMessage = z.infer<typeof errorSchema>

export const cancelSchema = z.object({ id })
