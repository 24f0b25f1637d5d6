/** Bounds and assumptions of the planner. Each is listed in `docs/reference/limits.md`. */

/** Layers of one plan: the largest open models have about 130; the search is quadratic in this number. */
export const PLAN_LAYERS_MAX = 1_024

/** Nodes of one plan. */
export const PLAN_NODES_MAX = 256

/** Partial routes kept per cut: exact while fewer are worth keeping, which holds for swarms of dozens of peers. */
export const ROUTE_LABELS_MAX = 16

/** Round trip assumed for a peer that has not been measured yet, in milliseconds. */
export const ROUTE_RTT_UNKNOWN_MS = 20

/** What handing rows from one node to the next costs beside the network's own latency, in milliseconds. */
export const ROUTE_HOP_MS = 0.3

/** Added for a stage without a free slot, so that it is used only where nothing else serves its layers. */
export const ROUTE_BUSY_MS = 1_000_000

/** Added for a peer that has not answered its last ping: one that answers is taken where there is one. */
export const ROUTE_SILENT_MS = 10_000
