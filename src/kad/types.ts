/** What Kademlia is made of, and what it gives. */
import type { Connection, Startable } from '@libp2p/interface'
import type { KadDHTComponents } from '@libp2p/kad-dht'
import type { Clock, KeyValueStore, Logger, Random } from '#base'
import type { KadRecord } from './record.ts'

/** Of libp2p's components, what is needed. Any libp2p node has them. */
export type KadComponents = Pick<
  KadDHTComponents,
  'peerId' | 'privateKey' | 'registrar' | 'addressManager' | 'peerStore' | 'connectionManager' | 'logger'
>

/** How the host admits peers. What is left out is libp2p's own way. */
export type KadGate = {
  /** A connection to the peer over which streams may be opened; the one that is open already, where there is one. */
  readonly openConnection?: (
    peer: string,
    addresses: readonly string[],
    options: { readonly signal: AbortSignal },
  ) => Promise<Connection>
  /** Whether requests of this connection are answered. */
  readonly isAdmitted?: (connection: Connection) => boolean
  /** Whether the peer may be in the routing table: it is no known rule breaker and has solved its puzzle. */
  readonly mayRoute?: (peer: string) => boolean
  /** Whether an address that somebody names may be dialled and passed on. */
  readonly acceptsAddress?: (address: string) => boolean
}

export type KadDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** What outlives a restart. */
  readonly store: KeyValueStore
  readonly gate?: KadGate
  /** Where this node is reached, as multiaddrs. @default what libp2p listens on and announces */
  readonly addresses?: () => readonly string[]
}

/** Every one has a default in `limits.ts`. */
export type KadOptions = {
  /** A client asks and is not asked: for nodes that nobody can dial. @default 'server' */
  readonly mode?: 'client' | 'server'
  /** Kinds of records that are used; all others are refused. @default ['peer'] */
  readonly kinds?: readonly string[]
  /** Bound of one operation; a fifth of it bounds one request. @default OPERATION_MS */
  readonly timeoutMs?: number
  /** k. @default BUCKET_PEERS_MAX */
  readonly bucketSize?: number
  /** @default TABLE_PREFIX_BITS */
  readonly prefixBits?: number
  /** alpha, of one path. @default LOOKUP_PARALLEL_MAX */
  readonly parallel?: number
  /** d. @default DISJOINT_PATHS */
  readonly disjointPaths?: number
  /** Closest peers that hold a value. With the siblings at most `bucketSize`. @default REPLICAS */
  readonly replicas?: number
  /** @default SIBLINGS */
  readonly siblings?: number
  /** @default PROVIDER_LIFE_MS */
  readonly providerLifeMs?: number
  /** @default REPUBLISH_MS */
  readonly republishMs?: number
  /** @default SELF_LOOKUP_DELAY_MS */
  readonly selfLookupDelayMs?: number
  readonly table?: {
    /** @default TABLE_PEERS_MAX */
    readonly peers?: number
    /** @default TABLE_GROUP_PEERS_MAX */
    readonly peersOfGroup?: number
    /** @default BUCKET_GROUP_PEERS_MAX */
    readonly peersOfGroupInBucket?: number
    /** Whether loopback and private addresses are not limited. @default true */
    readonly isLocalExempt?: boolean
  }
  /** What one peer may ask for. @default PEER_TOKENS_MAX, PEER_TOKENS_PER_SECOND */
  readonly rate?: { readonly tokensMax: number; readonly perSecond: number }
}

export type SignalOptions = { readonly signal?: AbortSignal }

/** A peer and where it may be: multiaddrs as text, without its id. */
export type FoundPeer = {
  readonly peer: string
  readonly addresses: readonly string[]
  /** Peers that were asked one after another until this one was named: 1, where one of the own table named it. */
  readonly hops: number
}

export type PutResult = {
  readonly key: string
  /** Peers that have confirmed that they hold the value, this node apart. */
  readonly acknowledged: number
  /** Peers that were asked to. */
  readonly asked: number
}

