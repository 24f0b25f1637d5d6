/**
 * One HTTP request to an address that was checked: the host is resolved once, the addresses are judged, and the connection
 * goes to those very ones, so that a name that answers differently the next time (DNS rebinding) leads nowhere. Redirects
 * are not followed here.
 */
import { lookup } from 'node:dns/promises'
import { Agent, type IncomingMessage, type RequestOptions, request as requestHttp } from 'node:http'
import { Agent as SecureAgent, request as requestHttps } from 'node:https'
import { isIP, type LookupFunction } from 'node:net'
import { abortError, type Clock, messageOf, withDeadline } from '#base'
import { SwarmError } from '../errors.ts'
import {
  ORIGIN_ADDRESSES_MAX,
  ORIGIN_ANSWER_MS_MAX,
  ORIGIN_CONNECT_MS_MAX,
  ORIGIN_DISCARD_BYTES_MAX,
  ORIGIN_HEAD_BYTES_MAX,
  ORIGIN_RESOLVE_MS_MAX,
  ORIGIN_RESOLVED_MS,
  ORIGIN_STALL_MS_MAX,
  ORIGIN_URL_CHARS_MAX,
} from '../limits.ts'
import { type AddressRules, bareHost } from './address-rules.ts'
import { PassingError } from './retries.ts'

/** All addresses of a host, as text. */
export type Resolve = (host: string) => Promise<readonly string[]>

export const systemResolve: Resolve = async host => (await lookup(host, { all: true })).map(({ address }) => address)

export type HttpClientDeps = { readonly clock: Clock; readonly resolve: Resolve; readonly rules: AddressRules }

export type HttpAsk = {
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  readonly signal: AbortSignal
}

/** Hosts whose addresses are kept: that of the origin and those that it redirects to. */
const HOSTS_KEPT_MAX = 16

/** TLS errors of Node that say that the certificate proves nothing. */
const CERTIFICATE = /^(?:ERR_TLS_CERT|CERT_|DEPTH_ZERO_SELF_SIGNED|SELF_SIGNED_CERT|UNABLE_TO_(?:GET|VERIFY)|HOSTNAME_)/

/** @throws SwarmError SWARM_ORIGIN_REFUSED, where no request may be made by this URL */
export function assertUrl(url: URL): void {
  const refuse = (why: string): never => {
    throw new SwarmError({ code: 'SWARM_ORIGIN_REFUSED' }, `a URL of ${url.hostname || 'a source'} ${why}`)
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:') refuse('is neither https nor http')
  if (url.username !== '' || url.password !== '') refuse('holds a user name or a password: it would end up in logs')
  if (url.href.length > ORIGIN_URL_CHARS_MAX) refuse('is too long')
}

export function placeOf(url: URL): { readonly host: string; readonly port: number } {
  const port = url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port)
  return { host: bareHost(url.hostname), port }
}

export class HttpClient {
  readonly #deps: HttpClientDeps
  readonly #plain: Agent
  readonly #secure: SecureAgent
  readonly #resolved = new Map<string, { readonly addresses: readonly string[]; readonly at: number }>()

  /** @param options.ca certificates (PEM) to trust instead of those of Node */
  constructor(deps: HttpClientDeps, options: { readonly parallel: number; readonly ca?: string | undefined }) {
    this.#deps = deps
    const { parallel, ca } = options
    const settings = { keepAlive: true, maxSockets: parallel, maxFreeSockets: parallel }
    this.#plain = new Agent(settings)
    this.#secure = new SecureAgent({ ...settings, ...(ca === undefined ? {} : { ca }) })
  }

  /**
   * The head of the answer to a GET; its body has to be read or destroyed.
   * @throws SwarmError SWARM_ORIGIN_REFUSED, SWARM_ORIGIN_CERTIFICATE, SWARM_ORIGIN_ANSWER; PassingError; the signal's reason
   */
  async get(ask: HttpAsk): Promise<IncomingMessage> {
    assertUrl(ask.url)
    const { host, port } = placeOf(ask.url)
    // By port too: an allowance may be for one port only.
    const key = `${host} ${port}`
    const addresses = await this.#addressesOf(ask)
    try {
      return await this.#request(ask, addresses)
    } catch (error) {
      if (ask.signal.aborted) throw abortError(ask.signal)
      this.#resolved.delete(key)
      throw failureOf(error, host)
    }
  }

  close(): void {
    this.#plain.destroy()
    this.#secure.destroy()
  }

