/** The policies that find peers: metadata in DHTs, known peers and their exchange, announcements and searches. */
export { DiscoveryError, type DiscoveryFault, type PeerFault } from './errors.ts'
export {
  createDiscovery,
  type Discovery,
  type DiscoveryDeps,
  type DiscoveryOptions,
  type DiscoveryStatus,
} from './discovery.ts'
export type { DialPlan } from './dial-plan.ts'
export type { KnownPeer } from './known-peers.ts'
export type { PeerMetadata, Place, RelayInUse, VersionedMetadata } from './peer-metadata.ts'
export type { OwnFacts } from './publish-state.ts'
export type {
  ConnectedPeer,
  DiscoveryEvent,
  DiscoveryHost,
  FoundService,
  KadRecords,
  KnownPeerStore,
  Service,
  ServiceQuery,
} from './types.ts'
