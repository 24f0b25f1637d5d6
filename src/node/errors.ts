/** What can go wrong in a node as a whole; errors of its parts pass through as they are. */
import { KoinonError, type LayerRange } from '#base'

export type NodeFault =
  /** No model file here goes by that name or id. */
  | { readonly code: 'NODE_MODEL_UNKNOWN'; readonly model: string }
  /** Nobody serves some of the layers, or no chain of stages covers them. */
  | { readonly code: 'NODE_NO_ROUTE'; readonly uncovered: readonly LayerRange[] }
  | {
      readonly code: 'NODE_CONTEXT_EXCEEDED'
      readonly promptTokens: number
      /** What was asked for; 0 where the request left it open. */
      readonly tokensMax: number
      readonly contextMax: number
    }
  /** As many completions run and wait as the node takes. */
  | { readonly code: 'NODE_BUSY'; readonly running: number; readonly waiting: number }
  | { readonly code: 'NODE_DOES_NOT_FIT'; readonly missingBytes: number }
  | { readonly code: 'NODE_LAYERS_UNKNOWN'; readonly layers: LayerRange; readonly layerCount: number }
  /** Fewer nodes came to share the layers out than were waited for. */
  | { readonly code: 'NODE_PLACEMENT_TIMEOUT'; readonly nodes: number; readonly known: number }
  /** The prompt has no tokens, or tokens that the model does not know. */
  | { readonly code: 'NODE_PROMPT_INVALID' }
  /** No command goes by that name here. */
  | { readonly code: 'NODE_COMMAND_UNKNOWN'; readonly command: string }
  /** The peer is not connected. */
  | { readonly code: 'NODE_PEER_UNKNOWN'; readonly peer: string }
  /** The node runs without discovery. */
  | { readonly code: 'NODE_DISCOVERY_OFF' }
  /** More than one model may be meant; `ids`: the beginnings of theirs. */
  | { readonly code: 'NODE_MODEL_AMBIGUOUS'; readonly ids: readonly string[] }
  /** A description of a model that does not hold, or is not that of its file. */
  | { readonly code: 'NODE_MODEL_INVALID' }
  /** The model runs here, or is being fetched. */
  | { readonly code: 'NODE_MODEL_IN_USE' }
  /** The weights that are to run here do not fit the quota, whatever else goes. */
  | { readonly code: 'NODE_QUOTA_FULL'; readonly missingBytes: number }
  /** The file is not what it was when it was hashed. */
  | { readonly code: 'NODE_MODEL_CHANGED'; readonly file: string }
  /** A torrent that is not one of a model of Koinon. */
  | { readonly code: 'NODE_TORRENT_UNFIT' }
  /** No address of a node or of a BitTorrent client. */
  | { readonly code: 'NODE_ADDRESS_INVALID'; readonly address: string }
  /** A BitTorrent client was to be asked, and the node runs without BitTorrent. */
  | { readonly code: 'NODE_BITTORRENT_OFF' }
  /** A .torrent file needs the hashes of all pieces. */
  | { readonly code: 'NODE_HASHES_MISSING' }
  /** A vote that could not be kept. */
  | { readonly code: 'NODE_VOTE_REFUSED' }
  /** The key has handed over to another one and is not the node's any more. */
  | { readonly code: 'NODE_KEY_GIVEN_UP'; readonly peer: string; readonly successor: string }
  /** A key cannot be handed over to: it is or was this node's. */
  | { readonly code: 'NODE_KEY_USED'; readonly peer: string }
  /** Where the key lies no further one is made; the new one must be named. */
  | { readonly code: 'NODE_KEY_FIXED'; readonly kind: string }
  /** The node is going down. */
  | { readonly code: 'NODE_STOPPED' }
  /** This node was started to serve layers alone. */
  | { readonly code: 'NODE_STAGE_ONLY' }

/** The error of everything in this module. */
export class NodeError extends KoinonError<NodeFault> {
  override readonly name = 'NodeError'
}
