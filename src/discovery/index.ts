/** The policies that find peers: metadata in DHTs, known peers and their exchange, announcements and searches. */
export type { DiscoveryFault, PeerFault } from './errors.ts'
export { createDiscovery } from './discovery.ts'
export type { Discovery, DiscoveryDeps, DiscoveryOptions, DiscoveryStatus } from './discovery-types.ts'
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
  Service,
  ServiceQuery,
} from './types.ts'
export { SERVICES_MAX } from './limits.ts'
