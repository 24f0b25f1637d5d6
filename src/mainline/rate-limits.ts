/**
 * How many datagrams are looked at: so many of one address, so many of all. The table of addresses is bounded. An
 * address leaves it only when its bucket is full, so nobody gets his own empty one forgotten; those who find no place
 * share one bucket.
 */
import type { Clock } from '#base'
import { TokenBucket } from '#protocol'
import { allowanceOf } from './address.ts'
import {
  ADDRESS_QUERIES_MAX,
  ADDRESS_QUERIES_PER_SECOND,
  RATE_LIMITED_ADDRESSES_MAX,
  TOTAL_QUERIES_MAX,
  TOTAL_QUERIES_PER_SECOND,
} from './limits.ts'
import type { Rate } from './types.ts'

/** Addresses that are looked at when the table is full: a new one must not cost a walk over all of them. */
const LOOKED_AT_MAX = 16

export class RateLimits {
  readonly #clock: Clock
  readonly #addressRate: Rate
  readonly #total: TokenBucket
  readonly #shared: TokenBucket
  /** The longest unused first. */
  readonly #addresses = new Map<string, TokenBucket>()

  constructor(
    deps: { readonly clock: Clock },
    options: { readonly addressRate?: Rate | undefined; readonly totalRate?: Rate | undefined } = {},
  ) {
    const { addressRate, totalRate } = options
    this.#clock = deps.clock
    this.#addressRate = addressRate ?? { tokensMax: ADDRESS_QUERIES_MAX, perSecond: ADDRESS_QUERIES_PER_SECOND }
    this.#total = new TokenBucket(
      deps,
      totalRate ?? { tokensMax: TOTAL_QUERIES_MAX, perSecond: TOTAL_QUERIES_PER_SECOND },
    )
    this.#shared = new TokenBucket(deps, this.#addressRate)
  }

  /** Addresses that have a bucket of their own. */
  get size(): number {
    return this.#addresses.size
  }

  /** False: too many. The address is asked first, so that one of many queries cannot use up what all share. */
  take(host: string): boolean {
    return this.#bucketOf(allowanceOf(host)).take(1) && this.#total.take(1)
  }

  #bucketOf(address: string): TokenBucket {
    const known = this.#addresses.get(address)
    if (known !== undefined) {
      this.#addresses.delete(address)
      this.#addresses.set(address, known)
      return known
    }
    if (this.#addresses.size >= RATE_LIMITED_ADDRESSES_MAX && !this.#dropFull()) return this.#shared
    const fresh = new TokenBucket({ clock: this.#clock }, this.#addressRate)
    this.#addresses.set(address, fresh)
    return fresh
  }

  #dropFull(): boolean {
    let looked = 0
    for (const [address, bucket] of this.#addresses) {
      if (bucket.isFull) return this.#addresses.delete(address)
      if (++looked >= LOOKED_AT_MAX) return false
    }
    return false
  }
}
