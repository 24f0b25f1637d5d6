/**
 * What the planner works with: layers with their sizes, machines with their memory and speed, stages that are served.
 * Plain data, so that every node (and a browser) can compute the same plan from the same facts.
 */
import type { LayerRange } from '#base'

/** What one layer costs the node that serves it. */
type PlanLayer = {
  readonly weightBytes: number
  /** KV cache of one position. */
  readonly kvBytesPerPosition: number
}

export type PlanModel = { readonly layers: readonly PlanLayer[] }

export type PlanNode = {
  readonly id: string
  /** Bytes that the node gives to weights and KV of its layers. */
  readonly memoryBytes: number
  /** Positions that it keeps room for: slots times context. Nodes may differ in both. */
  readonly kvPositions: number
  /** Measured: bytes of weights that a one-row step reads in a second. */
  readonly weightBytesPerSecond: number
}

/** One node's share of a model. */
export type PlacedStage = {
  readonly id: string
  readonly layers: LayerRange
  readonly weightBytes: number
  readonly kvBytes: number
  /** Expected time of a one-row step through these layers, in milliseconds. */
  readonly stepMs: number
}

/** Who serves what: contiguous ranges in the order of the layers. Nodes without a share are in `unused`. */
export type Placement = {
  readonly stages: readonly PlacedStage[]
  readonly unused: readonly string[]
}

/** A range that somebody serves now, for `placeMissing`. */
export type ServedRange = { readonly layers: LayerRange; readonly stepMs: number }

/** A stage that a peer (or this node) offers. The fields of the wire's stage offer that a route depends on. */
type RouteStage = {
  readonly model: string
  readonly layers: LayerRange
  readonly layerCount: number
  readonly contextMax: number
  readonly slots: number
  readonly slotsFree: number
  readonly profile: string
  readonly stepMs: number
}

export type RouteOffer = {
  readonly peer: string
  readonly addresses: readonly string[]
  readonly stage: RouteStage
  /** Round trip between this node and the peer, where it was measured. */
  readonly rttMs?: number
  readonly isSelf: boolean
  /**
   * Generations of this node that pass the stage now. What the peer itself says of its slots is older: without this all
   * requests of one moment would go to the same of two equal peers. @default 0
   */
  readonly inFlight?: number
  /** Whether the peer's last ping has gone unanswered. @default false */
  readonly isSilent?: boolean
}

export type RouteQuery = {
  readonly model: string
  readonly layerCount: number
  /** Positions that the generation may need: stages with a smaller context are passed over. */
  readonly positions?: number
  /** Peers that must not be used (they just failed). */
  readonly exclude?: ReadonlySet<string>
}

export type RouteStep = {
  readonly peer: string
  readonly addresses: readonly string[]
  readonly isSelf: boolean
  readonly layers: LayerRange
  readonly profile: string
  /** Expected time of a one-row step through these layers when nobody else uses the stage, in milliseconds. */
  readonly computeMs: number
  /** Round trip to the peer; the assumed one where none was measured; 0 for this node. */
  readonly rttMs: number
}

export type Route = {
  readonly hops: readonly RouteStep[]
  /** Positions that every stage of the route can hold. */
  readonly contextMax: number
  /** Expected cost of a step, with waiting for others, by which routes were compared. */
  readonly costMs: number
}
