/**
 * Who provides what, as peers have told this node. kad-dht keeps providers in its datastore and lets them expire by the
 * machine's clock and once an hour; here they expire by the clock that was given, when they are asked for.
 */
import type { Clock, KeyValueStore } from '#base'
import { compareDistance, pointOf } from './distance.ts'
import { PROVIDED_KEYS_HELD_MAX, PROVIDED_KEYS_PER_PEER_MAX, PROVIDERS_PER_KEY_MAX } from './limits.ts'

const STORED = 'provider/'
/** A key as kad-dht names it in its datastore (base32), and a peer id. */
const NAME = /^provider\/([a-z2-7]{1,64})\/([A-Za-z0-9]{1,100})$/

/** Where a key lies, and by peer until when it is told to others, oldest first. */
type Provided = { readonly point: Uint8Array; readonly peers: Map<string, number> }

export type ProviderBookDeps = {
  readonly clock: Clock
  readonly store: KeyValueStore
  /** Where this node lies. */
  readonly self: Uint8Array
  readonly lifeMs: number
}

/** Keys are the base32 of their multihash, as kad-dht writes them. */
export class ProviderBook {
  readonly #deps: ProviderBookDeps
  readonly #providers = new Map<string, Provided>()
  readonly #keysOfPeer = new Map<string, number>()

  constructor(deps: ProviderBookDeps) {
    this.#deps = deps
    const max = PROVIDED_KEYS_HELD_MAX * 2
    for (const { key: name, expiresAt } of deps.store.list(STORED, max).reverse()) {
      const [, key, peer] = NAME.exec(name) ?? []
      if (key === undefined || peer === undefined) deps.store.delete(name)
      else this.#set(key, peer, Math.min(expiresAt, deps.clock.now() + deps.lifeMs))
    }
  }

  /** Keys with providers. */
  get count(): number {
    return this.#providers.size
  }

  /** A peer says that it provides a key. False where it has said so of too many. */
  add(key: string, peer: string): boolean {
    if (!NAME.test(`${STORED}${key}/${peer}`)) return false
    const isNew = this.#providers.get(key)?.peers.has(peer) !== true
    if (isNew && (this.#keysOfPeer.get(peer) ?? 0) >= PROVIDED_KEYS_PER_PEER_MAX) return false
    const until = this.#deps.clock.now() + this.#deps.lifeMs
    this.#set(key, peer, until)
    this.#deps.store.put({ key: `${STORED}${key}/${peer}`, value: new Uint8Array(), expiresAt: until })
    return true
  }

  /** Who provides the key now. */
  find(key: string): string[] {
    const now = this.#deps.clock.now()
    const peers: string[] = []
    for (const [peer, until] of this.#providers.get(key)?.peers ?? []) {
      if (until > now) peers.push(peer)
      else this.remove(key, peer)
    }
    return peers
  }

  remove(key: string, peer: string): void {
    const peers = this.#providers.get(key)?.peers
    if (peers?.delete(peer) !== true) return
    if (peers.size === 0) this.#providers.delete(key)
    const left = (this.#keysOfPeer.get(peer) ?? 1) - 1
    if (left === 0) this.#keysOfPeer.delete(peer)
    else this.#keysOfPeer.set(peer, left)
    this.#deps.store.delete(`${STORED}${key}/${peer}`)
  }

  /** Forgets what has expired. */
  sweep(): void {
    for (const key of this.#providers.keys()) this.find(key)
  }

  #set(key: string, peer: string, until: number): void {
    const provided = this.#providers.get(key) ?? { point: pointOf(key), peers: new Map<string, number>() }
    const { peers } = provided
    if (!peers.delete(peer)) this.#keysOfPeer.set(peer, (this.#keysOfPeer.get(peer) ?? 0) + 1)
    peers.set(peer, until)
    this.#providers.set(key, provided)
    const [oldest] = peers.keys()
    if (peers.size > PROVIDERS_PER_KEY_MAX && oldest !== undefined) this.remove(key, oldest)
    if (this.#providers.size > PROVIDED_KEYS_HELD_MAX) this.#makeRoom()
  }

  /** The key's text is hashed: as evenly spread as the keys themselves are. */
  #makeRoom(): void {
    let farthest: { readonly key: string; readonly point: Uint8Array } | undefined
    for (const [key, { point }] of this.#providers) {
      if (farthest === undefined || compareDistance(this.#deps.self, point, farthest.point) > 0)
        farthest = { key, point }
    }
    if (farthest === undefined) return
    const peers = [...(this.#providers.get(farthest.key)?.peers.keys() ?? [])]
    for (const peer of peers) this.remove(farthest.key, peer)
  }
}
