/** A whole node, as the surfaces (HTTP API, command line) see it. */
import type { EngineOptions } from '#engine'
import type { KeySource } from '#keyring'
import type { NetSettings, TransportMode } from '#net'
import type { StunName } from '#reach'
import type { Attachment } from '#protocol'
import type { Clock, LayerRange, Logger, Random } from '#base'
import type {
  CommandSummary,
  CompletionEvent,
  CompletionRequest,
  FindRequest,
  FoundServiceSummary,
  ModelSummary,
  NetworkStatus,
  ReachReport,
  NodeStatus,
  PeerSummary,
  PlanReport,
  RelayMode,
  WeightsService,
} from '#wire'

/** Which layers this node serves: a range, none (edges only), or its share of what is missing. */
export type LayerChoice =
  | { readonly kind: 'range'; readonly layers: LayerRange }
  | { readonly kind: 'none' }
  /** Wait until this many nodes (with this one) are there, then share the layers out. `nodes` 1: take what is missing now. */
  | { readonly kind: 'auto'; readonly nodes: number }

/** A server that passes datagrams on for those who have an account there (RFC 8656). */
export type TurnConfig = {
  /** A name or an IP address. */
  readonly host: string
  readonly port: number
  readonly username: string
  readonly password: string
}

export type MainlineConfig = {
  /** IP addresses to bind UDP sockets at, at most one of each family. */
  readonly hosts: readonly string[]
  /** 0: any that is free. */
  readonly port: number
  /** `host:port` of nodes to begin with. */
  readonly bootstrap: readonly string[]
}

/** A model whose weights the node finds: here already, or at peers and other sources. */
export type NamedModel = {
  /** Its id, 8 digits or more of it, its name, or a magnet link. */
  readonly named: string
}

export type BitTorrentConfig = {
  /** TCP port for BitTorrent clients; 0: any that is free. */
  readonly port: number
}

export type NodeConfig = {
  readonly dataDir: string
  /** Absolute path of the GGUF file; or which model to take from the swarm. */
  readonly model: string | NamedModel
  readonly layers: LayerChoice
  /** Multiaddrs of peers to connect to, and to keep connected. */
  readonly peers: readonly string[]
  readonly listen: readonly string[]
  /** TCP port of the data plane; 0: any that is free; 'off': streams go over libp2p alone. @default 0 */
  readonly planePort?: number | 'off'
  /** What connections run on. @default 'dual' */
  readonly transport?: TransportMode
  /** Settings of the network that are not the defaults. */
  readonly settings?: Partial<NetSettings>
  /** Peer ids: where there are any, nobody else is dialled or let in. */
  readonly allow?: readonly string[]
  /** Relay for nodes that others cannot dial; 'auto': once this node is known to be public. @default 'auto' */
  readonly relay?: RelayMode
  /** Where in the world this node is, in words of its owner's choice: a hint for the choice of relays. */
  readonly region?: string
  /** Have the gateway map the ports of private addresses. @default true */
  readonly mapPorts?: boolean
  /** STUN servers beside those of peers. */
  readonly stun?: readonly StunName[]
  /** For direct connections by UDP through NATs that allow no other. @default none */
  readonly turn?: TurnConfig
  /** Multiaddrs at which this node can be reached from outside, as its owner says. */
  readonly external?: readonly string[]
  /** Kademlia among the nodes of the swarm. @default true */
  readonly dht?: boolean
  /** The BitTorrent Mainline DHT. @default without it */
  readonly mainline?: MainlineConfig
  /** The name under which nodes find one another in DHTs; with a secret only members can tell it. @default koinon-mesh */
  readonly topic?: string
  readonly secret?: Uint8Array
  readonly mdns: boolean
  /** Where the node's key lies. @default the data directory */
  readonly key?: KeySource
  /** Opens the key of the data directory, and protects one that is made there. A secret. */
  readonly passphrase?: string
  /** Sign handshakes with ML-DSA-65 beside Ed25519, where the key is in this process. @default false */
  readonly hybridSignatures?: boolean
  /** Peer ids that may give every command: load other layers, for one. @default none */
  readonly trust?: readonly string[]
  /** Files with commands of the owner's own. */
  readonly plugins?: readonly string[]
  readonly engine: EngineOptions
  /** Positions of one generation. Undefined: the model's training context, at most 4096. */
  readonly contextMax?: number
  /** Generations at once on this node's stage. @default 8 */
  readonly slots: number
  /** How long answers that are being made may go on once the node is to stop, in milliseconds. @default DRAIN_MS */
  readonly drainMs?: number
  /** Bytes that weights and KV may take; undefined: 80 % of what is free. */
  readonly memoryMax?: number
  /** Serve layers alone: no embedding and head are fetched or loaded, and no prompts taken. @default false */
  readonly stageOnly?: boolean
  /** Absolute path of a file that names places beside peers where weights may come from. @default none */
  readonly sources?: string
  /** Most bytes of pulled weights on the disk; files of the user's own do not count. @default no bound but the disk's */
  readonly storageBytesMax?: number
  /** Most bytes a second of weights that go out, all peers together. @default no bound */
  readonly uploadRateMax?: number
  /** Most bytes a second of weights that come in, from all sources together. @default no bound */
  readonly downloadRateMax?: number
  /** Fetch from and serve BitTorrent clients too. @default nodes of Koinon alone */
  readonly bittorrent?: BitTorrentConfig
  /** Whether peers may fetch weights here. @default true */
  readonly share?: boolean
}

