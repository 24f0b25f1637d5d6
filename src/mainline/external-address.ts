/**
 * Which public address of ours others see (BEP 42). Each answer may say it; we count one vote for each prefix that
 * answers, the latest ones, and believe what enough and more than half of them agree on. Only answers to our own queries
 * vote, so that nobody can vote for another.
 */
import { prefixOf, scopeOf } from './address.ts'
import { ADDRESS_VOTES_MAX, ADDRESS_VOTES_MIN } from './limits.ts'

export class ExternalAddress {
  /** What each prefix says, the oldest vote first. */
  readonly #votes = new Map<string, string>()
  #host: string | undefined

  /** Undefined: not known yet. */
  get host(): string | undefined {
    return this.#host
  }

  /** @returns whether what we believe has changed */
  vote(seenAs: string, voterHost: string): boolean {
    // Somebody on our own network sees us there, or says what he likes.
    if (scopeOf(seenAs) !== 'public' || scopeOf(voterHost) !== 'public') return false
    const voter = prefixOf(voterHost)
    this.#votes.delete(voter)
    this.#votes.set(voter, seenAs)
    const [oldest] = this.#votes.keys()
    if (this.#votes.size > ADDRESS_VOTES_MAX && oldest !== undefined) this.#votes.delete(oldest)
    if (seenAs === this.#host) return false
    const agreeing = [...this.#votes.values()].filter(host => host === seenAs).length
    if (agreeing < ADDRESS_VOTES_MIN || 2 * agreeing <= this.#votes.size) return false
    this.#host = seenAs
    return true
  }
}
