/**
 * The one table from Koinon's error codes to HTTP: status, and OpenAI's own code where it has one. A code that is not
 * here is a 500 whose text says nothing of the inside.
 */
import { codeOf, KoinonError, messageOf } from '#base'
import type { OpenAiError } from '#wire'
import type { ApiFault } from './errors.ts'
import { BUSY_RETRY_AFTER_S } from './limits.ts'

type Row = {
  readonly status: number
  /** The code that OpenAI's clients know for this; else Koinon's own code is told. */
  readonly openAiCode?: string
  /** `Retry-After`, in seconds. */
  readonly retryAfterS?: number
  /** Leave the message out: it speaks of files, processes or other insides. */
  readonly isHidden?: true
}

const BUSY: Row = { status: 503, retryAfterS: BUSY_RETRY_AFTER_S }
const HIDDEN: Row = { status: 500, isHidden: true }

/** Every code of this module; the compiler misses none. */
const API: Readonly<Record<ApiFault['code'], Row>> = {
  API_REQUEST_INVALID: { status: 400, openAiCode: 'invalid_value' },
  API_NOT_SUPPORTED: { status: 400, openAiCode: 'unsupported_parameter' },
  API_BODY_INVALID: { status: 400, openAiCode: 'invalid_json' },
  API_BODY_SIZE: { status: 413, openAiCode: 'request_too_large' },
  API_BODY_TYPE: { status: 415, openAiCode: 'unsupported_content_type' },
  API_ROUTE_UNKNOWN: { status: 404, openAiCode: 'unknown_url' },
  API_METHOD_REFUSED: { status: 405, openAiCode: 'method_not_allowed' },
  API_MODEL_UNKNOWN: { status: 404, openAiCode: 'model_not_found' },
  API_HOST_REFUSED: { status: 403, openAiCode: 'host_refused' },
  API_ORIGIN_REFUSED: { status: 403, openAiCode: 'origin_refused' },
  API_STOPPING: BUSY,
  // Nobody reads these two: the connection is gone. 499 is the usual way to write that down.
  API_CLIENT_GONE: { status: 499 },
  API_CLIENT_SLOW: { status: 499 },
  API_LISTEN_FAILED: HIDDEN,
}

const BASE: Readonly<Record<string, Row>> = {
  TIMEOUT: { status: 504 },
  STREAM_CLOSED: { status: 502 },
  STREAM_RESET: { status: 502 },
  INTERNAL: HIDDEN,
}

/** Codes of the modules below. A test holds this against what their `errors.ts` say. */
export const HTTP_ERRORS: ReadonlyMap<string, Row> = new Map(Object.entries({ ...BASE, ...API }))

export type HttpError = {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: OpenAiError
}

/** How an error is told. `own`: with Koinon's code and sentence (the local socket); else as OpenAI's clients know it. */
export function toHttpError(error: unknown, options: { readonly own?: boolean } = {}): HttpError {
  const code = codeOf(error)
  const row = HTTP_ERRORS.get(code) ?? HIDDEN
  const isHidden = row.isHidden === true && options.own !== true
  const retryAfterS = row.retryAfterS === undefined ? undefined : retryAfter(error, row.retryAfterS)
  return {
    status: row.status,
    headers: {
      ...(retryAfterS === undefined ? {} : { 'retry-after': String(retryAfterS) }),
      ...(error instanceof KoinonError && hasText(error.fault, 'allow') ? { allow: error.fault.allow } : {}),
    },
    body: {
      error: {
        message: isHidden ? `something went wrong inside the node (${code})` : messageOf(error),
        type: typeOf(row.status),
        param: error instanceof KoinonError && hasText(error.fault, 'param') ? error.fault.param : null,
        code: options.own === true ? code : (row.openAiCode ?? code.toLowerCase()),
      },
    },
  }
}

/** Whole seconds; the fault's own `retryAfterMs` goes before the table. */
function retryAfter(error: unknown, defaultS: number): number {
  if (!(error instanceof KoinonError)) return defaultS
  const fault: object = error.fault
  if (!('retryAfterMs' in fault) || typeof fault.retryAfterMs !== 'number') return defaultS
  return Math.max(1, Math.ceil(fault.retryAfterMs / 1000))
}

function hasText<K extends string>(fault: object, key: K): fault is Record<K, string> {
  return key in fault && typeof (fault as Record<string, unknown>)[key] === 'string'
}

function typeOf(status: number): string {
  if (status === 403) return 'permission_error'
  if (status === 429) return 'rate_limit_error'
  return status < 500 ? 'invalid_request_error' : 'server_error'
}
