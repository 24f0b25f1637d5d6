/** How much each peer may ask for, since peers ask for free and answers cost work. */
import type { Clock } from '#base'
import { TokenBucket } from '#protocol'
import { RATE_LIMITED_PEERS_MAX, REQUEST_BYTES_PER_TOKEN } from './limits.ts'

export type RateOptions = { readonly tokensMax: number; readonly perSecond: number }

export class RequestRates {
  readonly #clock: Clock
  readonly #options: RateOptions
  readonly #buckets = new Map<string, TokenBucket>()
  readonly #shared: TokenBucket

  constructor(deps: { readonly clock: Clock }, options: RateOptions) {
    this.#clock = deps.clock
    this.#options = options
    this.#shared = new TokenBucket(deps, options)
  }

  /** One more request. False: too many. */
  take(peer: string): boolean {
    return this.#bucketOf(peer).take(1)
  }

  /** Bytes of it that came. */
  charge(peer: string, bytes: number): void {
    this.#bucketOf(peer).charge(bytes / REQUEST_BYTES_PER_TOKEN)
  }

  #bucketOf(peer: string): TokenBucket {
    const known = this.#buckets.get(peer)
    if (known !== undefined) return known
    if (this.#buckets.size >= RATE_LIMITED_PEERS_MAX) this.#forgetFull()
    if (this.#buckets.size >= RATE_LIMITED_PEERS_MAX) return this.#shared
    const bucket = new TokenBucket({ clock: this.#clock }, this.#options)
    this.#buckets.set(peer, bucket)
    return bucket
  }

  #forgetFull(): void {
    for (const [peer, bucket] of this.#buckets) if (bucket.isFull) this.#buckets.delete(peer)
  }
}
