/**
 * What we use of `@libp2p/kad-dht` beyond its interface. The library's put sends to whoever is there and counts nothing,
 * its get fails where one peer refuses a correction, and its search for providers ends when one peer names twenty: so the
 * walks over the network, with their disjoint paths, are the library's and what is done on the way is ours. The package's
 * version is fixed, and its shape is checked when it is mounted.
 */
import type { PeerId, PeerInfo, Startable } from '@libp2p/interface'
import { type KadDHT, type KadDHTComponents, kadDHT, type KadDHTInit, type QueryEvent } from '@libp2p/kad-dht'
import { assert } from '#base'

/** The messages that we send. */
export type MessageType = 'PUT_VALUE' | 'GET_VALUE' | 'ADD_PROVIDER' | 'GET_PROVIDERS' | 'FIND_NODE'

export type Message = {
  readonly type: MessageType
  readonly key: Uint8Array
  readonly record?: Uint8Array
  readonly providers?: readonly { readonly id: Uint8Array; readonly multiaddrs: readonly Uint8Array[] }[]
}

/** Which of a walk's disjoint paths a request belongs to. */
export type Path = { readonly index: number; readonly queued: number; readonly running: number; readonly total: number }

export const NO_PATH: Path = { index: -1, queued: 0, running: 0, total: 0 }

/** Handed to the components with each request of one walk, so that they can hold the walk to its rules. */
export type Asker = {
  /** @throws KadError KAD_PEER_REFUSED where this walk has asked the peer, or enough peers */
  ask(peer: string): void
}

export type SendOptions = { readonly signal: AbortSignal; readonly path: Path; readonly asker?: Asker }

type QueryStep = { readonly peer: PeerInfo; readonly signal: AbortSignal; readonly path: Path }

export type TablePeer = { readonly peerId: PeerId; readonly kadId: Uint8Array }

type Bucket = { readonly peers: readonly TablePeer[] } | { readonly left: Bucket; readonly right: Bucket }

type TableEvent = { readonly detail: PeerId }

/** The parts of the library's class that its interface leaves out. */
export interface Dht extends KadDHT, Startable {
  /** Called for each peer that an answer names. */
  onPeerConnect: (peer: PeerInfo) => Promise<void>
  readonly network: {
    sendRequest(to: PeerId, message: Message, options: SendOptions): AsyncIterable<QueryEvent>
    sendMessage(to: PeerId, message: Message, options: SendOptions): AsyncIterable<QueryEvent>
  }
  readonly queryManager: {
    run(
      key: Uint8Array,
      step: (step: QueryStep) => AsyncIterable<QueryEvent>,
      options: { readonly signal: AbortSignal },
    ): AsyncIterable<QueryEvent>
  }
  readonly routingTable: {
    readonly size: number
    readonly kb: { readonly root: Bucket }
    add(peer: PeerId, options: { readonly signal: AbortSignal }): Promise<void>
    remove(peer: PeerId): Promise<void>
    find(peer: PeerId): Promise<PeerId | undefined>
    closestPeers(point: Uint8Array, options: { readonly count: number }): PeerId[]
    addEventListener(type: 'peer:add' | 'peer:remove', listener: (event: TableEvent) => void): void
    removeEventListener(type: 'peer:add' | 'peer:remove', listener: (event: TableEvent) => void): void
  }
  addEventListener(type: 'peer', listener: (event: { readonly detail: PeerInfo }) => void): void
}

export function createDht(components: KadDHTComponents, init: KadDHTInit): Dht {
  const dht = kadDHT(init)(components) as Dht
  const { network, queryManager, routingTable } = dht
  const has = (part: object | undefined, ...names: readonly string[]): boolean =>
    part !== undefined && names.every(name => typeof (part as Record<string, unknown>)[name] === 'function')
  assert(
    has(dht, 'start', 'stop', 'onPeerConnect') &&
      has(network, 'sendRequest', 'sendMessage') &&
      has(queryManager, 'run') &&
      has(routingTable, 'add', 'remove', 'find', 'closestPeers') &&
      'root' in routingTable.kb,
    'another version of @libp2p/kad-dht than this program was made for',
  )
  return dht
}

/** Everybody in the routing table. */
export function tablePeers(dht: Dht): TablePeer[] {
  const collect = (bucket: Bucket): readonly TablePeer[] =>
    'peers' in bucket ? bucket.peers : [...collect(bucket.left), ...collect(bucket.right)]
  return [...collect(dht.routingTable.kb.root)]
}

/** Who shares a bucket with such a peer. */
export function bucketOf(dht: Dht, point: Uint8Array): readonly TablePeer[] {
  let bucket = dht.routingTable.kb.root
  for (let bit = 0; !('peers' in bucket); bit++) {
    bucket = ((point[bit >> 3] ?? 0) >> (7 - (bit & 7))) & 1 ? bucket.right : bucket.left
  }
  return bucket.peers
}

/** Buckets of the routing table. */
export function bucketCount(dht: Dht): number {
  const count = (bucket: Bucket): number => ('peers' in bucket ? 1 : count(bucket.left) + count(bucket.right))
  return count(dht.routingTable.kb.root)
}
