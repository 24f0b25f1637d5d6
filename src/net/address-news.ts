/**
 * Whether what a joined peer signs about itself is news for the others here: a node that has found a relay only after it
 * had joined must be heard of too. Each telling goes to every peer, so a peer is told of only so often.
 */
import type { Clock } from '#base'
import { TokenBucket } from '#protocol'
import { NEWS_BURST_MAX, NEWS_REFILL_MS, PEERS_MAX } from './limits.ts'

type Known = { readonly addresses: string; readonly bucket: TokenBucket }

export class AddressNews {
  readonly #clock: Clock
  /** By peer, the one whose news are the oldest first. */
  readonly #known = new Map<string, Known>()

  constructor(deps: { readonly clock: Clock }) {
    this.#clock = deps.clock
  }

  /** @param addresses those that the peer's record proves @returns whether the others should be told */
  isNews(peer: string, addresses: readonly string[]): boolean {
    const text = addresses.join(' ')
    const known = this.#known.get(peer)
    if (text === '' || text === known?.addresses) return false
    const refill = { tokensMax: NEWS_BURST_MAX, perSecond: 1000 / NEWS_REFILL_MS }
    const bucket = known?.bucket ?? new TokenBucket({ clock: this.#clock }, refill)
    if (!bucket.take(1)) return false
    this.#known.delete(peer)
    this.#known.set(peer, { addresses: text, bucket })
    const [oldest] = this.#known.keys()
    if (this.#known.size > 4 * PEERS_MAX && oldest !== undefined) this.#known.delete(oldest)
    return true
  }
}
