/**
 * The relay: gives reservations to nodes that others cannot dial, and makes circuits to them for whoever asks. Both sides
 * are admitted peers, so each is who it says; what they say to each other over a circuit it cannot read.
 */
import { type ByteStream, type CancelTimer, type Clock, type Logger, messageOf, type Random, withDeadline } from '#base'
import { TokenBucket } from '#protocol'
import type {
  CircuitLimits,
  NodeOffer,
  RelayCut,
  RelayedBytes,
  RelayMessage,
  RelayMode,
  RelayRefusal,
  RelayServing,
} from '#wire'
import { RelayAsks } from './asks.ts'
import { type Applicant, type BookOptions, type Circuit, RelayBook, type Reservation } from './book.ts'
import { STRANGER_LIMITS, TRUSTED_LIMITS } from './circuit-limits.ts'
import {
  RELAY_ADDRESSES_MAX,
  RELAY_ANSWER_TIMEOUT_MS,
  RELAY_COUNTED_PEERS_MAX,
  RELAY_KEEPALIVE_BURST,
  RELAY_KEEPALIVES_PER_SECOND,
  RELAY_RESERVATION_MS,
} from './limits.ts'
import { endWith, RelayStream } from './relay-stream.ts'
import { Splice } from './splice.ts'

export type RelayServerDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** Our own peer id. */
  readonly self: string
  /** Whether others can dial this node; undefined: not known. */
  readonly isPublic: () => boolean | undefined
  /** A peer that is here and reached without a relay. */
  readonly applicant: (peer: string) => Applicant | undefined
  /** Opens a relay stream to a peer that is here. */
  readonly open: (peer: string, options: { readonly signal: AbortSignal }) => Promise<ByteStream>
  /** Where we are reached ourselves. */
  readonly addresses: () => readonly string[]
  /** What peers are told of our relaying has changed. */
  readonly onChange: () => void
}

export type RelayServerOptions = Partial<BookOptions> & {
  readonly mode: RelayMode
  readonly region?: string
  readonly limits?: { readonly stranger: CircuitLimits; readonly trusted: CircuitLimits }
}

type Refused = { readonly reason: RelayRefusal; readonly retryAfterMs?: number }

export class RelayServer {
  readonly #deps: RelayServerDeps
  readonly #options: RelayServerOptions
  readonly #book: RelayBook
  readonly #asks: RelayAsks
  readonly #stopping = new AbortController()
  /** The streams of reservations, to be ended with them. */
  readonly #streams = new Map<Reservation, RelayStream>()
  readonly #splices = new Set<Promise<void>>()
  readonly #served = new Map<string, RelayedBytes>()
  #bytes = 0

  constructor(deps: RelayServerDeps, options: RelayServerOptions) {
    this.#deps = deps
    this.#options = options
    this.#book = new RelayBook(deps, options)
    this.#asks = new RelayAsks(deps)
  }