/** To which key a node goes over. */
export type KeyRotationRequest = {
  /** Where the new key lies. @default the next key of the seed phrase, in the key file */
  readonly to?: KeySource
  /** Begin a new seed phrase in the key file: for a phrase that others may know. @default false */
  readonly newPhrase?: boolean
}

/** Peer ids. */
export type KeyRotated = { readonly from: string; readonly to: string }

export type NodeProgress = (
  phase: string,
  facts: { readonly done?: number; readonly total?: number; readonly text?: string },
) => void

export type NodeDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly onProgress?: NodeProgress
  /** Where tokens of sources are looked up that are named by a variable. @default nowhere */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Called once the node can be dialled, which is before it has its layers. */
  readonly onListening?: (facts: { readonly peer: string; readonly addresses: readonly string[] }) => void
}

export type AskOptions = {
  /** Aborting it cancels the command. */
  readonly signal: AbortSignal
  /** @default the command's own */
  readonly deadlineMs?: number
  /** A promise that it returns is waited for before the next event. */
  readonly onEvent?: (event: unknown) => void | Promise<void>
  /** Stays the caller's, who releases it when the command has ended. */
  readonly attachment?: Attachment
}

export interface KoinonNode {
  readonly peer: string
  /** Path of the local control socket. */
  readonly socket: string
  models(): readonly ModelSummary[]
  peers(): readonly PeerSummary[]
  /** Addresses, connections and how they live, and whom this node leaves alone for now. */
  network(): NetworkStatus
  /** Who would run what, with the machines that are here now. @throws NodeError where the model is not known */
  plan(model: string): PlanReport
  status(): NodeStatus
  /** How the node stands in the network: whether and where it can be reached, what its NAT is. */
  reachability(): ReachReport
  /** Leaving the loop or aborting the signal frees every stage. @throws KoinonError */
  complete(request: CompletionRequest, options: { readonly signal: AbortSignal }): AsyncGenerator<CompletionEvent>
  /** The commands that this node answers, and can give. */
  commands(): readonly CommandSummary[]
  /**
   * Gives a connected peer a command. The caller releases the attachment of the answer, which is fetched when it is read.
   * @throws ProtocolError, SessionError, NodeError NODE_COMMAND_UNKNOWN, NODE_PEER_UNKNOWN; the signal's reason
   */
  ask(
    peer: string,
    asked: { readonly name: string; readonly body: unknown },
    options: AskOptions,
  ): Promise<{ readonly body: unknown; readonly attachment?: Attachment }>
  /**
   * Looks for a service, and yields results as they come in. Leaving the loop ends the search.
   * @throws NodeError NODE_DISCOVERY_OFF; DiscoveryError DISCOVERY_BUSY, DISCOVERY_STOPPED; the signal's reason
   */
  find(request: FindRequest, options: { readonly signal: AbortSignal }): AsyncIterable<FoundServiceSummary>
  /** The models whose weights are here: adding, pulling, sharing them. */
  readonly weights: WeightsService
  /** Goes over to another key, and tells every peer. @throws NodeError, KeyringError, StorageError, IdentityError */
  rotateKey(request?: KeyRotationRequest): Promise<KeyRotated>
  /** Whether a prompt could be answered now, and if not why (for /healthz). */
  health(): { readonly ok: boolean; readonly reason?: string }
  /** Tells the node where its HTTP API listens, for status. */
  setApi(address: string): void
  /** Takes nothing new, and resolves when what runs for peers has come to its end, or its time is up. Idempotent. */
  drain(): Promise<void>
  /** Drains, then ends everything that still runs with an error. Idempotent. */
  stop(): Promise<void>
}
