/** What discovery is given, what it does, and what it says of itself. */
import type { Clock, Logger, Random } from '#base'
import type { KeyProvider } from '#identity'
import type { MainlineNode } from '#mainline'
import type { KnownPeerStore } from '#storage'
import type { DialPlan } from './dial-plan.ts'
import type { PeerFault } from './errors.ts'
import type { ExplorerOptions } from './explorer.ts'
import type { KnownPeer } from './known-peers.ts'
import type { VersionedMetadata } from './peer-metadata.ts'
import type { OwnFacts, PublishState } from './publish-state.ts'
import type {
  AbortOptions,
  DiscoveryEvent,
  DiscoveryHost,
  FoundService,
  KadRecords,
  Service,
  ServiceQuery,
} from './types.ts'

export type DiscoveryDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** Signs as the peer id of the host. */
  readonly signer: KeyProvider
  readonly host: DiscoveryHost
  /** Where known peers outlive a restart. @default nowhere */
  readonly store?: KnownPeerStore
  /** Started and stopped by its owner. */
  readonly mainline?: MainlineNode
  readonly kad?: KadRecords
  /** What is true of this node now. Called in every round, and whenever `factsChanged` is. */
  readonly facts: () => OwnFacts
  /** What a peer did wrong: what it costs is decided elsewhere. */
  readonly onFault?: (peer: string, fault: PeerFault) => void
}

export type DiscoveryOptions = ExplorerOptions & {
  /** Who is to meet whom: only nodes of the same topic tell each other of peers. @default 'koinon-mesh' */
  readonly topic?: string
  /** @default 30 s */
  readonly intervalMs?: number
  /** @default 30 min */
  readonly republishMs?: number
  /** @default 60 s */
  readonly announceMs?: number
  /** Known peers in one exchange. @default 50, which is also the most */
  readonly exchangePeersMax?: number
  /** Exchanges that one round begins. @default 3 */
  readonly roundExchangesMax?: number
  /** Known peers that are kept. @default 2000 */
  readonly knownPeersMax?: number
  /** How long metadata of others is used before it is fetched again. @default 5 min */
  readonly metadataFreshMs?: number
  /** With more connected peers than this, the one that has been here longest and is idle is let go. @default 56 */
  readonly peersCrowded?: number
  /** Whether the topic is announced and looked up in the DHTs. @default true */
  readonly meetsStrangers?: boolean
}

export type DiscoveryStatus = {
  readonly isRunning: boolean
  readonly topic: string
  readonly knownPeers: number
  /** Of these, peers that this node has met. */
  readonly metPeers: number
  readonly knownRelays: number
  /** Peers that wait to be dialled, or are being dialled. */
  readonly dials: number
  readonly exchanges: number
  readonly lastExchange?: {
    readonly peer: string
    readonly sentBytes: number
    readonly receivedBytes: number
    /** Unix milliseconds. */
    readonly at: number
  }
  readonly faults: number
  readonly metadata: { readonly state: PublishState['kind']; readonly sequence?: number; readonly cached: number }
  readonly announcements: number
  /** Contacts in the tables of Mainline; undefined: without it. */
  readonly mainlineContacts?: number
  readonly hasKad: boolean
}

export interface Discovery {
  /** Serves its protocols and begins the first round. Once. */
  start(): void
  /** Resolves when no stream, dial, query or timer is left. Idempotent. */
  stop(): Promise<void>
  /** The facts about this node have changed: what is published follows at once. */
  factsChanged(): void
  /**
   * Replaces the services that this node announces.
   * @throws DiscoveryError DISCOVERY_ANNOUNCEMENT_INVALID, DISCOVERY_STOPPED
   */
  announce(services: readonly Service[]): void
  /**
   * Results as they come in, each once. Leaving the loop ends the search.
   * @throws DiscoveryError DISCOVERY_STOPPED, DISCOVERY_BUSY; the signal's reason
   */
  find(query: ServiceQuery, options?: AbortOptions & { readonly timeoutMs?: number }): AsyncIterable<FoundService>
  /** How a peer is to be reached now (NET-16). @throws DiscoveryError DISCOVERY_STOPPED, DISCOVERY_BUSY; the signal's reason */
  plan(peer: string, options?: AbortOptions): Promise<DialPlan>
  /** Metadata of many peers at once, as the answers come in. */
  metadata(
    peers: readonly string[],
    options?: AbortOptions,
  ): AsyncIterable<readonly [peer: string, found: VersionedMetadata]>
  known(): readonly KnownPeer[]
  status(): DiscoveryStatus
  onEvent(listener: (event: DiscoveryEvent) => void): void
}
