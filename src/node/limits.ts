/** Bounds of a node's own waits, queues and counts. Each is listed in `docs/reference/limits.md`. */

/** Completions that run at once here: as many as one entry may have on another node's stage. */
export const COMPLETIONS_RUNNING_MAX = 32

/** Completions that wait for their turn beyond those. */
export const COMPLETIONS_WAITING_MAX = 256

/** Longest wait for that turn, and then for a free slot on every stage, in milliseconds. */
export const COMPLETION_WAIT_MS_MAX = 120_000

/** Routes that one completion tries before its first token. */
export const ROUTES_TRIED_MAX = 3

/** Positions of one generation where the configuration does not say: more costs KV memory that few prompts use. */
export const CONTEXT_DEFAULT_MAX = 4_096

/** How often a node looks whether its offer has changed, and so the most often that it sends one, in milliseconds. */
export const OFFER_PERIOD_MS = 250

/** Share of the free memory that a node takes where the configuration does not say. */
export const MEMORY_SHARE = 0.8

/** Longest wait for the first attempts to reach the configured peers, in milliseconds. */
export const FIRST_DIAL_MS_MAX = 10_000

/** No new peer and no new offer for this long: whoever is in the swarm has been heard of, in milliseconds. */
export const SWARM_QUIET_MS = 500

/** Longest wait for that quiet, in milliseconds. */
export const SWARM_SETTLE_MS_MAX = 5_000

/** Longest wait for the nodes that are to share the layers, in milliseconds: time to start them by hand. */
export const PLACEMENT_WAIT_MS_MAX = 30 * 60_000

/** Longest wait for each part of a node to stop, in milliseconds. */
export const STOP_MS_MAX = 10_000
