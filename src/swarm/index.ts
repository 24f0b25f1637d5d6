/** Weights of models on their way: from many peers and other sources at once, verified block by block on arrival. */
export { createSwarm } from './swarm.ts'
export type { SwarmFault } from './errors.ts'
export type {
  PeerAddress,
  PullOptions,
  PullProgress,
  PullResult,
  PullSubject,
  SharedModel,
  Swarm,
  SwarmBlame,
  SwarmDeps,
  SwarmHost,
  SwarmModelFacts,
  SwarmOptions,
  SwarmPeerFacts,
  SwarmRates,
  Wanted,
} from './swarm-types.ts'
export type { Origin } from './types.ts'
export { dhtOfMainline, type SwarmDht } from './bittorrent/dht.ts'
export { partyOfHost } from './bittorrent/host-group.ts'
export { createStockPeers, type StockPeers } from './bittorrent/stock-peers.ts'
export { readSources } from './origins/config.ts'
export { createOrigins, type Origins } from './origins/create-origins.ts'
