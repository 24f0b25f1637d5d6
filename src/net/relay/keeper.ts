/**
 * Keeps a node that others cannot dial reachable: holds reservations at the best relays among its peers, takes another at
 * once when one is lost, and moves when another has been clearly better for a while.
 */
import { type CancelTimer, type Clock, codeOf, type Logger, type Random, sleep, toHex, uniform } from '#base'
import type { HeldReservation } from '#wire'
import { NetError } from '../errors.ts'
import {
  RELAY_CANDIDATES_MAX,
  RELAY_MOVE_RATIO,
  RELAY_MOVE_REVIEWS,
  RELAY_RETRY_MS_MAX,
  RELAY_RETRY_MS_MIN,
  RELAY_REVIEW_MS,
  RELAY_STEADY_MS,
} from './limits.ts'
import { PathQuality, scoreOf } from './quality.ts'
import type { Grant, HoldOptions } from './reservation.ts'

/** A peer that says that it relays, and that is reached without a relay. */
export type Candidate = {
  readonly peer: string
  readonly slots: number
  readonly slotsFree: number
  readonly region?: string | undefined
  /** By the session's pings, in milliseconds. */
  readonly rttMs?: number | undefined
}

export type RelayKeeperDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** Our own peer id. */
  readonly self: string
  /** Whether this node needs relays now. */
  readonly isWanted: () => boolean
  readonly candidates: () => readonly Candidate[]
  readonly hold: (options: HoldOptions) => Promise<never>
  readonly probe: (relay: string, options: { readonly signal: AbortSignal }) => Promise<readonly (number | undefined)[]>
  /** Our addresses through relays have changed. */
  readonly onAddresses: () => void
}

export type RelayKeeperOptions = {
  /** How many reservations are held. */
  readonly count: number
  readonly region?: string | undefined
}

type Holding = {
  readonly abort: AbortController
  readonly ended: Promise<void>
  /** The relay that this one takes the place of, once it is had. */
  readonly replaces: string | undefined
  grant?: Grant
  since: number
}

type Blocked = { readonly until: number; readonly failures: number }

export class RelayKeeper {
  readonly #deps: RelayKeeperDeps
  readonly #options: RelayKeeperOptions
  readonly #holdings = new Map<string, Holding>()
  readonly #blocked = new Map<string, Blocked>()
  readonly #quality = new Map<string, PathQuality>()
  readonly #stopping = new AbortController()
  /** The relay that has been the better one, and for how many looks. */
  #better: { readonly relay: string; readonly reviews: number } | undefined
  #retry: CancelTimer | undefined
  #addresses = ''

  constructor(deps: RelayKeeperDeps, options: RelayKeeperOptions) {
    this.#deps = deps
    this.#options = options
  }

