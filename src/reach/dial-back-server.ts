/**
 * Dials peers on their wish, so that they know whether they can be dialled. What a stranger may make us send, and where to,
 * is the point of everything here: only to the very IP address that we see the asker at, only to ports that programs of
 * users have, a few times a minute for each address, and less than the asker has sent us for it.
 */
import { type ByteStream, type Clock, type Logger, messageOf, withDeadline } from '#base'
import type { Host, ProbeTarget } from '#net'
import { PROTOCOLS } from '#wire'
import { decodePlace, encodePlace, isPublicIp, type Place } from './address.ts'
import { AskerRates } from './asker-rates.ts'
import {
  type DialBackOutcome,
  type DialBackRequest,
  decodeRequest,
  encodeAnswer,
  readRequest,
} from './dial-back-messages.ts'
import {
  DIAL_BACK_DIAL_MS_MAX,
  DIAL_BACK_REQUEST_MS_MAX,
  DIAL_BACK_REQUESTS_MAX,
  DIAL_BACKS_RUNNING_MAX,
} from './limits.ts'

export type DialBackServerDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly host: Pick<Host, 'peers' | 'probe'>
  /** Whether an address may be dialled at all. @default public ones */
  readonly isUsable?: (ip: string) => boolean
}

/** Below are the services of systems, which nobody listens at for this; web servers' ports get through firewalls. */
const PORT_MIN = 1_024
const PORTS_BELOW: ReadonlySet<number> = new Set([80, 443])

export class DialBackServer {
  readonly #deps: DialBackServerDeps
  readonly #rates: AskerRates
  readonly #stopping = new AbortController()
  #running = 0
  #reading = 0

  constructor(deps: DialBackServerDeps) {
    this.#deps = deps
    this.#rates = new AskerRates(deps)
  }

  /** Answers one request. Rejects where the asker is too slow or goes away: its stream is reset then. */
  async serve(stream: ByteStream): Promise<void> {
    const request = await this.#read(stream)
    const outcome = request === undefined ? 'malformed' : await this.#answer(stream.peer, request)
    stream.send(encodeAnswer(outcome))
    await stream.close()
  }

  async #read(stream: ByteStream): Promise<DialBackRequest | undefined> {
    if (this.#reading >= DIAL_BACK_REQUESTS_MAX) throw new Error('too many requests for dial-backs')
    const { signal } = this.#stopping
    const deadline = { what: 'a request for a dial-back', timeoutMs: DIAL_BACK_REQUEST_MS_MAX, signal }
    this.#reading++
    try {
      const body = await withDeadline(this.#deps.clock, deadline, () => readRequest(stream))
      return body === undefined ? undefined : decodeRequest(body)
    } finally {
      this.#reading--
    }
  }

  /** Ends the dials that are under way. */
  stop(): void {
    this.#stopping.abort(new Error('the node is stopping'))
  }

  async #answer(asker: string, request: DialBackRequest): Promise<DialBackOutcome> {
    const place = decodePlace(request.address)
    if (place === undefined) return 'malformed'
    const seen = this.#placeOf(asker)
    if (seen === undefined || seen.ip !== place.ip || !this.#isAllowed(place)) return 'address'
    // A dial over UDP to a NAT that our own connection has opened would prove nothing.
    if (place.transport === 'quic' && seen.transport === 'quic') return 'address'
    if (this.#running >= DIAL_BACKS_RUNNING_MAX) return 'busy'
    if (!this.#rates.take(place.ip)) return 'rate'
    this.#running++
    try {
      await this.#dial({ peer: asker, address: encodePlace(place), isPlane: request.plane }, request.nonce)
      return 'dialled'
    } catch (error) {
      this.#deps.log.debug('a dial-back came to nothing', { peer: asker, reason: messageOf(error) })
      return 'failed'
    } finally {
      this.#running--
    }
  }

  #isAllowed({ ip, port }: Place): boolean {
    const isUsable = this.#deps.isUsable ?? isPublicIp
    return isUsable(ip) && (port >= PORT_MIN || PORTS_BELOW.has(port))
  }

  /** Where we see the asker; undefined where something stands between. */
  #placeOf(asker: string): Place | undefined {
    const peer = this.#deps.host.peers().find(({ id }) => id === asker)
    return peer?.remoteAddress === undefined ? undefined : decodePlace(peer.remoteAddress)
  }

  async #dial(target: ProbeTarget, nonce: Uint8Array): Promise<void> {
    const { clock, host } = this.#deps
    const { signal } = this.#stopping
    const deadline = { what: 'a dial-back', timeoutMs: DIAL_BACK_DIAL_MS_MAX, signal }
    await withDeadline(clock, deadline, async within => {
      const probe = await host.probe(target, { protocol: PROTOCOLS.reachBack, signal: within })
      try {
        probe.stream.send(nonce)
        // The asker closes once it has read the nonce; whatever else it may send is not looked at.
        await probe.stream.close()
        await probe.stream.received[Symbol.asyncIterator]().next()
      } finally {
        await probe.end()
      }
    })
  }
}
