/**
 * How often each peer may ask a relay for something, and a relay us. The table is bounded, and a peer leaves it only once its buckets are
 * full: going and coming back does not fill them. Those who find no place in it share one set.
 */
import type { Clock } from '#base'
import { TokenBucket } from '#protocol'
import {
  RELAY_CONNECT_BURST,
  RELAY_CONNECTS_PER_SECOND,
  RELAY_COUNTED_PEERS_MAX,
  RELAY_INCOMING_BURST,
  RELAY_INCOMING_PER_SECOND,
  RELAY_RESERVE_BURST,
  RELAY_RESERVE_REFILL_MS,
  RELAY_STRANGER_CONNECT_BURST,
  RELAY_STRANGER_CONNECT_REFILL_MS,
} from './limits.ts'

type Asked = Readonly<Record<'reserve' | 'connect' | 'connectAsStranger' | 'incoming', TokenBucket>>

export class RelayAsks {
  readonly #clock: Clock
  readonly #peers = new Map<string, Asked>()
  readonly #shared: Asked

  constructor(deps: { readonly clock: Clock }) {
    this.#clock = deps.clock
    this.#shared = this.#fresh()
  }

  /** How many peers are counted each for itself. */
  get size(): number {
    return this.#peers.size
  }

  /** How long the peer has to wait before it may ask, in milliseconds; 0: it has asked now. */
  take(peer: string, what: keyof Asked): number {
    const bucket = this.#find(peer)[what]
    return bucket.take(1) ? 0 : Math.max(1, bucket.retryAfterMs(1))
  }

  #find(peer: string): Asked {
    const known = this.#peers.get(peer)
    if (known !== undefined) return known
    if (this.#peers.size >= RELAY_COUNTED_PEERS_MAX) {
      for (const [other, asked] of this.#peers) {
        if (Object.values(asked).every(bucket => bucket.isFull)) this.#peers.delete(other)
      }
      if (this.#peers.size >= RELAY_COUNTED_PEERS_MAX) return this.#shared
    }
    const fresh = this.#fresh()
    this.#peers.set(peer, fresh)
    return fresh
  }

  #fresh(): Asked {
    const deps = { clock: this.#clock }
    return {
      reserve: new TokenBucket(deps, { tokensMax: RELAY_RESERVE_BURST, perSecond: 1000 / RELAY_RESERVE_REFILL_MS }),
      connect: new TokenBucket(deps, { tokensMax: RELAY_CONNECT_BURST, perSecond: RELAY_CONNECTS_PER_SECOND }),
      // The caps of a stranger's circuit are worth what the next circuit costs.
      connectAsStranger: new TokenBucket(deps, {
        tokensMax: RELAY_STRANGER_CONNECT_BURST,
        perSecond: 1000 / RELAY_STRANGER_CONNECT_REFILL_MS,
      }),
      incoming: new TokenBucket(deps, { tokensMax: RELAY_INCOMING_BURST, perSecond: RELAY_INCOMING_PER_SECOND }),
    }
  }
}
