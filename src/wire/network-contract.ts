/** What a node tells of its network to those who use it (`koinon net`, `koinon peers`). Plain data only. */

/** How a connection reaches the other end, the best first. */
export type PathSummary = {
  /** Dialled; both dialled at once through their NATs; QUIC over a path that ICE found; through a third node. */
  readonly kind: 'direct' | 'punched' | 'ice' | 'relayed'
  readonly transport: 'tcp' | 'quic' | 'ws'
  /** Peer id of the relay. */
  readonly via?: string
}

/** `docs/reference/connections.md` says what each means. */
export type ConnectionStateName = 'connecting' | 'connected' | 'idle' | 'stale' | 'closed'

/** Bytes of streams, without the frames and records around them. */
export type TrafficSummary = { readonly bytesIn: number; readonly bytesOut: number }

export type ConnectionSummary = {
  readonly peer: string
  readonly state: ConnectionStateName
  readonly direction: 'inbound' | 'outbound'
  readonly path: PathSummary
  readonly rttMs?: number
  readonly ageMs: number
  /** Since it was of use last. */
  readonly idleMs: number
  /** Open streams of services: over the data plane, and over the connection itself. */
  readonly streams: { readonly plane: number; readonly libp2p: number }
  readonly traffic: TrafficSummary
  /** Why it stays however quiet it is: `kept`, `relay`, `stage`, `discovery`. */
  readonly holds: readonly string[]
}

/** A peer or an address that failed lately and is left alone. */
export type BreakerSummary = {
  /** A peer id, or an address. */
  readonly key: string
  readonly state: 'open' | 'half-open'
  /** 0: it may be tried now, or is being tried. */
  readonly retryAfterMs: number
  /** Tries that have failed since it was first left alone. */
  readonly round: number
}

/** What the parts of a node that may be missing know of the network. */
export type NetworkFacts = {
  readonly nat?: {
    /** Whether others can dial this node; `local`: it listens on this machine only. */
    readonly type: 'public' | 'nat' | 'local' | 'unknown'
    /** For people: "none", "full cone", "symmetric", ... */
    readonly kind: string
    /** Addresses under which the world sees this node. */
    readonly external?: readonly string[]
    /** How a port was mapped, if it was: "UPnP, port 4001". */
    readonly mapping?: string
  }
  readonly relay?: {
    /** Whether this node relays for others. */
    readonly isServing: boolean
    /** Peer ids of relays where this node holds a place. */
    readonly reservedAt: readonly string[]
    /** Places that others hold here. */
    readonly reservations: number
    /** Circuits of others that run through this node. */
    readonly circuits: number
  }
  readonly discovery?: {
    /** Peers that are remembered, and of these the ones that this node has met. */
    readonly knownPeers: number
    readonly metPeers: number
    readonly exchanges: number
    /** Bytes of the last exchange of known peers, either way. */
    readonly sentBytes: number
    readonly receivedBytes: number
  }
  readonly dht?: {
    /** Peers in the table of Kademlia. */
    readonly kadPeers?: number
    /** Nodes in the table of the Mainline DHT. */
    readonly mainlineNodes?: number
  }
}

export type NetworkStatus = NetworkFacts & {
  readonly peer: string
  /** What the node listens on. */
  readonly listening: readonly string[]
  /** Where others can dial it. */
  readonly addresses: readonly string[]
  readonly transports: readonly PathSummary['transport'][]
  /** TCP port of the data plane; undefined: there is none. */
  readonly planePort?: number
  readonly connections: readonly ConnectionSummary[]
  readonly breakers: readonly BreakerSummary[]
  readonly settings: {
    readonly pingIntervalMs: number
    readonly pingTimeoutMs: number
    readonly pingFailuresMax: number
    readonly idleLimitMs: number
    readonly peersFloor: number
  }
}
