/**
 * Peers that others name, again and again. Each answer names k peers, and kad-dht would queue all of them to be dialled
 * and pinged each time: those that are in the table, and those that were tried a moment ago, are passed over.
 */
import type { Clock } from '#base'
import { NEWCOMER_RETRY_MS, NEWCOMERS_TRIED_MAX } from './limits.ts'

export class Newcomers {
  readonly #clock: Clock
  /** When each was tried, the oldest first. */
  readonly #tried = new Map<string, number>()

  constructor(deps: { readonly clock: Clock }) {
    this.#clock = deps.clock
  }

  /** Whether the peer is to be tried now; notes that it is. */
  tries(peer: string): boolean {
    const now = this.#clock.monotonic()
    const before = this.#tried.get(peer)
    if (before !== undefined && now - before < NEWCOMER_RETRY_MS) return false
    this.#tried.delete(peer)
    this.#tried.set(peer, now)
    const [oldest] = this.#tried.keys()
    if (this.#tried.size > NEWCOMERS_TRIED_MAX && oldest !== undefined) this.#tried.delete(oldest)
    return true
  }
}
