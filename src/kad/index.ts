/** Kademlia of libp2p among Koinon's nodes: signed records, providers, closest peers. Needs a libp2p node to be mounted on. */
export { KadError, type KadFault } from './errors.ts'
export { createKad } from './kad.ts'
export { createMemoryStore } from './memory-store.ts'
export { type PuzzleDeps, type PuzzleOptions, solvePuzzle, verifyPuzzle } from './puzzle.ts'
export { createKadRecord, type KadRecord, recordKey } from './record.ts'
export type {
  FoundPeer,
  GetResult,
  Kad,
  KadComponents,
  KadDeps,
  KadGate,
  KadOptions,
  KadStatus,
  ProvideResult,
  PutResult,
} from './types.ts'
