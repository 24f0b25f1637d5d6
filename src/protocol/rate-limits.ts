/**
 * What each peer may ask of this node: tokens for its requests together, a rate for each command, bytes a second in and
 * out. The table of peers is bounded. A peer leaves it only when all its buckets are full, so nobody can get another's
 * (or his own) empty bucket forgotten by filling the table with names; those who find no place share one set of buckets.
 */
import type { Clock } from '#base'
import type { Command } from './command.ts'
import {
  PEER_BYTES_BURST_MAX,
  PEER_BYTES_PER_SECOND_MAX,
  PEER_TOKENS_MAX,
  PEER_TOKENS_PER_SECOND,
  RATE_LIMITED_PEERS_MAX,
  RATE_LIMIT_SAID_MS,
} from './limits.ts'
import { type BucketOptions, TokenBucket } from './token-bucket.ts'

/** Peers that are looked at when the table is full: a new peer must not cost a walk over all of them. */
const LOOKED_AT_MAX = 16

export type RateLimitOptions = {
  readonly requests: BucketOptions
  /** In bytes; each direction has a bucket of its own. */
  readonly bytes: BucketOptions
  readonly peersMax: number
}

const DEFAULTS: RateLimitOptions = {
  requests: { tokensMax: PEER_TOKENS_MAX, perSecond: PEER_TOKENS_PER_SECOND },
  bytes: { tokensMax: PEER_BYTES_BURST_MAX, perSecond: PEER_BYTES_PER_SECOND_MAX },
  peersMax: RATE_LIMITED_PEERS_MAX,
}

/** A refusal: when to come back, and whether it is the peer's first for a while (worth an entry in the audit log). */
export type Throttle = { readonly retryAfterMs: number; readonly isFirst: boolean }

type Buckets = {
  readonly requests: TokenBucket
  readonly bytesIn: TokenBucket
  readonly bytesOut: TokenBucket
  readonly commands: Map<number, { readonly rate: Command['rate']; readonly bucket: TokenBucket }>
  saidAt: number | undefined
}

export class RateLimits {
  readonly #clock: Clock
  readonly #options: RateLimitOptions
  /** In the order of their last use, the longest unused first. */
  readonly #peers = new Map<string, Buckets>()
  readonly #shared: Buckets

  constructor(deps: { readonly clock: Clock }, options: Partial<RateLimitOptions> = {}) {
    this.#clock = deps.clock
    this.#options = { ...DEFAULTS, ...options }
    this.#shared = this.#fresh()
  }

  /** Peers with buckets of their own. */
  get peers(): number {
    return this.#peers.size
  }

  /** Takes what a request of this command costs, from all its buckets or from none. Undefined: go on. */
  takeRequest(peer: string, command: Pick<Command, 'type' | 'cost' | 'rate'>): Throttle | undefined {
    const buckets = this.#find(peer)
    const own = this.#commandBucket(buckets, command)
    const retryAfterMs = Math.max(
      buckets.requests.retryAfterMs(command.cost),
      own.retryAfterMs(1),
      buckets.bytesIn.retryAfterMs(0),
    )
    if (retryAfterMs > 0) return this.#refuse(buckets, retryAfterMs)
    buckets.requests.take(command.cost)
    own.take(1)
    return undefined
  }

  /** Takes what a message costs that is no request that could be refused for its command's sake. Undefined: go on. */
  takeTokens(peer: string, tokens: number): Throttle | undefined {
    const buckets = this.#find(peer)
    if (buckets.requests.take(tokens)) return undefined
    return this.#refuse(buckets, buckets.requests.retryAfterMs(tokens))
  }

  /**
   * Counts bytes that came from a peer, or go to it. The answer is how long to wait before the next read or write, in
   * milliseconds; 0: go on.
   */
  chargeBytes(peer: string, direction: 'in' | 'out', sizeBytes: number): number {
    const buckets = this.#find(peer)
    const bucket = direction === 'in' ? buckets.bytesIn : buckets.bytesOut
    bucket.charge(sizeBytes)
    return bucket.retryAfterMs(0)
  }

  #refuse(buckets: Buckets, retryAfterMs: number): Throttle {
    const now = this.#clock.monotonic()
    const isFirst = buckets.saidAt === undefined || now - buckets.saidAt >= RATE_LIMIT_SAID_MS
    if (isFirst) buckets.saidAt = now
    return { retryAfterMs, isFirst }
  }

  #find(peer: string): Buckets {
    const known = this.#peers.get(peer)
    if (known !== undefined) {
      this.#peers.delete(peer)
      this.#peers.set(peer, known)
      return known
    }
    if (this.#peers.size >= this.#options.peersMax && !this.#makeRoom()) return this.#shared
    const fresh = this.#fresh()
    this.#peers.set(peer, fresh)
    return fresh
  }

  /** Forgets one peer whose buckets are full. Those that are not go to the end, so that the next look finds others. */
  #makeRoom(): boolean {
    for (let looked = 0; looked < LOOKED_AT_MAX; looked++) {
      const [oldest] = this.#peers
      if (oldest === undefined) return true
      const [peer, buckets] = oldest
      this.#peers.delete(peer)
      if (isIdle(buckets)) return true
      this.#peers.set(peer, buckets)
    }
    return false
  }

  #commandBucket(buckets: Buckets, { type, rate }: Pick<Command, 'type' | 'rate'>): TokenBucket {
    const known = buckets.commands.get(type)
    // A plug-in may have put another command in the place of this one.
    if (known?.rate.burst === rate.burst && known.rate.perSecond === rate.perSecond) return known.bucket
    const bucket = new TokenBucket({ clock: this.#clock }, { tokensMax: rate.burst, perSecond: rate.perSecond })
    buckets.commands.set(type, { rate, bucket })
    return bucket
  }

  #fresh(): Buckets {
    const { requests, bytes } = this.#options
    const deps = { clock: this.#clock }
    return {
      requests: new TokenBucket(deps, requests),
      bytesIn: new TokenBucket(deps, bytes),
      bytesOut: new TokenBucket(deps, bytes),
      commands: new Map(),
      saidAt: undefined,
    }
  }
}

function isIdle({ requests, bytesIn, bytesOut, commands }: Buckets): boolean {
  return [requests, bytesIn, bytesOut, ...[...commands.values()].map(({ bucket }) => bucket)].every(b => b.isFull)
}
