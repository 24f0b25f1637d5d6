/**
 * Sibling replication: when a peer close to a key comes or goes, those who hold the key's value see to it that as many as
 * before hold it. Only the closest few of them do, as all know the same; and only values, since a provider's announcement
 * is taken from itself alone.
 */
import type { PeerId } from '@libp2p/interface'
import { type Dht, tablePeers } from './dht.ts'
import { compareDistance, pointOf } from './distance.ts'
import { HANDED_ON_MAX, HANDERS } from './limits.ts'
import type { SignedRecord } from './record.ts'
import type { RecordBook } from './record-book.ts'

export type HandOverDeps = {
  readonly dht: () => Dht
  readonly records: RecordBook
  /** Where this node lies. */
  readonly self: Uint8Array
  /** False where no more can wait. */
  readonly send: (peer: PeerId, record: SignedRecord) => boolean
}

export class HandOver {
  readonly #deps: HandOverDeps
  readonly #holders: number

  /** @param options.holders closest peers and siblings together */
  constructor(deps: HandOverDeps, options: { readonly holders: number }) {
    this.#deps = deps
    this.#holders = options.holders
  }

  /** A peer has entered the routing table: it gets the values whose keys it is close to. */
  joined(peer: PeerId): void {
    const at = pointOf(peer.toMultihash().bytes)
    const others = this.#others(peer)
    let sent = 0
    for (const held of this.#deps.records.all()) {
      if (!this.#isHander(held.point, others) || !this.#isHolder(held.point, at, others)) continue
      if (++sent > HANDED_ON_MAX || !this.#deps.send(peer, held)) return
    }
  }

  /** A peer has left it: whoever comes next for a value that it was close to gets that value. */
  left(peer: PeerId): void {
    const at = pointOf(peer.toMultihash().bytes)
    const others = this.#others(peer)
    if (others.length < this.#holders) return // All of them hold it already.
    let sent = 0
    for (const held of this.#deps.records.all()) {
      if (!this.#isHander(held.point, others) || !this.#isHolder(held.point, at, others)) continue
      const next = this.#deps.dht().routingTable.closestPeers(held.point, { count: this.#holders }).at(-1)
      if (next === undefined) continue
      if (++sent > HANDED_ON_MAX || !this.#deps.send(next, held)) return
    }
  }

  #others(peer: PeerId): Uint8Array[] {
    return tablePeers(this.#deps.dht())
      .filter(({ peerId }) => !peerId.equals(peer))
      .map(({ kadId }) => kadId)
  }

  #isHander(point: Uint8Array, others: readonly Uint8Array[]): boolean {
    return countCloser(others, { point, than: this.#deps.self, enough: HANDERS }) < HANDERS
  }

  /** Whether one who lies there is among the closest to a key. */
  #isHolder(point: Uint8Array, at: Uint8Array, others: readonly Uint8Array[]): boolean {
    return countCloser(others, { point, than: at, enough: this.#holders }) < this.#holders
  }
}

type Comparison = { readonly point: Uint8Array; readonly than: Uint8Array; readonly enough: number }

/** How many of them are closer to a key than one is; stops counting where there are enough. */
function countCloser(others: readonly Uint8Array[], { point, than, enough }: Comparison): number {
  let count = 0
  for (const other of others) {
    if (compareDistance(point, other, than) < 0 && ++count >= enough) break
  }
  return count
}
