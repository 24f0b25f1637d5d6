/**
 * Where peers are, as kad-dht's `peerStore`. libp2p's own has no bound and the host forgets who disconnects, so this one
 * is given to the library instead. Addresses that a peer was reached at, or has told itself, come first and are not pushed
 * out by what others say about it. Peers of the routing table are kept over a restart: they are how a node finds the
 * others again when its bootstrap nodes are gone.
 */
import { NotFoundError, type Peer, type PeerData, type PeerId, type PeerInfo, type PeerStore } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { encode } from '@ipld/dag-cbor'
import { z } from 'zod'
import type { Clock, KeyValueStore } from '#base'
import { decodeCanonical } from '#identity'
import { BOOK_ADDRESS_CHARS_MAX, BOOK_ADDRESSES_MAX, BOOK_LIFE_MS, BOOK_PEERS_MAX, BOOK_STORED_MAX } from './limits.ts'

const STORED = 'peer/'
/** The library's name for peers in its routing table. */
const TABLE_TAG = 'kad-peer'

const storedSchema = z.array(z.string().max(BOOK_ADDRESS_CHARS_MAX)).max(BOOK_ADDRESSES_MAX)

/** Newest first. */
type Entry = { readonly peer: PeerId; told: readonly string[]; heard: readonly string[]; isInTable: boolean }

export type AddressBookDeps = {
  readonly clock: Clock
  readonly store: KeyValueStore
  readonly self: PeerId
  /** Where this node can be reached. */
  readonly ownAddresses: () => readonly Multiaddr[]
  /** What the host knows of a peer by itself, by identify or its own records. */
  readonly hostAddresses: (peer: PeerId) => Promise<readonly Multiaddr[]>
  /** Which addresses may be dialled and passed on at all. */
  readonly accepts: (address: string) => boolean
  readonly protocol: string
}

export class AddressBook implements Pick<PeerStore, 'get' | 'getInfo' | 'merge' | 'all'> {
  readonly #deps: AddressBookDeps
  /** Least recently heard of first. */
  readonly #entries = new Map<string, Entry>()

