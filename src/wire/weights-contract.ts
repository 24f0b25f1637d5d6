/** What a node tells and does about models' weights, for the command line over the local socket. Plain data. */
import type { LayerRange } from '#base'

/** A model whose manifest this node holds. */
export type ModelHolding = {
  /** 64 hexadecimal digits. */
  readonly id: string
  readonly name: string
  readonly architecture: string
  readonly layerCount: number
  /** Bytes of all of it. */
  readonly totalBytes: number
  /** Bytes of it that are on this machine, verified. */
  readonly heldBytes: number
  /** Layers that are here whole. */
  readonly heldLayers: readonly LayerRange[]
  readonly hasEdges: boolean
  /** Where the user's own file lies; undefined: in the node's store. */
  readonly file?: string
  /** Whether peers may fetch it here. */
  readonly isShared: boolean
  /** Peers that are connected and have some of it. */
  readonly peers: number
  readonly uploadedBytes: number
  readonly downloadedBytes: number
}

export type VoteSummary = {
  readonly peer: string
  readonly isTrusted: boolean
  readonly comment: string
  /** Unix milliseconds. */
  readonly at: number
}

/** Everything about one model. */
export type ModelDetails = ModelHolding & {
  readonly licence?: string
  /** Who signed the manifest; undefined: nobody, the id alone vouches for it. */
  readonly signer?: string
  /** Unix milliseconds. */
  readonly createdAt?: number
  /** Model id of the version before. */
  readonly previous?: string
  readonly benchmarks: readonly { readonly name: string; readonly score: number; readonly unit: string }[]
  readonly hasTestVector: boolean
  readonly votes: readonly VoteSummary[]
  /** BitTorrent v2 info-hash, 64 hexadecimal digits. */
  readonly infoHash: string
  readonly magnet: string
}

export type AddModelRequest = {
  /** Absolute path of a GGUF file. */
  readonly file: string
  readonly name?: string
  readonly licence?: string
  readonly benchmarks?: readonly { readonly name: string; readonly score: number; readonly unit: string }[]
  /** Model id of the version before. */
  readonly previous?: string
}

export type PullRequest = {
  /** Model id, 8 digits or more of it, its name, or a magnet link. */
  readonly model: string
  /** Undefined: everything. */
  readonly layers?: LayerRange
  /** Embedding, norm and head, which a node needs that takes prompts. @default with everything, else without */
  readonly edges?: boolean
  /** Multiaddrs of nodes, or `bt:HOST:PORT` of BitTorrent clients, to ask beside those that are found. */
  readonly from?: readonly string[]
  /** Names of sources of the node's configuration, or URLs and paths where its owner allows those. */
  readonly sources?: readonly string[]
  /** Bytes of a .torrent file, base64. */
  readonly torrent?: string
}

/** How far a transfer is. */
export type TransferProgress = {
  readonly phase: 'manifest' | 'hashing' | 'pulling' | 'checking'
  readonly doneBytes: number
  readonly totalBytes: number
  /** Smoothed, bytes a second. */
  readonly rate: number
  /** Seconds; undefined: nobody knows. */
  readonly etaS?: number
  /** Peers and other sources that are giving something. */
  readonly sources: number
  readonly peers: number
}

export type PullEnd = {
  readonly model: string
  readonly name: string
  /** Bytes that were asked for, and of these what was here already. */
  readonly wantedBytes: number
  readonly hadBytes: number
  /** Bytes of blocks that came, those that were refused or came twice among them. */
  readonly receivedBytes: number
  readonly wastedBytes: number
  readonly seconds: number
  readonly from: readonly { readonly name: string; readonly bytes: number }[]
}

/** Lines of `POST /local/pull` and `POST /local/models/add`. */
export type TransferEvent =
  | { readonly kind: 'progress'; readonly progress: TransferProgress }
  | { readonly kind: 'pulled'; readonly end: PullEnd }
  | { readonly kind: 'added'; readonly model: ModelDetails }
  | { readonly kind: 'verified'; readonly goodBytes: number; readonly badPieces: readonly number[] }
  | { readonly kind: 'error'; readonly code: string; readonly message: string }

/** Answer of `GET /local/models/torrent`. */
export type ModelTorrent = {
  /** Bytes of a .torrent file, base64. */
  readonly torrent: string
}

/** What a node does about weights. Each takes a model by its id, 8 digits or more of that, or its name. */
export interface WeightsService {
  list(): readonly ModelHolding[]
  /** @throws NodeError NODE_MODEL_UNKNOWN */
  details(model: string): ModelDetails
  /** Makes the manifest of a file, keeps and shares it. @throws FormatError, StorageError; the signal's reason */
  add(request: AddModelRequest, options: WeightsOptions): Promise<ModelDetails>
  /** @throws SwarmError, StorageError; the signal's reason */
  pull(request: PullRequest, options: WeightsOptions): Promise<PullEnd>
  /** Reads everything again. Pieces that are bad are dropped, and can be pulled again. */
  verify(
    model: string,
    options: WeightsOptions,
  ): Promise<{ readonly goodBytes: number; readonly badPieces: readonly number[] }>
  /** Forgets a model and frees its space; a file of the user's own stays where it is. @returns bytes that are free now */
  remove(model: string): Promise<number>
  share(model: string, isShared: boolean): Promise<ModelDetails>
  /** Bytes of a .torrent file. */
  torrent(model: string): Uint8Array
  vote(model: string, vote: { readonly isTrusted: boolean; readonly comment: string }): Promise<ModelDetails>
}

export type WeightsOptions = {
  readonly signal: AbortSignal
  readonly onProgress: (progress: TransferProgress) => void
}
