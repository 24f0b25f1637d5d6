/** How often each peer may come. Peers beyond the bound push out those that have been quiet longest. */
import type { Clock } from '#base'
import { TokenBucket } from '#protocol'

const PEERS_MAX = 1_024

export class PeerRates {
  readonly #clock: Clock
  readonly #options: { readonly tokensMax: number; readonly perSecond: number }
  readonly #buckets = new Map<string, TokenBucket>()

  constructor(clock: Clock, options: { readonly tokensMax: number; readonly refillS: number }) {
    this.#clock = clock
    this.#options = { tokensMax: options.tokensMax, perSecond: 1 / options.refillS }
  }

  /** False: the peer has come too often. */
  take(peer: string): boolean {
    const bucket = this.#buckets.get(peer) ?? new TokenBucket({ clock: this.#clock }, this.#options)
    this.#buckets.delete(peer)
    this.#buckets.set(peer, bucket)
    const [quietest] = this.#buckets.keys()
    if (this.#buckets.size > PEERS_MAX && quietest !== undefined) this.#buckets.delete(quietest)
    return bucket.take(1)
  }
}
