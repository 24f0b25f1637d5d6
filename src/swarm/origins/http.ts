/**
 * A file on a web server as an origin: ranges by HTTP, resumed in the middle where the connection breaks. Nothing that the
 * server says is believed further than it is checked: where it may be, what a redirect may lead to, how long the file is, and
 * that it stays the same file from one range to the next. The bytes themselves are for the hashes.
 */
import type { IncomingMessage } from 'node:http'
import { abortError, assert, type Clock, type Random } from '#base'
import { SwarmError } from '../errors.ts'
import { ORIGIN_RANGES, ORIGIN_REDIRECT_KEPT_MS, ORIGIN_REDIRECTS_MAX } from '../limits.ts'
import type { Origin } from '../types.ts'
import type { AddressRules } from './address-rules.ts'
import { checkAnswer, type RangeAnswer, redirectOf } from './http-answer.ts'
import { assertUrl, bodyOf, discard, HttpClient, placeOf, type Resolve, systemResolve } from './http-client.ts'
import { createPace, type Pace } from './pace.ts'
import { createRetries, PassingError } from './retries.ts'

export type HttpOriginDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly rules: AddressRules
  /** @default the system's resolver */
  readonly resolve?: Resolve
}

export type HttpOriginOptions = {
  readonly url: URL
  /** Bytes of the model's file: a file of another length is not it. */
  readonly fileBytes: number
  /** For people. @default host and file name of the URL */
  readonly name?: string
  /** Bearer token. It goes to the scheme, host and port of `url`, and nowhere else. */
  readonly token?: string
  /** Certificates (PEM) to trust instead of those that Node brings along. */
  readonly ca?: string
  /** Ranges at once. @default ORIGIN_RANGES */
  readonly parallel?: number
  /** For all ranges together. @default no limit */
  readonly bytesPerSecond?: number
}

type Range = { readonly offset: number; readonly length: number }

/** @throws SwarmError SWARM_ORIGIN_REFUSED, for a URL that no request may be made by, or a token that others could read */
export function createHttpOrigin(deps: HttpOriginDeps, options: HttpOriginOptions): Origin {
  return new HttpOrigin(deps, options)
}

class HttpOrigin implements Origin {
  readonly kind = 'http'
  readonly name: string
  readonly parallel: number
  readonly #deps: HttpOriginDeps
  readonly #options: HttpOriginOptions
  readonly #client: HttpClient
  readonly #pace: Pace
  readonly #closing = new AbortController()
  /** Where the last chain of redirects ended. */
  #kept: { readonly url: URL; readonly at: number } | undefined
  #validator: string | undefined
  #hasChanged = false

  constructor(deps: HttpOriginDeps, options: HttpOriginOptions) {
    const { url, parallel = ORIGIN_RANGES, token } = options
    assertUrl(url)
    if (token !== undefined && url.protocol !== 'https:' && !deps.rules.isAllowed(placeOf(url))) {
      const text = `the token for ${url.hostname} would go over http, where anybody on the way can read it: use https`
      throw new SwarmError({ code: 'SWARM_ORIGIN_REFUSED' }, text)
    }
    this.#deps = deps
    this.#options = options
    this.name = options.name ?? nameOf(url)
    this.parallel = parallel
    const { resolve = systemResolve, clock, rules } = deps
    this.#client = new HttpClient({ clock, rules, resolve }, { parallel, ca: options.ca })
    this.#pace = createPace(clock, options.bytesPerSecond)
  }

