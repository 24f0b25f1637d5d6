/**
 * The peers that this node knows: who they are, whether they relay, when somebody was last connected to them, and the
 * last record that each has signed of its own addresses. Bounded, swept, and written through to a store.
 *
 * What a peer says about itself on its own authenticated stream counts. What others say about it is news only as long as
 * it is not known: after that it changes nothing but the time at which it was last seen, and never beyond now.
 */
import type { Clock } from '#base'
import { peerOfPublicKey } from '#crypto'
import { KNOWN_PEERS_MAX, MET_PEER_MS_MAX, TOLD_BY_ONE_MAX, TOLD_PEER_MS_MAX } from './limits.ts'
import { openRecord, type VerifiedRecord } from './records.ts'
import type { KnownPeerRow, KnownPeerStore } from '#storage'
import type { PeerSource } from './types.ts'

export type KnownPeersDeps = {
  readonly clock: Clock
  /** Our own peer id, which is not among them. */
  readonly self: string
  readonly store?: Pick<KnownPeerStore, 'load' | 'save' | 'touch' | 'remove'> | undefined
  readonly onDiscovered?: (peer: KnownPeer) => void
}

export type KnownPeersOptions = {
  /** Peers of other topics in the store are left where they are. */
  readonly topic: string
  /** @default 2000 */
  readonly peersMax?: number
  /** @default 7 days */
  readonly metMsMax?: number
  /** @default 1 day */
  readonly toldMsMax?: number
}

/** A peer's row, with what follows from it. */
export type KnownPeer = Omit<KnownPeerRow, 'record'> & {
  /** Peer id. */
  readonly peer: string
  /** The newest that the peer has signed. It may have expired. */
  readonly record?: VerifiedRecord
  /** Who has told of it, where nobody has met it yet. */
  readonly toldBy?: string
}

/** What somebody says of a peer. */
export type PeerNews = {
  readonly publicKey: Uint8Array
  readonly dhtNodeId?: Uint8Array
  readonly isRelay: boolean
  /** Unix milliseconds. */
  readonly lastSeen: number
  /** The peer's own, and in force. */
  readonly record?: VerifiedRecord
}

export class KnownPeers {
  readonly #deps: KnownPeersDeps
  readonly #options: Required<KnownPeersOptions>
  readonly #peers = new Map<string, KnownPeer>()
  readonly #toldCounts = new Map<string, number>()

