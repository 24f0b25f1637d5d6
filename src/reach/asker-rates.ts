/**
 * How many dials each address may ask of us. The table is bounded; who is in it leaves only with a full bucket, so that
 * nobody gets an empty one forgotten by filling the table. Those who find no place share one bucket.
 */
import type { Clock } from '#base'
import { TokenBucket } from '#protocol'
import { ownerOf } from './address.ts'
import {
  DIAL_BACK_ASKERS_MAX,
  DIAL_BACKS_MAX,
  DIAL_BACKS_PER_ADDRESS_MAX,
  DIAL_BACKS_PER_ADDRESS_PER_MINUTE,
  DIAL_BACKS_PER_MINUTE,
} from './limits.ts'

const PER_ADDRESS = { tokensMax: DIAL_BACKS_PER_ADDRESS_MAX, perSecond: DIAL_BACKS_PER_ADDRESS_PER_MINUTE / 60 }

export class AskerRates {
  readonly #clock: Clock
  readonly #buckets = new Map<string, TokenBucket>()
  readonly #strangers: TokenBucket
  readonly #everybody: TokenBucket

  constructor(deps: { readonly clock: Clock }) {
    this.#clock = deps.clock
    this.#strangers = new TokenBucket(deps, PER_ADDRESS)
    this.#everybody = new TokenBucket(deps, { tokensMax: DIAL_BACKS_MAX, perSecond: DIAL_BACKS_PER_MINUTE / 60 })
  }

  get size(): number {
    return this.#buckets.size
  }

  /** Whether the address may have one more dial now. */
  take(ip: string): boolean {
    return this.#bucketOf(ownerOf(ip)).take(1) && this.#everybody.take(1)
  }

  #bucketOf(owner: string): TokenBucket {
    const known = this.#buckets.get(owner)
    if (known !== undefined) return known
    if (this.#buckets.size >= DIAL_BACK_ASKERS_MAX) {
      for (const [other, bucket] of this.#buckets) if (bucket.isFull) this.#buckets.delete(other)
      if (this.#buckets.size >= DIAL_BACK_ASKERS_MAX) return this.#strangers
    }
    const bucket = new TokenBucket({ clock: this.#clock }, PER_ADDRESS)
    this.#buckets.set(owner, bucket)
    return bucket
  }
}
