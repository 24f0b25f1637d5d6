/**
 * The one table that says who may import whom.
 *
 * A module may import a module of a LOWER rank, never of the same rank or a higher one. Equal ranks are kept apart on
 * purpose: siblings meet through values and functions that `node` hands to them.
 */
export const LAYERS: Readonly<Record<string, number>> = {
  base: 0,
  crypto: 1,
  wire: 2,
  identity: 2,
  formats: 2,
  planner: 2,
  protocol: 3,
  storage: 4,
  keyring: 4,
  net: 4,
  nat: 4,
  engine: 4,
  mainline: 4,
  kad: 4,
  pipeline: 5,
  reach: 5,
  discovery: 5,
  swarm: 5,
  node: 6,
  api: 7,
  cli: 7,
}

/** Modules that must run in a browser too: no `node:` imports. */
export const PORTABLE: ReadonlySet<string> = new Set(['base', 'wire', 'planner'])

/** Packages that only one module may import, so that each has one place where it is used and can be replaced. */
export const OWNED_PACKAGES: ReadonlyArray<readonly [RegExp, ...string[]]> = [
  // `storage` needs one call that Node lacks: fallocate, to give back the space of a part of a file.
  [/^koffi$/, 'engine', 'keyring', 'storage'],
  [/^(?:node:crypto|@libp2p\/crypto|@noble\/|@scure\/)/, 'crypto'],
  [/^@aws-sdk\//, 'keyring'],
  [/^@libp2p\/peer-id$/, 'crypto', 'net', 'kad'],
  [/^(?:@libp2p\/interface$|@multiformats\/multiaddr$)/, 'net', 'kad'],
  [/^(?:@libp2p\/kad-dht|interface-datastore|datastore-core)/, 'kad'],
  [
    /^(?:libp2p$|@chainsafe\/libp2p-quic|@libp2p\/(?:tcp|tls|noise|yamux|mdns|identify|interface-|websockets)|@multiformats\/(?!multiaddr$))/,
    'net',
  ],
  [/^node:sqlite$/, 'storage'],
  [/^bencode$/, 'formats'],
  [/^werift$/, 'nat'],
  [/^fastify/, 'api'],
  [/^commander$/, 'cli'],
]

/** Files that are started as a process or a worker of their own, so nothing imports them. */
export const ENTRY_POINTS: ReadonlySet<string> = new Set([
  'src/main.ts',
  'src/engine/child/main.ts',
  'src/engine/child/lifeline.ts',
  'src/engine/sandbox/launch.ts',
  'test/peers/json-only.ts',
  'test/peers/older-only.ts',
  'test/peers/detect-nat.ts',
  'test/peers/map-ports.ts',
  'test/peers/stun-server.ts',
  'test/peers/ice-nowhere.ts',
  'test/peers/ice-peer.ts',
  'test/peers/reach-node.ts',
  'test/peers/unknown-version.ts',
  'test/peers/v1-only.ts',
])
