/**
 * How much each address may ask of the STUN server. The table is bounded, and an address leaves it only when its bucket
 * is full again, so that nobody gets an empty bucket forgotten by filling the table; those who find no place share one.
 */
import type { Clock } from '#base'
import { TokenBucket } from '#protocol'
import { bytesOfAddress } from '../ip.ts'
import {
  STUN_ADDRESSES_MAX,
  STUN_BURST_MAX,
  STUN_BURST_PER_ADDRESS_MAX,
  STUN_PER_ADDRESS_PER_SECOND,
  STUN_PER_SECOND,
} from '../limits.ts'

/** Addresses that are looked at when the table is full: a new one must not cost a walk over all. */
const LOOKED_AT_MAX = 16

const PER_ADDRESS = { tokensMax: STUN_BURST_PER_ADDRESS_MAX, perSecond: STUN_PER_ADDRESS_PER_SECOND }

export class RateTable {
  readonly #clock: Clock
  /** In the order of their last use, the longest unused first. */
  readonly #buckets = new Map<string, TokenBucket>()
  readonly #strangers: TokenBucket
  readonly #everybody: TokenBucket

  constructor(deps: { readonly clock: Clock }) {
    this.#clock = deps.clock
    this.#strangers = new TokenBucket(deps, PER_ADDRESS)
    this.#everybody = new TokenBucket(deps, { tokensMax: STUN_BURST_MAX, perSecond: STUN_PER_SECOND })
  }

  get size(): number {
    return this.#buckets.size
  }

  /** Whether the address may have one more answer now. */
  take(address: string): boolean {
    return this.#bucketOf(address).take(1) && this.#everybody.take(1)
  }

  #bucketOf(address: string): TokenBucket {
    const key = groupOf(address)
    const known = this.#buckets.get(key)
    if (known === undefined && this.#buckets.size >= STUN_ADDRESSES_MAX && !this.#makeRoom()) return this.#strangers
    const bucket = known ?? new TokenBucket({ clock: this.#clock }, PER_ADDRESS)
    this.#buckets.delete(key)
    this.#buckets.set(key, bucket)
    return bucket
  }

  #makeRoom(): boolean {
    let looked = 0
    for (const [key, bucket] of this.#buckets) {
      if (bucket.isFull) return this.#buckets.delete(key)
      if (++looked === LOOKED_AT_MAX) break
    }
    return false
  }
}

/** Who has one address of an IPv6 network has all of its /64. */
function groupOf(address: string): string {
  const bytes = bytesOfAddress(address)
  return bytes?.byteLength === 16 ? bytes.subarray(0, 8).join('.') : address
}