export type GetResult = KadRecord & {
  readonly key: string
  /** The record as it was signed. */
  readonly bytes: Uint8Array
  /** Peers that gave a valid record, and how many disjoint paths they lie on; 0 where only this node holds it. */
  readonly answers: number
  readonly paths: number
  /** Peers that were asked one after another until the first one with a value. */
  readonly hops: number
}

export type ProvideResult = {
  /** Peers to whom the announcement was written. libp2p's ADD_PROVIDER has no answer, so nobody confirms it. */
  readonly sent: number
}

export type KadStatus = {
  readonly isRunning: boolean
  readonly mode: 'client' | 'server'
  /** Peers and buckets of the routing table. */
  readonly peers: number
  readonly buckets: number
  /** What is held for others: records, and keys with providers. */
  readonly records: number
  readonly providedKeys: number
  /** What is announced for this node: values, and keys that it provides. */
  readonly ownRecords: number
  readonly ownProvided: number
  /** Operations under way. */
  readonly operations: number
}

/** Kademlia on one libp2p node. Operations reject with KadError; all of them end within the configured time. */
export interface Kad {
  /** libp2p's service: `createLibp2p({ services: { kad: kad.mount } })`. libp2p then starts and stops it. Once. */
  readonly mount: (components: KadComponents) => Startable
  /**
   * Stores a signed record (`createKadRecord`) at the closest peers and their siblings, holds it itself, and announces it
   * again until it expires or `forget` is called. Waits until the routing table has somebody.
   * @throws KadError KAD_RECORD_*, KAD_NO_PEERS, KAD_QUORUM, KAD_FULL, KAD_BUSY, KAD_TIMEOUT, KAD_STOPPED
   */
  put(record: Uint8Array, options?: SignalOptions & { readonly quorum?: number }): Promise<PutResult>
  /**
   * The latest of the valid values that peers on disjoint paths hold. Those who held an older one are sent the latest.
   * @param key of `recordKey`
   * @throws KadError KAD_KEY_INVALID, KAD_NOT_FOUND, KAD_NO_PEERS, KAD_BUSY, KAD_TIMEOUT, KAD_STOPPED
   */
  get(key: string, options?: SignalOptions): Promise<GetResult>
  /** Stops announcing a value or a provided key of ours. What others hold expires. */
  forget(key: string | Uint8Array): void
  /**
   * Says that this node provides what the key names, and again until `forget` is called.
   * @param key 32 bytes, SHA-256 of what is provided or of its name
   */
  provide(key: Uint8Array, options?: SignalOptions): Promise<ProvideResult>
  /** Providers as they are found, each once; ends when the walk does. Leaving the loop ends the search. */
  findProviders(key: Uint8Array, options?: SignalOptions): AsyncIterable<FoundPeer>
  /** @throws KadError KAD_NOT_FOUND, and as `get` */
  findPeer(peer: string, options?: SignalOptions): Promise<FoundPeer>
  /** The closest peers to a key that answered, the closest first: `bucketSize` at most. @param key text or bytes */
  closestPeers(key: string | Uint8Array, options?: SignalOptions): Promise<FoundPeer[]>
  /**
   * Joins through any of these nodes: multiaddrs that end in a peer id. Rounds with growing, jittered waits between them.
   * @returns how many of them are in the routing table
   * @throws KadError KAD_BOOTSTRAP_FAILED
   */
  bootstrap(nodes: readonly string[], options?: SignalOptions & { readonly rounds?: number }): Promise<number>
  /** The host has admitted a peer that speaks this protocol: it may enter the routing table. */
  addPeer(peer: string, addresses?: readonly string[]): void
  /** The peer is gone or banned: out of the routing table. */
  removePeer(peer: string): Promise<void>
  setMode(mode: 'client' | 'server'): Promise<void>
  status(): KadStatus
}
