/**
 * Peers that others have announced (BEP 5). Bounded in total, by info hash and by the announcer's address; where a bound
 * is met, the oldest announcement within it goes. So whoever announces much pushes out his own, not others'.
 */
import { type Clock, type Random, toHex } from '#base'
import { allowanceOf, familyOf, keyOf } from './address.ts'
import {
  ANSWERED_PEERS6_MAX,
  ANSWERED_PEERS_MAX,
  STORED_PEER_MS,
  STORED_PEERS_MAX,
  STORED_PEERS_PER_ADDRESS_MAX,
  STORED_PEERS_PER_HASH_MAX,
} from './limits.ts'
import type { Endpoint, Family } from './types.ts'

type Stored = { readonly hash: string; readonly endpoint: Endpoint; readonly atMs: number }

export class PeerStore {
  readonly #clock: Clock
  readonly #random: Random
  /** By info hash and endpoint, the oldest announcement first; so are the sets below. */
  readonly #stored = new Map<string, Stored>()
  readonly #byHash = new Map<string, Set<string>>()
  readonly #byAddress = new Map<string, Set<string>>()

  constructor(deps: { readonly clock: Clock; readonly random: Random }) {
    this.#clock = deps.clock
    this.#random = deps.random
  }

  get size(): number {
    return this.#stored.size
  }

  add(infoHash: Uint8Array, endpoint: Endpoint): void {
    const hash = toHex(infoHash)
    const key = `${hash} ${keyOf(endpoint)}`
    this.#remove(key)
    this.#makeRoom(this.#byHash.get(hash), STORED_PEERS_PER_HASH_MAX)
    this.#makeRoom(this.#byAddress.get(allowanceOf(endpoint.host)), STORED_PEERS_PER_ADDRESS_MAX)
    this.#makeRoom(this.#stored, STORED_PEERS_MAX)
    this.#stored.set(key, { hash, endpoint, atMs: this.#clock.monotonic() })
    addTo(this.#byHash, hash, key)
    addTo(this.#byAddress, allowanceOf(endpoint.host), key)
  }

  /** Some of those that were announced, by chance where there are more than fit an answer. */
  find(infoHash: Uint8Array, family: Family): Endpoint[] {
    this.expire()
    const found: Endpoint[] = []
    for (const key of this.#byHash.get(toHex(infoHash)) ?? []) {
      const endpoint = this.#stored.get(key)?.endpoint
      if (endpoint !== undefined && familyOf(endpoint) === family) found.push(endpoint)
    }
    const countMax = family === 4 ? ANSWERED_PEERS_MAX : ANSWERED_PEERS6_MAX
    for (let i = 0; i < Math.min(countMax, found.length); i++) {
      const other = i + (this.#random.uint32() % (found.length - i))
      const [a, b] = [found[i], found[other]]
      if (a !== undefined && b !== undefined) [found[i], found[other]] = [b, a]
    }
    return found.slice(0, countMax)
  }

  /** Forgets what is older than half an hour. */
  expire(): void {
    const now = this.#clock.monotonic()
    for (const [key, { atMs }] of this.#stored) {
      if (now - atMs < STORED_PEER_MS) return
      this.#remove(key)
    }
  }

  #makeRoom(
    keys: (Iterable<string | [string, unknown]> & { readonly size: number }) | undefined,
    countMax: number,
  ): void {
    if (keys === undefined || keys.size < countMax) return
    for (const entry of keys) {
      this.#remove(typeof entry === 'string' ? entry : entry[0])
      return
    }
  }

  #remove(key: string): void {
    const stored = this.#stored.get(key)
    if (stored === undefined) return
    this.#stored.delete(key)
    removeFrom(this.#byHash, stored.hash, key)
    removeFrom(this.#byAddress, allowanceOf(stored.endpoint.host), key)
  }
}

function addTo(groups: Map<string, Set<string>>, name: string, key: string): void {
  const group = groups.get(name)
  if (group === undefined) groups.set(name, new Set([key]))
  else group.add(key)
}

function removeFrom(groups: Map<string, Set<string>>, name: string, key: string): void {
  const group = groups.get(name)
  group?.delete(key)
  if (group?.size === 0) groups.delete(name)
}
