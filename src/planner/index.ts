/**
 * Layer 2, pure: which layers go where, which chain of stages a generation takes, and how fast that should be. The same
 * facts give the same answer on every node. Runs in a browser.
 */
export { describePlanFault, isPlanFault, type PlanFault } from './errors.ts'
export { type EstimateStage, estimateTokensPerSecond } from './estimate.ts'
export { findRoute } from './find-route.ts'
export * from './limits.ts'
export { placeLayers, placeRange } from './place-layers.ts'
export { placeMissing, uncoveredLayers } from './place-missing.ts'
export type {
  PlacedStage,
  Placement,
  PlanModel,
  PlanNode,
  Route,
  RouteOffer,
  ServedRange,
} from './types.ts'