  constructor(deps: KnownPeersDeps, options: KnownPeersOptions) {
    this.#deps = deps
    this.#options = {
      topic: options.topic,
      peersMax: options.peersMax ?? KNOWN_PEERS_MAX,
      metMsMax: options.metMsMax ?? MET_PEER_MS_MAX,
      toldMsMax: options.toldMsMax ?? TOLD_PEER_MS_MAX,
    }
    for (const row of deps.store?.load() ?? []) {
      const isOurs = row.topic === this.#options.topic && row.publicKey.byteLength === 32
      if (isOurs && this.#peers.size < this.#options.peersMax) {
        this.#set(fromStore(row, deps.clock.now()))
      }
    }
    this.sweep()
  }

  get size(): number {
    return this.#peers.size
  }

  get(peer: string): KnownPeer | undefined {
    return this.#peers.get(peer)
  }

  all(): KnownPeer[] {
    return [...this.#peers.values()]
  }

  /** Addresses that the peer itself has signed last, if only some time ago. */
  addressesOf(peer: string): readonly string[] {
    return this.#peers.get(peer)?.record?.addresses ?? []
  }

  /** The peer has said this itself. */
  met(news: PeerNews): KnownPeer | undefined {
    const peer = peerOfPublicKey(news.publicKey)
    if (peer === this.#deps.self) return undefined
    const known = this.#peers.get(peer)
    const { toldBy: _, ...before } = known ?? this.#rowOf(peer, news, 'identity_exchange')
    const row: KnownPeer = {
      ...before,
      ...(news.dhtNodeId === undefined ? {} : { dhtNodeId: news.dhtNodeId }),
      isRelay: news.isRelay,
      source: 'identity_exchange',
      lastSeen: Math.max(before.lastSeen, this.#clamped(news.lastSeen)),
      ...newestRecord(known, news.record),
    }
    this.#replace(known, row)
    return row
  }

  /**
   * Somebody else says this of a peer.
   * @param by peer id
   * @returns the row where the peer is new
   */
  told(news: PeerNews, by: string): KnownPeer | undefined {
    const peer = peerOfPublicKey(news.publicKey)
    if (peer === this.#deps.self) return undefined
    const known = this.#peers.get(peer)
    const lastSeen = this.#clamped(news.lastSeen)
    if (known !== undefined) {
      const row = { ...known, lastSeen: Math.max(known.lastSeen, lastSeen), ...newestRecord(known, news.record) }
      if (row.record !== known.record) this.#replace(known, row)
      else if (row.lastSeen > known.lastSeen) {
        this.#peers.set(peer, row)
        this.#deps.store?.touch(row.publicKey, row.lastSeen)
      }
      return undefined
    }
    const isStale = lastSeen <= this.#deps.clock.now() - this.#options.toldMsMax
    if (isStale || (this.#toldCounts.get(by) ?? 0) >= TOLD_BY_ONE_MAX) return undefined
    const row = { ...this.#rowOf(peer, news, 'peer_exchange'), ...newestRecord(undefined, news.record), toldBy: by }
    this.#replace(undefined, row)
    return row
  }

  /** Somebody is connected to it now: we. */
  seen(peer: string): void {
    const known = this.#peers.get(peer)
    if (known === undefined) return
    const row = { ...known, lastSeen: this.#deps.clock.now() }
    this.#peers.set(peer, row)
    this.#deps.store?.touch(row.publicKey, row.lastSeen)
  }

  /** Forgets those whom nobody has seen for too long. @returns how many */
  sweep(): number {
    const now = this.#deps.clock.now()
    const { metMsMax, toldMsMax } = this.#options
    const stale = this.all().filter(
      ({ source, lastSeen }) => lastSeen <= now - (source === 'identity_exchange' ? metMsMax : toldMsMax),
    )
    for (const row of stale) this.#remove(row)
    return stale.length
  }

  /** Nobody can make somebody look fresher than now. */
  #clamped(lastSeen: number): number {
    return Math.min(lastSeen, this.#deps.clock.now())
  }

  #rowOf(peer: string, news: PeerNews, source: PeerSource): KnownPeer {
    const { publicKey, dhtNodeId, isRelay } = news
    return {
      peer,
      publicKey,
      ...(dhtNodeId === undefined ? {} : { dhtNodeId }),
      isRelay,
      topic: this.#options.topic,
      source,
      firstSeen: this.#deps.clock.now(),
      lastSeen: this.#clamped(news.lastSeen),
    }
  }

  #replace(known: KnownPeer | undefined, row: KnownPeer): void {
    if (known !== undefined) this.#uncount(known)
    this.#set(row)
    this.#deps.store?.save(storedPart(row))
    if (known !== undefined) return
    if (this.#peers.size > this.#options.peersMax) this.#evict(row)
    this.#deps.onDiscovered?.(row)
  }

  #set(row: KnownPeer): void {
    this.#peers.set(row.peer, row)
    if (row.toldBy !== undefined) this.#toldCounts.set(row.toldBy, (this.#toldCounts.get(row.toldBy) ?? 0) + 1)
  }

  /** Those never met go before those met, and of each the one seen longest ago. */
  #evict(newcomer: KnownPeer): void {
    let first: KnownPeer | undefined
    for (const row of this.#peers.values()) {
      if (row !== newcomer && (first === undefined || goesBefore(row, first))) first = row
    }
    if (first !== undefined) this.#remove(first)
  }

  #remove(row: KnownPeer): void {
    this.#peers.delete(row.peer)
    this.#uncount(row)
    this.#deps.store?.remove(row.publicKey)
  }

  #uncount({ toldBy }: KnownPeer): void {
    if (toldBy === undefined) return
    const rest = (this.#toldCounts.get(toldBy) ?? 1) - 1
    if (rest === 0) this.#toldCounts.delete(toldBy)
    else this.#toldCounts.set(toldBy, rest)
  }
}

function goesBefore(a: KnownPeer, b: KnownPeer): boolean {
  if (a.source !== b.source) return a.source === 'peer_exchange'
  return a.lastSeen < b.lastSeen
}

/** The record with the higher number. */
function newestRecord(known: KnownPeer | undefined, record: VerifiedRecord | undefined): { record?: VerifiedRecord } {
  const isNewer = record !== undefined && record.sequence > (known?.record?.sequence ?? -1)
  const newest = isNewer ? record : known?.record
  return newest === undefined ? {} : { record: newest }
}

/** A row of the store: its record is checked again, since somebody may have edited the file. */
function fromStore({ record: bytes, ...row }: KnownPeerRow, now: number): KnownPeer {
  const peer = peerOfPublicKey(row.publicKey)
  // One that has expired meanwhile still says where the peer was: a hint to dial, never passed on.
  const record = bytes === undefined ? undefined : openRecord(bytes, peer, [now, row.lastSeen, row.firstSeen])
  return { ...row, peer, ...(record === undefined || 'code' in record ? {} : { record }) }
}

function storedPart(row: KnownPeer): KnownPeerRow {
  const { publicKey, dhtNodeId, isRelay, topic, source, firstSeen, lastSeen, record } = row
  return {
    publicKey,
    isRelay,
    topic,
    source,
    firstSeen,
    lastSeen,
    ...(dhtNodeId === undefined ? {} : { dhtNodeId }),
    ...(record === undefined ? {} : { record: record.bytes }),
  }
}
