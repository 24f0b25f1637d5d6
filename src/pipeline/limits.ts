/** Times and counts that bound the pipeline. Each is listed in `docs/reference/limits.md`. */

/** Longest wait for a stream to a peer, dialling included. */
export const LINK_OPEN_MS_MAX = 10_000

/** A stream on which the other side takes nothing for so long is given up. */
export const LINK_STALL_MS_MAX = 60_000

/** A stream that no generation needs is closed after this time. */
export const LINK_IDLE_MS_MAX = 5 * 60_000

/** Messages that wait for one stream: far more than live generations can make. Beyond it the stream is given up. */
export const LINK_MESSAGES_MAX = 1024

/** Streams to peers at once, three for each peer. */
export const LINKS_MAX = 768

/** Streams that one peer may have open towards us: three, and as many again while lost ones are being noticed. */
export const INCOMING_STREAMS_PER_PEER_MAX = 12

/** Streams of all peers together that are open towards us. */
export const INCOMING_STREAMS_MAX = 1024

/** A new stream must say what it is for within this time. */
export const STREAM_START_MS_MAX = 10_000

/** Control messages that one stream may carry in one second. */
export const CONTROL_MESSAGES_PER_SECOND_MAX = 500

/** Steps on one stream that belong to no generation here; beyond it the stream is cut. */
export const STRAY_STEPS_MAX = 64

/** How many ended generations are remembered, to tell late messages from unasked ones. */
export const ENDED_GENERATIONS_MAX = 1024

/** How long the entry waits for stages to say that a generation's rows are gone. */
export const CLOSE_MS_MAX = 30_000

/** How long `stop` lets streams say their last words. */
export const STOP_MS_MAX = 1_000

/** Stages of one route. */
export const ROUTE_HOPS_MAX = 256

/** Generations that may have entered here at once; each stage's slots are the tighter bound. */
export const ENTRY_GENERATIONS_MAX = 1024

/** Shortest pause before a busy route is asked again. */
export const BUSY_RETRY_MS_MIN = 20

/** Longest pause before a busy route is asked again. */
export const BUSY_RETRY_MS_MAX = 1_000

/** Short steps that one stage computes in a row while a long chunk waits: prefill is slowed, never starved. */
export const SHORT_STEPS_IN_ROW_MAX = 16
