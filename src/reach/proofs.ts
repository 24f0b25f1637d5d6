/**
 * What dial-backs have shown, place by place. That a place leads here is proved by one nonce that came in there; that it
 * does not is the word of others, so peers of two networks must have tried in vain.
 */
import type { Clock } from '#base'
import { keyOfPlace, networkOf, type Place } from './address.ts'
import { CANDIDATES_MAX, FAILURE_LIFE_MS, PROOF_LIFE_MS, VOTERS_MAX, VOTES_MIN } from './limits.ts'

export type Reachability = 'reachable' | 'not' | 'unknown'

type Entry = { provedAt: number; readonly failures: Map<string, number> }

export class Proofs {
  readonly #clock: Clock
  readonly #entries = new Map<string, Entry>()

  constructor(deps: { readonly clock: Clock }) {
    this.#clock = deps.clock
  }

  proved(place: Place): void {
    const entry = this.#entryOf(place)
    entry.provedAt = this.#clock.monotonic()
    entry.failures.clear()
  }

  /** @param helper IP address of the peer that tried */
  failed(place: Place, helper: string): void {
    const { failures } = this.#entryOf(place)
    if (failures.size < VOTERS_MAX) failures.set(networkOf(helper), this.#clock.monotonic())
  }

  verdict(place: Place): Reachability {
    const entry = this.#entries.get(keyOfPlace(place))
    if (entry === undefined) return 'unknown'
    // Failures after a proof that still counts end it once they are enough: ports are closed again.
    if (this.#failuresOf(entry).length >= VOTES_MIN) return 'not'
    return this.#ageMs(entry) < PROOF_LIFE_MS ? 'reachable' : 'unknown'
  }

  /** Whether the place should be tried now, by a peer at this address. */
  isDue(place: Place, helper: string): boolean {
    const entry = this.#entries.get(keyOfPlace(place))
    if (entry === undefined) return true
    const failures = this.#failuresOf(entry)
    if (failures.length >= VOTES_MIN || failures.includes(networkOf(helper))) return false
    return failures.length > 0 || this.#ageMs(entry) >= PROOF_LIFE_MS / 2
  }

  clear(): void {
    this.#entries.clear()
  }

  #ageMs({ provedAt }: Entry): number {
    return this.#clock.monotonic() - provedAt
  }

  #failuresOf({ failures }: Entry): string[] {
    const since = this.#clock.monotonic() - FAILURE_LIFE_MS
    for (const [network, at] of failures) if (at <= since) failures.delete(network)
    return [...failures.keys()]
  }

  #entryOf(place: Place): Entry {
    const key = keyOfPlace(place)
    const entry = this.#entries.get(key) ?? { provedAt: Number.NEGATIVE_INFINITY, failures: new Map() }
    this.#entries.delete(key)
    this.#entries.set(key, entry)
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= 2 * CANDIDATES_MAX) break
      this.#entries.delete(oldest)
    }
    return entry
  }
}