  async *fetch(range: Range, { signal: callers }: { readonly signal: AbortSignal }): AsyncGenerator<Uint8Array> {
    const { offset, length } = range
    assert(offset >= 0 && length >= 0 && offset + length <= this.#options.fileBytes, 'a range lies within its file')
    const signal = AbortSignal.any([callers, this.#closing.signal])
    const retries = createRetries(this.#deps)
    let done = 0
    while (done < length) {
      const failure = yield* this.#attempt({ offset: offset + done, length: length - done }, signal, bytes => {
        done += bytes
        retries.progress(bytes)
      })
      if (failure === undefined || (await retries.again(failure, signal))) continue
      const text = `${this.name} cannot be reached: ${failure.message}`
      throw new SwarmError({ code: 'SWARM_ORIGIN_UNREACHABLE' }, text, { cause: failure })
    }
  }

  close(): Promise<void> {
    this.#closing.abort(new SwarmError({ code: 'SWARM_ORIGIN_CLOSED' }, `${this.name} was closed`))
    this.#client.close()
    return Promise.resolve()
  }

  /** @returns why the rest did not come, where it may come the next time */
  async *#attempt(
    range: Range,
    signal: AbortSignal,
    onBytes: (bytes: number) => void,
  ): AsyncGenerator<Uint8Array, PassingError | undefined> {
    try {
      for await (const bytes of this.#read(range, signal)) {
        await this.#pace.take(bytes.byteLength, signal)
        onBytes(bytes.byteLength)
        yield bytes
      }
      return undefined
    } catch (error) {
      if (signal.aborted) throw abortError(signal)
      if (error instanceof PassingError) return error
      throw error
    }
  }

  async *#read(range: Range, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    if (this.#hasChanged) throw this.#changed()
    if (signal.aborted) throw abortError(signal)
    const { incoming, answer } = await this.#open(range, signal)
    let skip = answer.skipBytes
    let left = range.length
    for await (const chunk of bodyOf(this.#deps.clock, incoming)) {
      const bytes = chunk.subarray(Math.min(skip, chunk.byteLength))
      skip -= chunk.byteLength - bytes.byteLength
      if (bytes.byteLength > left && incoming.statusCode === 206) {
        throw new SwarmError({ code: 'SWARM_ORIGIN_ANSWER' }, `${this.name} gives more bytes than were asked for`)
      }
      const wanted = bytes.subarray(0, left)
      left -= wanted.byteLength
      if (wanted.byteLength > 0) yield wanted
      // One that says how long it is ends by itself, and its connection can be used again.
      if (left === 0 && !answer.isExact) return
    }
    if (left > 0) throw new PassingError('the answer ended early')
  }

  /** Follows redirects, each under the same rules as the first URL. */
  async #open(
    range: Range,
    signal: AbortSignal,
  ): Promise<{ readonly incoming: IncomingMessage; readonly answer: RangeAnswer }> {
    const { clock } = this.#deps
    let url = this.#target()
    for (let redirects = 0; ; redirects++) {
      const incoming = await this.#client.get({ url, headers: this.#headersFor(url, range), signal })
      try {
        const next = this.#isStale(url, incoming) ? this.#options.url : redirectOf(incoming, url)
        if (next === undefined) {
          const answer = this.#check(incoming, range)
          if (url !== this.#options.url)
            this.#kept = { url, at: this.#kept?.url === url ? this.#kept.at : clock.monotonic() }
          return { incoming, answer }
        }
        if (redirects === ORIGIN_REDIRECTS_MAX) {
          const text = `${this.name} redirects more than ${ORIGIN_REDIRECTS_MAX} times`
          throw new SwarmError({ code: 'SWARM_ORIGIN_ANSWER' }, text)
        }
        discard(clock, incoming)
        url = next
      } catch (error) {
        discard(clock, incoming)
        throw error
      }
    }
  }

  #target(): URL {
    if (this.#kept !== undefined && this.#deps.clock.monotonic() - this.#kept.at >= ORIGIN_REDIRECT_KEPT_MS) {
      this.#kept = undefined
    }
    return this.#kept?.url ?? this.#options.url
  }

  /** The end of an earlier chain of redirects, often a signed URL, is good for a while only. */
  #isStale(url: URL, { statusCode = 0 }: IncomingMessage): boolean {
    if (url !== this.#kept?.url || statusCode < 400 || statusCode === 416) return false
    this.#kept = undefined
    return true
  }

  #check(incoming: IncomingMessage, range: Range): RangeAnswer {
    const ask = { name: this.name, fileBytes: this.#options.fileBytes, now: this.#deps.clock.now(), ...range }
    const answer = checkAnswer(incoming, ask)
    if (this.#validator !== undefined && answer.validator !== this.#validator) {
      this.#hasChanged = true
      throw this.#changed()
    }
    this.#validator = answer.validator
    return answer
  }

  #changed(): SwarmError {
    return new SwarmError({ code: 'SWARM_ORIGIN_CHANGED' }, `the file at ${this.name} was changed meanwhile`)
  }

  #headersFor(url: URL, { offset, length }: Range): Record<string, string> {
    const { token, url: own } = this.#options
    return {
      Range: `bytes=${offset}-${offset + length - 1}`,
      Accept: '*/*',
      'Accept-Encoding': 'identity',
      'User-Agent': 'koinon',
      ...(token === undefined || url.origin !== own.origin ? {} : { Authorization: `Bearer ${token}` }),
    }
  }
}

/** Host and file name, as in the URL. No query: it may hold a signature that lets in whoever has it. */
function nameOf(url: URL): string {
  const file = url.pathname.split('/').at(-1) ?? ''
  return file === '' ? url.host : `${url.host} (${file})`
}
