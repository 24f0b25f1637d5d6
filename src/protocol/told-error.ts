/**
 * What a caller is told of a failure: a code, a sentence, when to try again. Never a stack, and never a sentence that
 * could name a file or an address of this host.
 */
import { KoinonError } from '#base'
import { ERROR_CODE_CHARS_MAX, ERROR_SENTENCE_CHARS_MAX } from '#wire'
import type { ProtocolFault } from './errors.ts'

export type AnswerError = { readonly code: string; readonly message: string; readonly retryAfterMs?: number }

const CODE = /^[A-Z][A-Z0-9_]*$/
/** Paths, URLs and multiaddrs have one of these. Hiding a harmless sentence costs little, telling a path may cost much. */
const SLASH = /[/\\]/
const RETRY_AFTER_MS_MAX = 0xffff_ffff

/** What is told of anything that a handler threw. Undefined: a bug of ours, of which only the log hears. */
export function toldOf(error: unknown): AnswerError | undefined {
  if (!(error instanceof KoinonError)) return undefined
  const { code } = error
  if (!CODE.test(code) || code.length > ERROR_CODE_CHARS_MAX) return undefined
  const message = SLASH.test(error.message)
    ? 'the request failed; the log of the node that was asked says more'
    : error.message.slice(0, ERROR_SENTENCE_CHARS_MAX)
  const retryAfterMs = retryOf(error.fault)
  return { code, message, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) }
}

/** One of our own refusals, as it is told. Its sentence is about the request and nothing else. */
export function told(fault: ProtocolFault, message: string): AnswerError {
  const retryAfterMs = retryOf(fault)
  return {
    code: fault.code,
    message: message.slice(0, ERROR_SENTENCE_CHARS_MAX),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  }
}

function retryOf(fault: object): number | undefined {
  if (!('retryAfterMs' in fault) || typeof fault.retryAfterMs !== 'number' || !(fault.retryAfterMs >= 0))
    return undefined
  return Math.min(RETRY_AFTER_MS_MAX, Math.ceil(fault.retryAfterMs))
}
