/**
 * Whom this host wants to be connected to: configured addresses, peers that others tell of, and peers that have left and
 * are missed. Everybody else here only says that somebody has come or gone.
 */
import type { Clock, Logger, Random } from '#base'
import type { KnownPeer } from '#wire'
import { type Address, addressesOf, parseAddress } from './address.ts'
import { AddressNews } from './address-news.ts'
import type { DialTarget } from './dialler.ts'
import { lost } from './errors.ts'
import { type Introduced, Introductions } from './introductions.ts'
import { keepConnected } from './keeper.ts'
import type { HoldReason } from './life/holds.ts'
import { Listeners } from './life/listeners.ts'
import { KEPT_ADDRESSES_MAX } from './limits.ts'
import type { PeerRecords } from './peer-records.ts'
import type { PeerTable } from './peer-table.ts'
import type { LostPeer } from './types.ts'

export type AcquaintancesDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly self: string
  readonly table: Pick<PeerTable, 'has' | 'hasRoom' | 'knownPeer' | 'left' | 'peers' | 'session'>
  readonly records: Pick<PeerRecords, 'addressesOf' | 'verified'>
  /** Whether a peer may be dialled now: it is allowed, not banned, and does not rest. */
  readonly mayDial: (peer: string) => boolean
  readonly connect: (target: DialTarget, options: { readonly signal?: AbortSignal }) => Promise<string>
  readonly hold: (peer: string, reason: HoldReason) => () => void
  readonly stopping: AbortSignal
}

export class Acquaintances {
  readonly lost: Listeners<LostPeer>
  readonly gone: Listeners<string>
  readonly #deps: AcquaintancesDeps
  /** Whether peers are told of one another. */
  readonly #meets: boolean
  readonly #introductions: Introductions
  readonly #news: AddressNews
  readonly #kept = new Map<string, Promise<void>>()
  /** Where those were who have left and are waited for. */
  readonly #missed = new Map<string, readonly string[]>()

  constructor(deps: AcquaintancesDeps, options: { readonly meets: boolean }) {
    const { log, self, table } = deps
    this.#deps = deps
    this.#meets = options.meets
    this.lost = new Listeners(log, 'news of lost peers')
    this.gone = new Listeners(log, 'news of peers that are gone')
    this.#news = new AddressNews(deps)
    this.#introductions = new Introductions({
      ...deps,
      isUnwanted: peer => peer === self || table.has(peer) || !table.hasRoom(peer) || !deps.mayDial(peer),
      connect: (peer, addresses) => deps.connect({ peer, addresses }, {}),
    })
  }

  /** Whether somebody that peers tell of is yet to be dialled. */
  get isMeeting(): boolean {
    return this.#introductions.hasWaiting
  }

  /** Dials these until somebody is there, and again whenever they are gone. @throws NetError NET_ADDRESS_INVALID */
  keep(texts: readonly string[]): void {
    const { self, hold, table, stopping } = this.#deps
    for (const address of texts.map(parseAddress)) {
      if (this.#kept.has(address.text) || address.peer === self || this.#kept.size >= KEPT_ADDRESSES_MAX) continue
      const deps = {
        ...this.#deps,
        connect: (kept: Address) => this.#deps.connect(targetOf(kept), {}),
        hold: (peer: string) => hold(peer, 'kept'),
        gone: (peer: string, options: { readonly signal: AbortSignal }) => table.left(peer, options),
      }
      this.#kept.set(address.text, keepConnected(deps, address, { signal: stopping }))
    }
  }

  /** Somebody of whom no peer has told: found on the local network, say. */
  found(peers: readonly Introduced[]): void {
    this.#introductions.add(peers, { isNews: false })
  }

  /** @param options.isNews they have just joined who tells of them, and so are about to dial us */
  introduced(peers: readonly KnownPeer[], options: { readonly isNews: boolean }): void {
    if (this.#meets) this.#introductions.add(this.#deps.records.verified(peers), options)
  }

  /** @param options.isNew it was not here before */
  joined(peer: string, record: Uint8Array | undefined, { isNew }: { readonly isNew: boolean }): void {
    this.#missed.delete(peer)
    const isNews = this.#meets && this.#news.isNews(peer, this.#deps.records.addressesOf(peer, record))
    if (isNews || isNew) this.#tellOthersOf(peer)
  }

  /** Kept addresses are dialled by their keeper, held peers here, and all others by those who listen, if they want them. */
  left(peer: LostPeer): void {
    const { addresses, holds } = peer
    this.#missed.set(peer.peer, addresses)
    if (this.#deps.stopping.aborted) return
    if (holds.length > 0 && !holds.includes('kept')) {
      this.#introductions.add([{ id: peer.peer, addresses }], { isNews: true })
    }
    this.lost.tell(peer)
  }

  /** Nothing waits for the peer's return any more. */
  forget(peer: string): void {
    this.#missed.delete(peer)
    this.gone.tell(peer)
  }

  /** Dials a peer that has left, where it was. @throws NetError */
  async reconnect(peer: string, options: { readonly signal: AbortSignal }): Promise<void> {
    const addresses = addressesOf(peer, this.#missed.get(peer) ?? [])
    if (addresses.length === 0) throw lost(peer)
    await this.#deps.connect({ peer, addresses }, options)
  }

  /** Nothing more is dialled. Resolves when the keepers have ended, which they do when the host stops. */
  async stop(): Promise<void> {
    this.#introductions.clear()
    await Promise.allSettled(this.#kept.values())
  }

  #tellOthersOf(newcomer: string): void {
    const { table } = this.#deps
    const known = this.#meets ? table.knownPeer(newcomer) : undefined
    if (known === undefined) return
    for (const { id } of table.peers()) if (id !== newcomer) table.session(id)?.introduce([known])
  }
}

/** One address, and whoever has to answer there. */
export function targetOf(address: Address): DialTarget {
  return { addresses: [address], ...(address.peer === undefined ? {} : { peer: address.peer }) }
}
