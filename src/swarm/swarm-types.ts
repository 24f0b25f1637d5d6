/** What the swarm is given, what it does, and what it says of itself. */
import type { Clock, Logger, Random } from '#base'
import type { ByteRange, ModelCore, Torrent } from '#formats'
import type { Host } from '#net'
import type { Blob, BlobStore } from '#storage'
import type { SwarmDht } from './bittorrent/dht.ts'
import type { StockPeers } from './bittorrent/stock-peers.ts'
import type { DownloadBlame } from './transfer/types.ts'
import type { Origin } from './types.ts'
import type { PeerSession, SessionOptions } from './wire/types.ts'

/** What the swarm uses of the network host. */
export type SwarmHost = Pick<Host, 'id' | 'open' | 'handle' | 'peers' | 'onPeer'>

/** Why a party is blamed: what it sent is not the model; or it broke the rules of the protocol. */
export type SwarmBlame = DownloadBlame | 'flood' | 'malformed'

/** Where a peer can be reached: a node, or a BitTorrent client. */
export type PeerAddress =
  | { readonly kind: 'koinon'; readonly peer: string; readonly addresses: readonly string[] }
  | { readonly kind: 'bittorrent'; readonly host: string; readonly port: number }

export type SwarmDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly host: SwarmHost
  readonly blobs: BlobStore
  /** A party has sent what is not the model, or broke the protocol. A peer id, or as `partyOfHost`. What it costs is decided elsewhere. */
  readonly onBlame: (party: string, why: SwarmBlame) => void
  /** Whether a party gets nothing here. */
  readonly isBanned: (party: string) => boolean
  /** Who has a model, as far as the network knows. @default only connected peers are asked */
  readonly findPeers?: (
    model: string,
    options: { readonly signal: AbortSignal },
  ) => AsyncIterable<{ readonly peer: string; readonly addresses: readonly string[] }>
  /** Signed votes about a model that are told to peers. @default none */
  readonly votesOf?: (model: string) => readonly Uint8Array[]
  /** Votes that a peer has told: to be checked by whoever takes them. */
  readonly onVotes?: (model: string, records: readonly Uint8Array[], peer: string) => void
  /** @default stock clients are not dialled */
  readonly bittorrent?: Pick<StockPeers, 'dial'>
  /** Where stock clients are found; with `listenPort`, what is here is announced there too. @default none */
  readonly dht?: SwarmDht
}

/** Bytes a second, over all transfers together. Undefined: no limit. */
export type SwarmRates = { readonly down?: number | undefined; readonly up?: number | undefined }

export type SwarmOptions = {
  readonly rates?: SwarmRates
  /** How long a pull does without anybody to ask. @default 30 s */
  readonly noPeersMs?: number
  /** How long a pull waits for pieces that nobody has. @default 60 s */
  readonly piecesMissingMs?: number
  /** TCP port where stock clients can dial this node; told to peers. */
  readonly listenPort?: number
}

/** A model that others may fetch here. */
export type SharedModel = {
  /** The canonical core, whose SHA-256 is the model's id. */
  readonly core: Uint8Array<ArrayBuffer>
  /** The signed manifest. */
  readonly manifest?: Uint8Array | undefined
  /** What holds the model's file: all of it, or some. */
  readonly blob: Blob
}

/** Bytes of the model's file, or which they are once its core is known. */
export type Wanted = 'all' | readonly ByteRange[] | ((core: ModelCore) => 'all' | readonly ByteRange[])

/** What is known of the model: its id or its info-hash, or its core itself. */
export type PullSubject =
  | { readonly model: string }
  /** 32 bytes, or the 20 that a DHT has. */
  | { readonly infoHash: Uint8Array }
  | { readonly core: Uint8Array<ArrayBuffer>; readonly manifest?: Uint8Array | undefined }

