/**
 * What peers say about where they see us. Anybody can say anything, and peers cost nothing, but addresses in many networks
 * do: each network has one vote, and nothing is believed that only one network says.
 */
import type { Clock } from '#base'
import { networkOf } from './address.ts'
import { VOTE_LIFE_MS, VOTERS_MAX, VOTES_MIN } from './limits.ts'

type Vote = { readonly value: string; readonly at: number }

export class Votes {
  readonly #clock: Clock
  /** By network, the longest unheard first. */
  readonly #votes = new Map<string, Vote>()

  constructor(deps: { readonly clock: Clock }) {
    this.#clock = deps.clock
  }

  get size(): number {
    return this.#votes.size
  }

  /** @param voter IP address of the peer that says so @param value what it says; a later word replaces an earlier one */
  cast(voter: string, value: string): void {
    const network = networkOf(voter)
    if (network === '') return
    this.#votes.delete(network)
    this.#votes.set(network, { value, at: this.#clock.monotonic() })
    for (const oldest of this.#votes.keys()) {
      if (this.#votes.size <= VOTERS_MAX) break
      this.#votes.delete(oldest)
    }
  }

  /** What at least `VOTES_MIN` networks say, the most agreed first. */
  agreed(): readonly string[] {
    const since = this.#clock.monotonic() - VOTE_LIFE_MS
    const counts = new Map<string, number>()
    for (const [network, { value, at }] of this.#votes) {
      if (at <= since) this.#votes.delete(network)
      else counts.set(value, (counts.get(value) ?? 0) + 1)
    }
    return [...counts]
      .filter(([, count]) => count >= VOTES_MIN)
      .sort((a, b) => b[1] - a[1])
      .map(([value]) => value)
  }

  clear(): void {
    this.#votes.clear()
  }
}