  /** Why this node does not relay now; undefined: it does. */
  get refusal(): RelayRefusal | undefined {
    if (this.#stopping.signal.aborted) return 'stopping'
    const isPublic = this.#deps.isPublic()
    if (this.#options.mode === 'off' || (this.#options.mode === 'auto' && isPublic === undefined)) return 'not-a-relay'
    return isPublic === false ? 'not-public' : undefined
  }

  /** What peers are told; undefined: this node does not relay. */
  offer(): NodeOffer['relay'] {
    if (this.refusal !== undefined) return undefined
    const { region } = this.#options
    const { slots, slotsFree } = this.#book
    return { slots, slotsFree, ...(region === undefined ? {} : { region }) }
  }

  status(): RelayServing {
    const { slots, slotsFree, reservations, circuits } = this.#book
    const now = this.#deps.clock.monotonic()
    return {
      isServing: this.refusal === undefined,
      slots,
      slotsFree,
      bytes: this.#bytes,
      reservations: reservations.map(({ peer, since }) => ({ peer, ageMs: now - since })),
      circuits: [...circuits].map(({ from, to }) => ({ from: from.peer, to: to.peer })),
      peers: [...this.#served.values()],
    }
  }

  /** A stream whose first message asks something of a relay. */
  async serve(stream: RelayStream, message: RelayMessage): Promise<void> {
    if (message.type === 'reserve') await this.#reserve(stream)
    else if (message.type === 'connect') await this.#connect(stream, message)
    else if (message.type === 'keepalive') await this.#answerProbes(stream, message)
    else await this.#refuse(stream, { reason: 'malformed' })
  }

  /** Its places are free. */
  peerLeft(peer: string): void {
    const reservation = this.#book.find({ peer })
    if (reservation !== undefined) this.#release(reservation, 'left')
  }

  /** Ends all. Resolves when every circuit has. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    for (const reservation of this.#book.reservations) this.#release(reservation, 'stopping')
    await Promise.all(this.#splices)
  }

  async #reserve(stream: RelayStream): Promise<void> {
    const refused = this.#mayAsk(stream.peer, 'reserve')
    const applicant = this.#deps.applicant(stream.peer)
    if (refused !== undefined || applicant === undefined) return this.#refuse(stream, refused ?? { reason: 'loop' })
    const before = this.#book.find({ peer: stream.peer })
    const reservation = this.#book.reserve(applicant)
    if (typeof reservation === 'string') return this.#refuse(stream, { reason: reservation })
    if (before !== undefined) this.#forget(before)
    this.#streams.set(reservation, stream)
    this.#deps.onChange()
    const unwatch = this.#watch(reservation)
    try {
      this.#grant(stream, reservation)
      await this.#keep(stream, reservation)
    } finally {
      unwatch()
      this.#release(reservation, 'gone')
    }
  }

  /** Reads what the holder says for as long as it holds the reservation. */
  async #keep(stream: RelayStream, reservation: Reservation): Promise<void> {
    const bucket = keepaliveBucket(this.#deps)
    for (;;) {
      const message = await stream.message()
      if (message === undefined || !this.#book.heard(reservation)) return
      if ('code' in message || (message.type !== 'keepalive' && message.type !== 'reserve')) {
        return this.#refuse(stream, { reason: 'malformed' })
      }
      if (!bucket.take(1)) return this.#refuse(stream, { reason: 'rate' })
      if (message.type === 'keepalive') {
        stream.say({ type: 'alive', id: message.id })
        continue
      }
      const refused = this.#mayAsk(stream.peer, 'reserve')
      if (refused !== undefined) return this.#refuse(stream, refused)
      this.#book.renew(reservation)
      this.#grant(stream, reservation)
    }
  }

  #grant(stream: RelayStream, reservation: Reservation): void {
    const { session } = reservation
    const addresses = this.#deps.addresses().slice(0, RELAY_ADDRESSES_MAX)
    const limits = this.#limitsFor(reservation)
    stream.say({ type: 'reserved', session, expiresInMs: RELAY_RESERVATION_MS, addresses, limits })
  }

  /** Releases a reservation whose holder has fallen silent, though its stream still stands, or that has expired. */
  #watch(reservation: Reservation): CancelTimer {
    let cancel: CancelTimer = () => undefined
    const look = (): void => {
      const waitMs = this.#book.lapsesInMs(reservation)
      if (waitMs === 0) this.#release(reservation, 'lapsed')
      else cancel = this.#deps.clock.after(waitMs, look)
    }
    look()
    return () => cancel()
  }

  #release(reservation: Reservation, why: string): void {
    const stream = this.#streams.get(reservation)
    if (stream === undefined) return
    this.#forget(reservation)
    this.#deps.log.debug('a reservation has ended', { peer: reservation.peer, why })
    this.#deps.onChange()
  }

  #forget(reservation: Reservation): void {
    this.#book.release(reservation)
    const stream = this.#streams.get(reservation)
    this.#streams.delete(reservation)
    stream?.abort(new Error('the reservation has ended'))
  }

  async #connect(stream: RelayStream, message: Extract<RelayMessage, { type: 'connect' }>): Promise<void> {
    const from = this.#deps.applicant(stream.peer)
    const refused = this.#mayAsk(stream.peer, from?.isTrusted === true ? 'connect' : 'connectAsStranger')
    if (refused !== undefined || from === undefined) return this.#refuse(stream, refused ?? { reason: 'loop' })
    if (message.peer === this.#deps.self) return this.#refuse(stream, { reason: 'loop' })
    const to = this.#book.find(message)
    if (to === undefined) {
      return this.#refuse(stream, { reason: message.peer === stream.peer ? 'loop' : 'no-reservation' })
    }
    const circuit = this.#book.open(from, to)
    if (typeof circuit === 'string') return this.#refuse(stream, { reason: circuit })
    let target: RelayStream | Refused
    try {
      target = await this.#ask(circuit)
    } catch (error) {
      this.#book.closed(circuit)
      this.#deps.log.debug('the target of a circuit does not answer', { peer: to.peer, error: messageOf(error) })
      return this.#refuse(stream, { reason: 'unreachable' })
    }
    if (!(target instanceof RelayStream)) {
      this.#book.closed(circuit)
      return this.#refuse(stream, target)
    }
    await this.#splice([stream, target], circuit)
  }

