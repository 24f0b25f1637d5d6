/** One reservation of ours at one relay, from asking for it to its end, and the measuring of relays. */
import { type ByteStream, type Clock, type Random, sleep, uniform } from '#base'
import { decodeAddress } from '../address.ts'
import { lost } from '../errors.ts'
import { RELAY_ADDRESSES_MAX, RELAY_KEEPALIVE_MS, RELAY_KEEPALIVES_MISSED_MAX, RELAY_PROBES } from './limits.ts'
import { expectAnswer, relayRefused } from './refusals.ts'
import { RelayStream } from './relay-stream.ts'

export type ReservationDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly open: (relay: string, options: { readonly signal: AbortSignal }) => Promise<ByteStream>
}

/** What a relay has given us. */
export type Grant = {
  readonly session: Uint8Array
  /** Where the relay is reached: multiaddrs that end in its peer id. */
  readonly addresses: readonly string[]
}

export type HoldOptions = {
  readonly relay: string
  readonly signal: AbortSignal
  /** Called when the reservation is had, and each time that it is renewed. */
  readonly onGranted: (grant: Grant) => void
  /** The round-trip time of each keepalive; undefined: it was not answered. */
  readonly onSample: (rttMs: number | undefined) => void
}

/**
 * Asks for a reservation and holds it until the signal aborts.
 * @throws the signal's reason; NetError NET_RELAY_REFUSED; NetError NET_CONNECTION_LOST or StreamError where the relay is gone
 */
export async function holdReservation(deps: ReservationDeps, options: HoldOptions): Promise<never> {
  const { relay } = options
  const stream = new RelayStream(await deps.open(relay, options))
  const ended = new AbortController()
  const signal = AbortSignal.any([options.signal, ended.signal])
  const held = new Held(deps, { ...options, stream, signal })
  try {
    stream.say({ type: 'reserve' })
    held.granted(expectAnswer(relay, 'reserved', await stream.answer(deps.clock, { signal })))
    return await Promise.race([held.read(), held.keep()])
  } finally {
    ended.abort()
    stream.abort(new Error('the reservation is over'))
  }
}

class Held {
  readonly #deps: ReservationDeps
  readonly #options: HoldOptions & { readonly stream: RelayStream }
  #renewAt = 0
  #lastId = 0
  #sentAt: number | undefined
  #missed = 0

  constructor(deps: ReservationDeps, options: HoldOptions & { readonly stream: RelayStream }) {
    this.#deps = deps
    this.#options = options
  }

  granted(answer: { readonly session: Uint8Array; readonly expiresInMs: number; readonly addresses: string[] }): void {
    const { clock, random } = this.#deps
    const { relay, onGranted } = this.#options
    // Well before its end, and not in step with others who lost the same relay as we did.
    this.#renewAt = clock.monotonic() + answer.expiresInMs * (0.5 + uniform(random) / 4)
    onGranted({ session: answer.session, addresses: ownAddressesOf(relay, answer.addresses) })
  }

  async read(): Promise<never> {
    const { relay, stream, onSample } = this.#options
    for (;;) {
      const message = await stream.message()
      if (message === undefined) throw lost(relay)
      if (!('code' in message) && message.type === 'alive') {
        if (this.#sentAt === undefined || message.id !== this.#lastId) continue
        onSample(this.#deps.clock.monotonic() - this.#sentAt)
        this.#sentAt = undefined
        this.#missed = 0
      } else {
        this.granted(expectAnswer(relay, 'reserved', message))
      }
    }
  }

  async keep(): Promise<never> {
    const { clock, random } = this.#deps
    const { relay, stream, signal, onSample } = this.#options
    for (;;) {
      await sleep(clock, RELAY_KEEPALIVE_MS, { signal })
      if (this.#sentAt !== undefined) {
        onSample(undefined)
        if (++this.#missed >= RELAY_KEEPALIVES_MISSED_MAX) throw lost(relay)
      }
      if (clock.monotonic() >= this.#renewAt) {
        this.#renewAt = Number.POSITIVE_INFINITY
        stream.say({ type: 'reserve' })
      }
      this.#lastId = random.uint32()
      this.#sentAt = clock.monotonic()
      stream.say({ type: 'keepalive', id: this.#lastId })
    }
  }
}

/** Those of a relay's addresses that can be dialled, and that are its own. */
function ownAddressesOf(relay: string, texts: readonly string[]): string[] {
  const decoded = texts.map(decodeAddress).filter(address => address !== undefined)
  const own = decoded.filter(address => address.peer === relay && address.relay === undefined)
  return own.map(({ text }) => text).slice(0, RELAY_ADDRESSES_MAX)
}

/**
 * Round-trip times of a few keepalives, in milliseconds; undefined for one that was not answered in time.
 * @throws the signal's reason, or where there is no stream to the relay
 */
export async function probeRelay(
  deps: ReservationDeps,
  relay: string,
  options: { readonly signal: AbortSignal },
): Promise<readonly (number | undefined)[]> {
  const { clock, random } = deps
  const stream = new RelayStream(await deps.open(relay, options))
  const samples: (number | undefined)[] = []
  try {
    while (samples.length < RELAY_PROBES) {
      const id = random.uint32()
      const sentAt = clock.monotonic()
      stream.say({ type: 'keepalive', id })
      const answer = expectAnswer(relay, 'alive', await stream.answer(clock, options))
      if (answer.id !== id) throw relayRefused(relay, 'malformed')
      samples.push(clock.monotonic() - sentAt)
    }
    return samples
  } catch (error) {
    if (options.signal.aborted) throw error
    return [...samples, undefined]
  } finally {
    stream.abort(new Error('the relay has been measured'))
  }
}