  constructor(deps: AddressBookDeps) {
    this.#deps = deps
    for (const { key, value } of deps.store.list(STORED, BOOK_STORED_MAX).reverse()) {
      const peer = decodePeer(key.slice(STORED.length))
      const told = decodeCanonical(storedSchema, value)?.map(text => this.#clean(decodeAddress(text)))
      if (peer === undefined || told === undefined) deps.store.delete(key)
      else this.#set({ peer, told: told.filter(text => text !== undefined), heard: [], isInTable: true })
    }
  }

  /** The peer was reached there, or says so itself. */
  told(peer: PeerId, addresses: readonly Multiaddr[]): void {
    const entry = this.#entryOf(peer)
    entry.told = this.#joined(addresses, entry.told)
    this.#set(entry)
    if (entry.isInTable) this.#store(entry)
  }

  /** Somebody else says so. */
  heard(peer: PeerId, addresses: readonly Multiaddr[]): void {
    const entry = this.#entryOf(peer)
    entry.heard = this.#joined(addresses, entry.heard)
    this.#set(entry)
  }

  /** Where the peer may be, the best first. */
  async addressesOf(peer: PeerId): Promise<Multiaddr[]> {
    if (peer.equals(this.#deps.self)) return [...this.#deps.ownAddresses()]
    const entry = this.#entries.get(peer.toString())
    const ofHost = this.#joined(await this.#deps.hostAddresses(peer), [])
    const all = [...new Set([...(entry?.told ?? []), ...ofHost, ...(entry?.heard ?? [])])]
    return all.slice(0, BOOK_ADDRESSES_MAX).map(text => multiaddr(text))
  }

  /** Which of these addresses would be used, bounded in number. */
  acceptable(addresses: readonly Multiaddr[]): Multiaddr[] {
    return this.#joined(addresses, []).map(text => multiaddr(text))
  }

  async get(peer: PeerId): Promise<Peer> {
    const addresses = await this.addressesOf(peer)
    const entry = this.#entries.get(peer.toString())
    if (addresses.length === 0 && entry === undefined) throw new NotFoundError('no address of this peer is known')
    return this.#peerOf(peer, addresses, entry?.isInTable === true)
  }

  async getInfo(peer: PeerId): Promise<PeerInfo> {
    return { id: peer, multiaddrs: (await this.get(peer)).addresses.map(address => address.multiaddr) }
  }

  /** kad-dht calls it with the addresses of a provider that speaks for itself, and with its tags. */
  merge(peer: PeerId, data: PeerData): Promise<Peer> {
    if (data.multiaddrs !== undefined) this.told(peer, data.multiaddrs)
    const tags = data.tags instanceof Map ? Object.fromEntries(data.tags) : (data.tags ?? {})
    if (TABLE_TAG in tags) this.#setInTable(peer, tags[TABLE_TAG] !== undefined)
    return this.get(peer)
  }

  /** kad-dht asks once, at the start, for those that were in its routing table. */
  all(): Promise<Peer[]> {
    const kept = [...this.#entries.values()].filter(entry => entry.isInTable)
    return Promise.resolve(
      kept.map(({ peer, told }) =>
        this.#peerOf(
          peer,
          told.map(text => multiaddr(text)),
          true,
        ),
      ),
    )
  }

  #setInTable(peer: PeerId, isInTable: boolean): void {
    const entry = this.#entryOf(peer)
    entry.isInTable = isInTable
    this.#set(entry)
    if (isInTable) this.#store(entry)
    else this.#deps.store.delete(`${STORED}${peer.toString()}`)
  }

  #store({ peer, told }: Entry): void {
    const expiresAt = this.#deps.clock.now() + BOOK_LIFE_MS
    if (told.length > 0) this.#deps.store.put({ key: `${STORED}${peer.toString()}`, value: encode(told), expiresAt })
  }

  #peerOf(id: PeerId, addresses: readonly Multiaddr[], isInTable: boolean): Peer {
    return {
      id,
      addresses: addresses.map(address => ({ multiaddr: address, isCertified: false })),
      protocols: isInTable ? [this.#deps.protocol] : [],
      metadata: new Map(),
      tags: isInTable ? new Map([[TABLE_TAG, { value: 1 }]]) : new Map(),
    }
  }

  #entryOf(peer: PeerId): Entry {
    return this.#entries.get(peer.toString()) ?? { peer, told: [], heard: [], isInTable: false }
  }

  #set(entry: Entry): void {
    const id = entry.peer.toString()
    this.#entries.delete(id)
    this.#entries.set(id, entry)
    if (this.#entries.size <= BOOK_PEERS_MAX) return
    for (const [oldest, { isInTable }] of this.#entries) {
      if (isInTable) continue
      this.#entries.delete(oldest)
      return
    }
  }

  #joined(addresses: readonly Multiaddr[], before: readonly string[]): string[] {
    const news = addresses.slice(0, BOOK_ADDRESSES_MAX).map(address => this.#clean(address))
    return [...new Set([...news.filter(text => text !== undefined), ...before])].slice(0, BOOK_ADDRESSES_MAX)
  }

  /** Without the peer's own id at its end, since the peer is known; undefined for what may not be dialled. */
  #clean(address: Multiaddr | undefined): string | undefined {
    const text = address?.toString().replace(/\/p2p\/[A-Za-z0-9]+$/, '')
    if (text === undefined || text === '' || text.length > BOOK_ADDRESS_CHARS_MAX) return undefined
    return this.#deps.accepts(text) ? text : undefined
  }
}

/** Undefined for text that is no peer id. */
export function decodePeer(text: string): PeerId | undefined {
  if (text.length > 100) return undefined
  try {
    return peerIdFromString(text)
  } catch {
    return undefined // The library throws errors of many kinds for text that is none: all mean the same here.
  }
}

/** Undefined for text that is no multiaddr. */
export function decodeAddress(text: string): Multiaddr | undefined {
  if (text.length > BOOK_ADDRESS_CHARS_MAX) return undefined
  try {
    return multiaddr(text)
  } catch {
    return undefined // The same.
  }
}