  /** Our own addresses by the relays that we hold. */
  addresses(): string[] {
    const relays = [...this.#holdings.values()].flatMap(({ grant }) => grant?.addresses ?? [])
    return relays.map(address => `${address}/p2p-circuit/p2p/${this.#deps.self}`)
  }

  held(): HeldReservation[] {
    const now = this.#deps.clock.monotonic()
    const candidates = new Map(this.#deps.candidates().map(candidate => [candidate.peer, candidate]))
    return [...this.#holdings].flatMap(([relay, { grant, since }]) => {
      if (grant === undefined) return []
      const rttMs = this.#quality.get(relay)?.rttMs
      const candidate = candidates.get(relay) ?? { peer: relay, slots: 0, slotsFree: 0 }
      const [session, score] = [toHex(grant.session), this.#score(candidate)]
      return [{ relay, session, ageMs: now - since, score, ...(rttMs === undefined ? {} : { rttMs }) }]
    })
  }

  holds(relay: string, session: Uint8Array): boolean {
    const grant = this.#holdings.get(relay)?.grant
    return grant !== undefined && toHex(grant.session) === toHex(session)
  }

  /** Looks at the relays again and again until `stop`. */
  async run(): Promise<void> {
    const { clock, random } = this.#deps
    const { signal } = this.#stopping
    while (!signal.aborted) {
      const waitMs = RELAY_REVIEW_MS * (0.75 + uniform(random) / 2)
      await sleep(clock, waitMs, { signal }).catch(() => undefined) // Aborted: the loop ends by its condition.
      if (!signal.aborted) await this.review()
    }
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#retry?.()
    for (const { abort } of this.#holdings.values()) abort.abort()
    await Promise.all([...this.#holdings.values()].map(({ ended }) => ended))
  }

  /** A peer has come, gone or changed what it offers, or whether we need relays may have changed. */
  poke(): void {
    if (this.#stopping.signal.aborted) return
    if (!this.#deps.isWanted()) {
      for (const { abort } of this.#holdings.values()) abort.abort()
      return
    }
    const missing = this.#options.count - this.#holdings.size
    if (missing <= 0) return
    for (const { peer } of this.#free().slice(0, missing)) this.#hold(peer, undefined)
  }

  /** Measures the candidates, and moves where one has been clearly better than one that is held. Never rejects. */
  async review(): Promise<void> {
    this.poke()
    if (!this.#deps.isWanted()) return
    const measured = this.#ranked(this.#deps.candidates()).slice(0, RELAY_CANDIDATES_MAX)
    await Promise.all(measured.map(({ peer }) => this.#measure(peer)))
    const here = new Set(this.#deps.candidates().map(({ peer }) => peer))
    for (const peer of this.#quality.keys()) if (!here.has(peer)) this.#quality.delete(peer)
    this.#consider()
  }

  async #measure(relay: string): Promise<void> {
    try {
      for (const sample of await this.#deps.probe(relay, { signal: this.#stopping.signal })) this.#sample(relay, sample)
    } catch {
      // No stream to it, or none any more: what it counts as is decided when it is asked for a place.
      this.#sample(relay, undefined)
    }
  }

  #consider(): void {
    const held = this.#ranked(this.#deps.candidates().filter(({ peer }) => this.#holdings.has(peer)))
    const worst = held.at(-1)
    const [best] = this.#free()
    const isFull = [...this.#holdings.values()].filter(({ grant }) => grant !== undefined).length >= this.#options.count
    if (!isFull || worst === undefined || best === undefined) return
    if (this.#score(best) > RELAY_MOVE_RATIO * this.#score(worst)) {
      this.#better = undefined
      return
    }
    const reviews = this.#better?.relay === best.peer ? this.#better.reviews + 1 : 1
    this.#better = { relay: best.peer, reviews }
    if (reviews < RELAY_MOVE_REVIEWS || this.#holdings.size > this.#options.count) return
    this.#better = undefined
    // The new one first, so that there is a way to us all the time.
    this.#hold(best.peer, worst.peer)
  }

  #hold(relay: string, replaces: string | undefined): void {
    const abort = new AbortController()
    // Begun in a turn of its own: what it changes must not change under the one who loops over it.
    const ended = Promise.resolve().then(() => this.#run(relay, abort.signal))
    this.#holdings.set(relay, { abort, ended, replaces, since: this.#deps.clock.monotonic() })
  }

  async #run(relay: string, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#deps
    try {
      await this.#deps.hold({
        relay,
        signal,
        onGranted: grant => this.#granted(relay, grant),
        onSample: rttMs => this.#sample(relay, rttMs),
      })
    } catch (error) {
      const holding = this.#holdings.get(relay)
      const heldMs = holding?.grant === undefined ? 0 : clock.monotonic() - holding.since
      this.#holdings.delete(relay)
      if (!signal.aborted) {
        const waitMs = this.#block(relay, heldMs, error)
        log.info('a relay is not available', { relay, code: codeOf(error), waitMs })
      }
      this.#announce()
      this.poke()
    }
  }

  #granted(relay: string, grant: Grant): void {
    const holding = this.#holdings.get(relay)
    if (holding === undefined) return
    if (holding.grant === undefined) {
      holding.since = this.#deps.clock.monotonic()
      this.#deps.log.info('holding a reservation at a relay', { relay })
    }
    holding.grant = grant
    if (holding.replaces !== undefined) this.#holdings.get(holding.replaces)?.abort.abort()
    this.#announce()
  }

  #announce(): void {
    const addresses = this.addresses().join(' ')
    if (addresses === this.#addresses) return
    this.#addresses = addresses
    this.#deps.onAddresses()
  }

  /** @returns how long the relay is left alone, in milliseconds */
  #block(relay: string, heldMs: number, error: unknown): number {
    const { clock, random } = this.#deps
    const failures = heldMs >= RELAY_STEADY_MS ? 1 : (this.#blocked.get(relay)?.failures ?? 0) + 1
    const backOffMs = Math.min(RELAY_RETRY_MS_MAX, RELAY_RETRY_MS_MIN * 2 ** (failures - 1)) * (0.5 + uniform(random))
    const fault = error instanceof NetError ? error.fault : undefined
    const askedMs = fault?.code === 'NET_RELAY_REFUSED' ? (fault.retryAfterMs ?? 0) : 0
    const waitMs = Math.min(RELAY_RETRY_MS_MAX, Math.max(backOffMs, askedMs))
    this.#blocked.delete(relay)
    this.#blocked.set(relay, { until: clock.monotonic() + waitMs, failures })
    const [oldest] = this.#blocked.keys()
    if (this.#blocked.size > 4 * RELAY_CANDIDATES_MAX && oldest !== undefined) this.#blocked.delete(oldest)
    this.#retryNext()
    return waitMs
  }

  /** Looks again when the next relay may be asked. */
  #retryNext(): void {
    const now = this.#deps.clock.monotonic()
    const next = Math.min(...[...this.#blocked.values()].map(({ until }) => until).filter(until => until > now))
    this.#retry?.()
    if (!Number.isFinite(next)) return
    this.#retry = this.#deps.clock.after(next - now, () => {
      this.poke()
      this.#retryNext()
    })
  }

  #sample(relay: string, rttMs: number | undefined): void {
    const quality = this.#quality.get(relay) ?? new PathQuality()
    this.#quality.set(relay, quality)
    quality.add(rttMs)
  }

  /** Those that may be asked for a place now, the best first. */
  #free(): Candidate[] {
    const now = this.#deps.clock.monotonic()
    const free = this.#deps.candidates().filter(({ peer, slotsFree }) => {
      return slotsFree > 0 && !this.#holdings.has(peer) && (this.#blocked.get(peer)?.until ?? now) <= now
    })
    return this.#ranked(free)
  }

  #ranked(candidates: readonly Candidate[]): Candidate[] {
    return [...candidates].sort((a, b) => this.#score(a) - this.#score(b))
  }

  #score({ peer, slots, slotsFree, region, rttMs }: Candidate): number {
    const load = slots === 0 ? 1 : 1 - slotsFree / slots
    const isSameRegion = region !== undefined && region === this.#options.region
    return scoreOf({ quality: this.#quality.get(peer), rttMs, load, isSameRegion })
  }
}