export type PullOptions = {
  readonly subject: PullSubject
  readonly wanted: Wanted
  /** To be asked beside those that are found. */
  readonly from?: readonly PeerAddress[]
  /** Asked for whole pieces of the model's file. They belong to the pull, which closes them. */
  readonly origins?: readonly Origin[]
  /** Hashes of all pieces of the model's file, as a .torrent file has them: checked, and then not asked for. */
  readonly pieceLayer?: Uint8Array
  readonly signal: AbortSignal
  readonly onProgress?: (progress: PullProgress) => void
  /** Others may fetch from here what was pulled, after the pull too. @default false: only while it is under way */
  readonly isShared?: boolean
}

/** How far a pull is. */
export type PullProgress = {
  readonly phase: 'manifest' | 'pulling'
  readonly doneBytes: number
  readonly totalBytes: number
  /** Bytes a second, smoothed. */
  readonly rate: number
  /** Seconds; undefined: nobody knows. */
  readonly etaS?: number
  /** Peers and origins that are connected. */
  readonly sources: number
  readonly peers: number
}

/** What came of a pull. */
export type PullResult = {
  readonly model: string
  readonly core: Uint8Array<ArrayBuffer>
  readonly manifest?: Uint8Array | undefined
  readonly torrent: Torrent
  readonly blob: Blob
  /** Bytes of whole pieces that hold what was wanted, and of these what was here before. */
  readonly wantedBytes: number
  readonly hadBytes: number
  /** Bytes of blocks that came while it ran, for this model; what was no use among them. */
  readonly receivedBytes: number
  readonly wastedBytes: number
  readonly seconds: number
  readonly from: readonly { readonly name: string; readonly bytes: number }[]
  /** Origins that were given up, and why. */
  readonly dropped: readonly { readonly name: string; readonly why: string }[]
}

export type SwarmPeerFacts = {
  readonly party: string
  readonly kind: 'koinon' | 'bittorrent' | 'origin'
  readonly receivedBytes: number
  readonly sentBytes: number
  /** Bytes a second that come from it, smoothed. */
  readonly rate: number
  /** It serves us; we serve it. */
  readonly isChokingUs: boolean
  readonly isChoked: boolean
  /** It wants something of us; we want something of it. */
  readonly isInterested: boolean
  readonly areWeInterested: boolean
}

export type SwarmModelFacts = {
  readonly model: string
  readonly infoHash: Uint8Array
  readonly isShared: boolean
  readonly pulls: number
  readonly heldBytes: number
  readonly totalBytes: number
  /** Bytes of blocks since the model came here. */
  readonly uploadedBytes: number
  readonly downloadedBytes: number
  readonly downRate: number
  readonly upRate: number
  readonly peers: readonly SwarmPeerFacts[]
}

export interface Swarm {
  start(): void
  /** Ends every session and pull; resolves when nothing of them runs any more. Idempotent. */
  stop(): Promise<void>
  /** Lets others fetch a model. Idempotent. @throws SwarmError SWARM_CORE_INVALID, SWARM_BUSY, SWARM_STOPPED */
  share(model: SharedModel): void
  /** Others get nothing more of it, unless a pull of it is under way. */
  unshare(model: string): void
  /**
   * Fetches what is wanted of a model. What is here already is not fetched again, and what was verified stays, however this
   * ends. @throws SwarmError, StorageError, FormatError; the signal's reason
   */
  pull(options: PullOptions): Promise<PullResult>
  /** Takes a session with a stock client that has dialled this node. @returns false: nothing of that info-hash is here */
  accept(session: PeerSession, infoHash: Uint8Array): boolean
  /** What this side brings into a session about an info-hash; undefined: nothing of it is here. */
  sessionOptions(infoHash: Uint8Array): SessionOptions | undefined
  /** There are new votes on a model: peers who have a session about it are told so, every few seconds at most. */
  votesChanged(model: string): void
  setRates(rates: SwarmRates): void
  facts(): readonly SwarmModelFacts[]
}
