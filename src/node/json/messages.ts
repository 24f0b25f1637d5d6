/**
 * Messages of `/json-message/1.0`: UTF-8 JSON behind a length (u32, big-endian).
 *
 *   request   {"id": text, "command": NAME, "version"?: "1.0", "params"?: {...}, "deadline_ms"?: n, "attachment"?: base64}
 *   answers   {"id", "status": "event", "event": {...}}
 *             {"id", "status": "ok", "result": {...}, "attachment"?: base64}
 *             {"id", "status": "error", "error": {"code", "message", "retry_after_ms"?}}
 *
 * Bytes inside of `params`, `event` and `result` are written as dag-json does: {"/": {"bytes": base64 without padding}}.
 */
import { z } from 'zod'
import { withLengthPrefix } from '#wire'
import { fromBase64, fromDagJson, toDagJson } from './dag-json.ts'
import type { JsonFault } from './errors.ts'
import { JSON_DEPTH_MAX, JSON_ID_CHARS_MAX, JSON_VALUES_MAX } from '../limits.ts'

const JSON_VERSION = '1.0'

/** What is told of any failure: our own faults, and errors of commands. */
export type JsonError = { readonly code: string; readonly message: string; readonly retryAfterMs?: number }

const requestSchema = z.object({
  id: z.string().min(1).max(JSON_ID_CHARS_MAX).optional(),
  command: z.string().regex(/^[A-Z][A-Z0-9_]{0,63}$/),
  version: z.string().max(20).optional(),
  params: z.record(z.string(), z.unknown()).default({}),
  deadline_ms: z
    .int()
    .min(1)
    .max(24 * 60 * 60 * 1000)
    .optional(),
  attachment: z.string().optional(),
})

export type JsonRequest = {
  readonly id: string | undefined
  readonly command: string
  readonly params: Readonly<Record<string, unknown>>
  readonly deadlineMs: number | undefined
  readonly attachment: Uint8Array | undefined
}

/** A message that cannot be used; `id` where it could be read. */
export type BadRequest = { readonly fault: JsonFault; readonly id: string | undefined }

/** Reads the body of one message. */
export function decodeJsonRequest(body: Uint8Array): JsonRequest | BadRequest {
  // Before anything is built: a megabyte of brackets would cost a hundred.
  if (!hasBounds(body)) {
    const message = `a message has ${JSON_DEPTH_MAX} levels and ${JSON_VALUES_MAX} values at most`
    return { fault: { code: 'JSON_SHAPE', message }, id: undefined }
  }
  const value = parse(body)
  if (value === undefined) return malformed('the message is not UTF-8 JSON')
  const parsed = requestSchema.safeParse(value)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    return malformed(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`, idOf(value))
  }
  const { id, command, version = JSON_VERSION, deadline_ms: deadlineMs } = parsed.data
  if (version !== JSON_VERSION) {
    return { fault: { code: 'JSON_VERSION', message: `version ${JSON_VERSION} is spoken here` }, id }
  }
  const params = fromDagJson(parsed.data.params)
  const attachment = parsed.data.attachment === undefined ? undefined : fromBase64(parsed.data.attachment)
  if (params === undefined || (attachment === undefined && parsed.data.attachment !== undefined)) {
    return malformed('bytes must be base64', id)
  }
  return { id, command, params: params as JsonRequest['params'], deadlineMs, attachment }
}

/** One message with its length in front. An `id` of null answers a message whose id could not be read. */
export function encodeJson(message: Readonly<Record<string, unknown>>): Uint8Array {
  return withLengthPrefix(new TextEncoder().encode(JSON.stringify(toDagJson(message))))
}

export function errorMessage(id: string | undefined, { code, message, retryAfterMs }: JsonError): Uint8Array {
  const retry = retryAfterMs === undefined ? {} : { retry_after_ms: retryAfterMs }
  return encodeJson({ id: id ?? null, status: 'error', error: { code, message, ...retry } })
}

function malformed(message: string, id?: string): BadRequest {
  return { fault: { code: 'JSON_MALFORMED', message: message.slice(0, 300) }, id }
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c

/** Counts levels and values without building anything. Text is skipped, whatever is in it. */
function hasBounds(body: Uint8Array): boolean {
  let depth = 0
  let values = 1
  for (let i = 0; i < body.byteLength; i++) {
    const byte = body[i]
    if (byte === QUOTE) i = endOfText(body, i + 1)
    else if (byte === 0x5d || byte === 0x7d) depth--
    else if (byte === 0x5b || byte === 0x7b || byte === COMMA) {
      // Every value stands at the beginning, or behind one of these.
      values++
      if (byte !== COMMA) depth++
      if (depth > JSON_DEPTH_MAX || values > JSON_VALUES_MAX) return false
    }
  }
  return true
}

function endOfText(body: Uint8Array, from: number): number {
  let end = body.indexOf(QUOTE, from)
  while (end >= 0 && isEscaped(body, end, from)) end = body.indexOf(QUOTE, end + 1)
  return end < 0 ? body.byteLength : end
}

function isEscaped(body: Uint8Array, at: number, from: number): boolean {
  let count = 0
  while (at - count - 1 >= from && body[at - count - 1] === BACKSLASH) count++
  return count % 2 === 1
}

function parse(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body))
  } catch {
    return undefined // What it is instead of JSON does not matter.
  }
}

function idOf(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null || !('id' in value)) return undefined
  return typeof value.id === 'string' && value.id.length <= JSON_ID_CHARS_MAX ? value.id : undefined
}
