/**
 * Circuit breakers: whoever could not be reached several times is left alone for a while, then probed once, and left alone
 * for twice as long where that fails too. One for each peer and each address that failed lately, and no others.
 *
 *     closed --(so many failures within the window)--> open --(its time is up, somebody dials)--> half-open
 *       ^                                               ^---------------(the probe fails)------------'
 *       '-------------------------------(the probe succeeds, or the peer comes to us)----------------'
 */
import { type Clock, type Random, uniform } from '#base'
import { BREAKERS_MAX, CONNECT_TIMEOUT_MS } from '../limits.ts'
import type { NetSettings } from '../settings.ts'

export type BreakerSettings = Pick<
  NetSettings,
  'breakerFailures' | 'breakerWindowMs' | 'breakerWaitMsMin' | 'breakerWaitMsMax'
>

type Breaker =
  /** `failedAt`: Clock.monotonic() of the last failures, oldest first. */
  | { readonly state: 'closed'; readonly failedAt: readonly number[] }
  /** `round`: probes that have failed, so far. */
  | { readonly state: 'open'; readonly until: number; readonly round: number }
  /** `until`: a probe that nobody has heard of by then counts for nothing. */
  | { readonly state: 'half-open'; readonly until: number; readonly round: number }

/** No dial takes longer. */
const PROBE_MS_MAX = 2 * CONNECT_TIMEOUT_MS

/** A breaker that is not closed, for people. */
export type BreakerFacts = {
  /** A peer id, or an address. */
  readonly key: string
  readonly state: 'open' | 'half-open'
  /** When the next dial is let through; 0: now, or one is on its way. */
  readonly retryAfterMs: number
  /** Probes that have failed. */
  readonly round: number
}

export class Breakers {
  readonly #deps: { readonly clock: Clock; readonly random: Random }
  readonly #settings: BreakerSettings
  /** Those that were heard of longest ago first. */
  readonly #breakers = new Map<string, Breaker>()

  constructor(deps: { readonly clock: Clock; readonly random: Random }, settings: BreakerSettings) {
    this.#deps = deps
    this.#settings = settings
  }

  /** How long the key is left alone from now on, without asking for a dial; undefined: it may be dialled. */
  restsForMs(key: string): number | undefined {
    const breaker = this.#breakers.get(key)
    if (breaker === undefined || breaker.state === 'closed') return undefined
    const waitMs = breaker.until - this.#deps.clock.monotonic()
    if (waitMs <= 0) return undefined
    // Another's probe is on its way, and will have ended soon.
    return breaker.state === 'half-open' ? this.#settings.breakerWaitMsMin : Math.ceil(waitMs)
  }

  /**
   * Asks for a dial. Whoever is let through says how it ended: `failed`, `succeeded`, or `gaveUp`.
   * @returns undefined where it may begin, else how long the key is left alone
   */
  enter(key: string): number | undefined {
    const restsForMs = this.restsForMs(key)
    if (restsForMs !== undefined) return restsForMs
    const breaker = this.#breakers.get(key)
    if (breaker !== undefined && breaker.state !== 'closed') {
      const until = this.#deps.clock.monotonic() + PROBE_MS_MAX
      this.#set(key, { state: 'half-open', until, round: breaker.round })
    }
    return undefined
  }

  failed(key: string): void {
    const { breakerFailures, breakerWindowMs } = this.#settings
    const breaker = this.#breakers.get(key)
    if (breaker?.state === 'open') return // A dial from before it opened.
    if (breaker?.state === 'half-open') {
      this.#open(key, breaker.round + 1)
      return
    }
    const now = this.#deps.clock.monotonic()
    const failedAt = [...(breaker?.failedAt ?? []), now].filter(at => now - at < breakerWindowMs)
    if (failedAt.length >= breakerFailures) this.#open(key, 0)
    else this.#set(key, { state: 'closed', failedAt })
  }

  succeeded(key: string): void {
    this.#breakers.delete(key)
  }

  /** The dial came to no end of its own; a probe is due again after `waitMs`. */
  gaveUp(key: string, waitMs = 0): void {
    const breaker = this.#breakers.get(key)
    if (breaker?.state !== 'half-open') return
    this.#set(key, { state: 'open', until: this.#deps.clock.monotonic() + waitMs, round: breaker.round })
  }

  /** Those that are not closed. */
  facts(): BreakerFacts[] {
    const now = this.#deps.clock.monotonic()
    return [...this.#breakers].flatMap(([key, breaker]) => {
      if (breaker.state === 'closed') return []
      const { state, round } = breaker
      const retryAfterMs = state === 'open' ? Math.max(0, Math.ceil(breaker.until - now)) : 0
      return [{ key, state, retryAfterMs, round }]
    })
  }

  get size(): number {
    return this.#breakers.size
  }

  /** Spread out, so that a swarm that lost a node does not dial it in step. */
  #open(key: string, round: number): void {
    const { breakerWaitMsMin, breakerWaitMsMax } = this.#settings
    const waitMs = Math.min(breakerWaitMsMax, breakerWaitMsMin * 2 ** Math.min(round, 32))
    const spreadMs = waitMs * (0.75 + uniform(this.#deps.random) / 2)
    this.#set(key, { state: 'open', until: this.#deps.clock.monotonic() + spreadMs, round })
  }

  #set(key: string, breaker: Breaker): void {
    this.#breakers.delete(key)
    this.#breakers.set(key, breaker)
    const [oldest] = this.#breakers.keys()
    if (this.#breakers.size > BREAKERS_MAX && oldest !== undefined) this.#breakers.delete(oldest)
  }
}
