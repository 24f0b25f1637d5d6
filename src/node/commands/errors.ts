/** What can go wrong with a peer's command beyond the errors of the parts that carry it out. */
import { KoinonError, type LayerRange } from '#base'

export type CommandFault =
  /** This node serves no layers, or has no engine that could. */
  | { readonly code: 'NODE_STAGE_NONE' }
  /** Generations run on the stage, and `force` was not asked for. */
  | { readonly code: 'NODE_STAGE_IN_USE'; readonly generations: number }
  | { readonly code: 'NODE_LAYERS_NOT_SERVED'; readonly layers: LayerRange; readonly served: LayerRange }
  /** The rows of an audit have not the size that count and width say. */
  | { readonly code: 'NODE_ROWS_INVALID'; readonly bytes: number; readonly expectedBytes: number }
  /** No file with this root is shared here. */
  | { readonly code: 'NODE_FILE_UNKNOWN' }
  | { readonly code: 'NODE_PIECE_UNKNOWN'; readonly piece: number; readonly count: number }
  /** The file on disk is not the one that the node was started with. */
  | { readonly code: 'NODE_FILE_CHANGED' }
  /** A rating that the store does not take: of the rater itself, or older than the one it has. */
  | { readonly code: 'NODE_RATING_REFUSED' }

/** Thrown by handlers; the caller is told code and sentence. */
export class CommandError extends KoinonError<CommandFault> {
  override readonly name = 'CommandError'
}
