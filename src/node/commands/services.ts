/** What commands need of the running node. Made by `command-services.ts`; tests make parts of their own. */
import type { LayerRange, Random } from '#base'
import type { Command } from '#protocol'
import type { RouteOffer } from '#planner'
import type { NodeOffer } from '#wire'
import type { LocalModel } from '../model-library.ts'
import type { ShardRequest } from '../shard-loader.ts'
import type { Piece, SharedFile } from '../shared-files.ts'
import type { KoinonNode } from '../types.ts'

/** A node that this node is connected to. */
export type KnownNode = {
  readonly id: string
  readonly addresses: readonly string[]
  readonly offer: NodeOffer
}

export type PeerRating = {
  readonly rater: string
  readonly subject: string
  readonly score: number
  readonly comment: string
  /** Unix milliseconds. */
  readonly at: number
}

/** What `storage` keeps about peers, as far as commands use it. */
export interface RatingStore {
  /** False where the rating is not taken. */
  rate(rating: PeerRating): boolean
  of(subject: string): {
    readonly mean: number | undefined
    readonly count: number
    readonly own: { readonly served: number; readonly failed: number; readonly refused: number }
    readonly ratings: readonly PeerRating[]
  }
}

export type AuditRequest = {
  /** Undefined: all layers that are served. */
  readonly layers: LayerRange | undefined
  readonly count: number
  /** f32 little-endian. */
  readonly rows: Uint8Array
}

export type AuditResult = {
  readonly layers: LayerRange
  readonly width: number
  readonly profile: string
  /** f32 little-endian, shape [count, width]. */
  readonly outputs: Uint8Array
}

export interface CommandServices {
  /** Our own peer id. */
  readonly self: string
  readonly model: LocalModel
  readonly random: Random
  /** Unix milliseconds. */
  readonly now: () => number
  /** What this node can do, as its HELLO says it. */
  readonly capabilities: readonly string[]
  /** Every command that is registered now, those of plug-ins too. */
  readonly commands: () => readonly Pick<Command, 'name' | 'type' | 'right'>[]
  readonly ownOffer: () => NodeOffer
  readonly peers: () => readonly KnownNode[]
  /** Every stage of the model that somebody serves. */
  readonly routeOffers: (model: string) => readonly RouteOffer[]
  readonly complete: KoinonNode['complete']
  /** Numeric profile of embedding, head and sampling here. */
  readonly edgeProfile: string
  readonly files: {
    list(options: { readonly signal: AbortSignal }): Promise<readonly SharedFile[]>
    find(root: string, options: { readonly signal: AbortSignal }): Promise<SharedFile>
    read(file: SharedFile, piece: number): Promise<Piece>
    digests(file: SharedFile, options: { readonly signal: AbortSignal }): Promise<Uint8Array>
  }
  readonly ratings: RatingStore
  /** Loads other layers. Resolves when they are served. */
  readonly loadShard: (request: ShardRequest, options: { readonly signal: AbortSignal }) => Promise<void>
  /** Computes rows with the loaded layers, for nobody's generation. */
  readonly audit: (request: AuditRequest, options: { readonly signal: AbortSignal }) => Promise<AuditResult>
}