  async #addressesOf({ url, signal }: HttpAsk): Promise<readonly string[]> {
    const { clock, resolve, rules } = this.#deps
    const place = placeOf(url)
    if (isIP(place.host) !== 0) return rules.permitted(place, [place.host])
    const key = `${place.host} ${place.port}`
    const kept = this.#resolved.get(key)
    if (kept !== undefined && clock.monotonic() - kept.at < ORIGIN_RESOLVED_MS) return kept.addresses
    const found = await this.#resolve(resolve, place.host, signal)
    const addresses = rules.permitted(place, found).slice(0, ORIGIN_ADDRESSES_MAX)
    if (this.#resolved.size >= HOSTS_KEPT_MAX) this.#resolved.clear()
    this.#resolved.set(key, { addresses, at: clock.monotonic() })
    return addresses
  }

  async #resolve(resolve: Resolve, host: string, signal: AbortSignal): Promise<readonly string[]> {
    const options = { what: `the name ${host}`, timeoutMs: ORIGIN_RESOLVE_MS_MAX, signal }
    try {
      return await withDeadline(this.#deps.clock, options, () => resolve(host))
    } catch (error) {
      if (signal.aborted) throw abortError(signal)
      throw new PassingError(`the name ${host} has no address: ${messageOf(error)}`, { cause: error })
    }
  }

  #request({ url, headers, signal }: HttpAsk, addresses: readonly string[]): Promise<IncomingMessage> {
    const isSecure = url.protocol === 'https:'
    const options: RequestOptions = {
      agent: isSecure ? this.#secure : this.#plain,
      headers,
      signal,
      maxHeaderSize: ORIGIN_HEAD_BYTES_MAX,
      lookup: lookupOf(addresses),
    }
    const { clock } = this.#deps
    return new Promise((resolve, reject) => {
      const outgoing = isSecure ? requestHttps(url, options) : requestHttp(url, options)
      let cancel = (): void => undefined
      const expect = (what: string, timeoutMs: number): void => {
        cancel()
        cancel = clock.after(timeoutMs, () => outgoing.destroy(new PassingError(`${what} took too long`)))
      }
      outgoing.on('socket', socket => {
        const onReady = (): void => expect('the answer', ORIGIN_ANSWER_MS_MAX)
        if (!socket.connecting) return onReady()
        expect('the connection', ORIGIN_CONNECT_MS_MAX)
        socket.once(isSecure ? 'secureConnect' : 'connect', onReady)
      })
      outgoing.on('response', incoming => {
        cancel()
        // Whoever reads the body sees its error; one that comes when nobody reads any more is of no interest.
        incoming.on('error', () => undefined)
        resolve(incoming)
      })
      outgoing.on('error', error => {
        cancel()
        reject(error)
      })
      outgoing.end()
    })
  }
}

/** Answers with the addresses that were checked, whatever the name says by now. */
function lookupOf(addresses: readonly string[]): LookupFunction {
  const all = addresses.map(address => ({ address, family: isIP(address) }))
  return (_host, options, callback) => {
    if (options.all === true) callback(null, all)
    else callback(null, all[0]?.address ?? '', all[0]?.family)
  }
}

function failureOf(error: unknown, host: string): Error {
  if (error instanceof PassingError) return error
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (CERTIFICATE.test(code)) {
    const text = `the certificate of ${host} does not prove its name (${code})`
    return new SwarmError({ code: 'SWARM_ORIGIN_CERTIFICATE' }, text, { cause: error })
  }
  if (code.startsWith('HPE_')) {
    const text = `${host} answers with something else than HTTP within its bounds (${code})`
    return new SwarmError({ code: 'SWARM_ORIGIN_ANSWER' }, text, { cause: error })
  }
  return new PassingError(`the connection to ${host} failed: ${messageOf(error)}`, { cause: error })
}

/** Gives up a body: a short one is read to its end, so that the connection can be used again. */
export function discard(clock: Clock, incoming: IncomingMessage): void {
  const length = Number(incoming.headers['content-length'] ?? Number.NaN)
  if (!(length <= ORIGIN_DISCARD_BYTES_MAX)) {
    incoming.destroy()
    return
  }
  const cancel = clock.after(ORIGIN_STALL_MS_MAX, () => incoming.destroy())
  incoming.once('close', cancel)
  incoming.resume()
}

/** The body, as it comes. @throws PassingError where it breaks off or stalls. The time that the reader takes does not count. */
export async function* bodyOf(clock: Clock, incoming: IncomingMessage): AsyncGenerator<Uint8Array, void, undefined> {
  const chunks: AsyncIterator<Uint8Array> = incoming[Symbol.asyncIterator]()
  try {
    for (;;) {
      const onStall = (): void => void incoming.destroy(new PassingError('no byte came for too long'))
      const cancel = clock.after(ORIGIN_STALL_MS_MAX, onStall)
      try {
        const step = await chunks.next()
        if (step.done === true) return
        cancel()
        yield step.value
      } finally {
        cancel()
      }
    }
  } catch (error) {
    if (error instanceof PassingError) throw error
    throw new PassingError(`the answer broke off: ${messageOf(error)}`, { cause: error })
  } finally {
    if (!incoming.complete || !incoming.readableEnded) incoming.destroy()
  }
}
