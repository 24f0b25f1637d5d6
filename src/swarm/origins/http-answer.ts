/** What the head of a web server's answer to a request for a range says: where the bytes are, or why there are none. */
import type { IncomingMessage } from 'node:http'
import { SwarmError } from '../errors.ts'
import { ORIGIN_RETRY_AFTER_MS_MAX, ORIGIN_SKIP_BYTES_MAX } from '../limits.ts'
import { assertUrl } from './http-client.ts'
import { PassingError } from './retries.ts'

export type RangeAsk = {
  /** For people. */
  readonly name: string
  readonly offset: number
  readonly length: number
  readonly fileBytes: number
  /** Wall-clock time: a server may say by a date when it wants to be asked again. */
  readonly now: number
}

export type RangeAnswer = {
  /** Bytes of the body that come before those that were asked for. */
  readonly skipBytes: number
  /** Whether the body ends where what was asked for ends, by its own word. */
  readonly isExact: boolean
  /** What names the state of the file: its ETag, else its date; undefined: the server tells neither. */
  readonly validator: string | undefined
}

/** Statuses that may be gone at the next try. */
const PASSING: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504])

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])

/**
 * Where the answer sends this node; undefined: nowhere.
 * @throws SwarmError SWARM_ORIGIN_REFUSED, SWARM_ORIGIN_ANSWER
 */
export function redirectOf(incoming: IncomingMessage, from: URL): URL | undefined {
  const { statusCode = 0, headers } = incoming
  if (!REDIRECTS.has(statusCode)) return undefined
  const location = headers.location
  if (location === undefined || !URL.canParse(location, from.href)) {
    throw new SwarmError({ code: 'SWARM_ORIGIN_ANSWER' }, `${from.hostname} redirects to nowhere`)
  }
  const url = new URL(location, from)
  assertUrl(url)
  if (from.protocol === 'https:' && url.protocol !== 'https:') {
    const text = `${from.hostname} redirects from https to http, where anybody on the way could read and change it`
    throw new SwarmError({ code: 'SWARM_ORIGIN_REFUSED' }, text)
  }
  return url
}

/** @throws SwarmError SWARM_ORIGIN_…; PassingError */
export function checkAnswer(incoming: IncomingMessage, ask: RangeAsk): RangeAnswer {
  const { statusCode: status = 0, headers } = incoming
  if (status !== 200 && status !== 206) throw statusFault(incoming, ask)
  const encoding = headers['content-encoding'] ?? 'identity'
  if (encoding.toLowerCase() !== 'identity') throw oddAnswer(ask, `compresses what was asked for as it is`)
  const validator = validatorOf(headers)
  if (status === 206) return { skipBytes: 0, isExact: hasExactRange(incoming, ask), validator }
  const bytes = wholeNumber(headers['content-length'])
  if (bytes !== undefined && bytes !== ask.fileBytes) throw sizeFault(ask, bytes)
  if (bytes === undefined || ask.offset > ORIGIN_SKIP_BYTES_MAX) throw oddAnswer(ask, 'gives no ranges of files')
  return { skipBytes: ask.offset, isExact: ask.offset + ask.length === ask.fileBytes, validator }
}

/** @returns whether the body has a length of its own, which is the right one */
function hasExactRange({ headers }: IncomingMessage, ask: RangeAsk): boolean {
  const { offset, length, fileBytes } = ask
  const range = /^bytes (\d{1,16})-(\d{1,16})\/(\d{1,16})$/i.exec(headers['content-range'] ?? '')
  if (range === null) throw oddAnswer(ask, 'does not say which range of which length it gives')
  const [first, last, total] = [Number(range[1]), Number(range[2]), Number(range[3])]
  if (total !== fileBytes) throw sizeFault(ask, total)
  if (first !== offset || last !== offset + length - 1) throw oddAnswer(ask, 'gives another range than was asked for')
  const bytes = headers['content-length']
  if (bytes === undefined) return false
  if (wholeNumber(bytes) !== length) throw oddAnswer(ask, 'gives another number of bytes than was asked for')
  return true
}

function statusFault(incoming: IncomingMessage, ask: RangeAsk): Error {
  const { statusCode: status = 0, headers } = incoming
  if (PASSING.has(status)) {
    const retryAfterMs = retryAfter(headers['retry-after'], ask.now)
    if (retryAfterMs <= ORIGIN_RETRY_AFTER_MS_MAX) {
      return new PassingError(`${ask.name} answers with status ${status}`, { retryAfterMs })
    }
    const text = `${ask.name} wants to be left alone for ${Math.ceil(retryAfterMs / 1_000)} s (status ${status})`
    return new SwarmError({ code: 'SWARM_ORIGIN_BUSY', retryAfterMs }, text)
  }
  if (status === 401 || status === 403) {
    const text = `${ask.name} lets nobody in without the right token (status ${status})`
    return new SwarmError({ code: 'SWARM_ORIGIN_CREDENTIALS' }, text)
  }
  if (status === 404 || status === 410) {
    return new SwarmError({ code: 'SWARM_ORIGIN_NOT_FOUND' }, `${ask.name} has no such file (status ${status})`)
  }
  if (status === 416) {
    const total = /^bytes \*\/(\d{1,16})$/i.exec(headers['content-range'] ?? '')?.[1]
    return sizeFault(ask, total === undefined ? undefined : Number(total))
  }
  return new SwarmError({ code: 'SWARM_ORIGIN_STATUS', status }, `${ask.name} answers with status ${status}`)
}

/** Seconds, or a date (RFC 9110, 10.2.3); what cannot be read counts as nothing. */
function retryAfter(text: string | undefined, now: number): number {
  if (text === undefined) return 0
  const seconds = wholeNumber(text)
  if (seconds !== undefined) return seconds * 1_000
  const at = Date.parse(text)
  return Number.isNaN(at) ? 0 : Math.max(0, at - now)
}

function validatorOf(headers: IncomingMessage['headers']): string | undefined {
  const { etag, 'last-modified': date } = headers
  if (etag !== undefined) return `etag ${etag}`
  return date === undefined ? undefined : `date ${date}`
}

function wholeNumber(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined
}

function sizeFault({ name, fileBytes }: RangeAsk, bytes: number | undefined): SwarmError {
  const has = bytes === undefined ? 'another length' : `${bytes} bytes`
  return new SwarmError(
    { code: 'SWARM_ORIGIN_SIZE', expectedBytes: fileBytes, ...(bytes === undefined ? {} : { bytes }) },
    `the file at ${name} has ${has}, the model's has ${fileBytes}: it is another file`,
  )
}

function oddAnswer({ name }: RangeAsk, what: string): SwarmError {
  return new SwarmError({ code: 'SWARM_ORIGIN_ANSWER' }, `${name} ${what}`)
}