  /** Asks the holder of the reservation whether it wants the circuit. @throws where it does not answer */
  #ask(circuit: Circuit): Promise<RelayStream | Refused> {
    const timeoutMs = RELAY_ANSWER_TIMEOUT_MS
    const deadline = { what: 'asking the target of a circuit', timeoutMs, signal: this.#stopping.signal }
    return withDeadline(this.#deps.clock, deadline, signal => this.#askTarget(circuit, signal))
  }

  async #askTarget({ from, to }: Circuit, signal: AbortSignal): Promise<RelayStream | Refused> {
    const { clock } = this.#deps
    const stream = new RelayStream(await this.#deps.open(to.peer, { signal }))
    try {
      const limits = this.#limitsFor(from, to)
      stream.say({ type: 'incoming', peer: from.peer, session: to.session, limits })
      const answer = await stream.answer(clock, { signal })
      if (!('code' in answer) && answer.type === 'accept') return stream
      stream.abort(new Error('the circuit was not accepted'))
      return { reason: 'refused' }
    } catch (error) {
      stream.abort(new Error('no answer came'))
      throw error
    }
  }

  async #splice(ends: readonly [RelayStream, RelayStream], circuit: Circuit): Promise<void> {
    const [stream, target] = ends
    const { from, to } = circuit
    const limits = this.#limitsFor(from, to)
    const onOver = (cut: RelayCut | undefined): void => {
      this.#book.closed(circuit)
      this.#deps.log.debug('a circuit is over', { from: from.peer, to: to.peer, cut: cut ?? 'closed' })
    }
    const onBytes = (peer: string, count: number): void => this.#meter(peer, count)
    try {
      stream.say({ type: 'connected', peer: to.peer, limits })
    } catch {
      this.#book.closed(circuit) // The one who asked has gone.
      await endWith(this.#deps.clock, target, { type: 'cut', reason: 'lost' })
      return
    }
    const splice = new Splice(this.#deps, ends, { limits, signal: this.#stopping.signal, onBytes, onOver }).run()
    this.#splices.add(splice)
    await splice.finally(() => this.#splices.delete(splice))
  }

  /** Peers measure how far we are before they choose. */
  async #answerProbes(stream: RelayStream, first: Extract<RelayMessage, { type: 'keepalive' }>): Promise<void> {
    const bucket = keepaliveBucket(this.#deps)
    let message: Awaited<ReturnType<RelayStream['message']>> = first
    while (message !== undefined && !('code' in message) && message.type === 'keepalive' && bucket.take(1)) {
      stream.say({ type: 'alive', id: message.id })
      message = await stream.message()
    }
    if (message === undefined) await stream.close()
    else
      await this.#refuse(stream, { reason: 'code' in message || message.type !== 'keepalive' ? 'malformed' : 'rate' })
  }

  async #refuse(stream: RelayStream, { reason, retryAfterMs }: Refused): Promise<void> {
    const facts = retryAfterMs === undefined ? {} : { retryAfterMs }
    await endWith(this.#deps.clock, stream, { type: 'refused', reason, ...facts })
  }

  #mayAsk(peer: string, what: 'reserve' | 'connect' | 'connectAsStranger'): Refused | undefined {
    const reason = this.refusal
    if (reason !== undefined) return { reason }
    const retryAfterMs = this.#asks.take(peer, what)
    return retryAfterMs > 0 ? { reason: 'rate', retryAfterMs } : undefined
  }

  #limitsFor(...parties: readonly Applicant[]): CircuitLimits {
    const { stranger, trusted } = this.#options.limits ?? { stranger: STRANGER_LIMITS, trusted: TRUSTED_LIMITS }
    return parties.every(({ isTrusted }) => isTrusted) ? trusted : stranger
  }

  /** Counts for each peer what it had passed on: what a relay could be paid by. */
  #meter(peer: string, count: number): void {
    this.#bytes += count
    const bytes = (this.#served.get(peer)?.bytes ?? 0) + count
    this.#served.delete(peer)
    this.#served.set(peer, { peer, bytes })
    const [oldest] = this.#served.keys()
    if (this.#served.size > RELAY_COUNTED_PEERS_MAX && oldest !== undefined) this.#served.delete(oldest)
  }
}

function keepaliveBucket(deps: { readonly clock: Clock }): TokenBucket {
  return new TokenBucket(deps, { tokensMax: RELAY_KEEPALIVE_BURST, perSecond: RELAY_KEEPALIVES_PER_SECOND })
}
