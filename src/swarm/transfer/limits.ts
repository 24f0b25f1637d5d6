/** Hard bounds of the two state machines. What may be chosen is in `settings.ts`. */

/** Channels of one download, and of one node's uploads. */
export const TRANSFER_CHANNELS_MAX = 512

/** Bytes of unasked data that one party may send, over all its channels, before it is banned: it may be late by accident. */
export const UNASKED_BYTES_MAX = 262_144

/** Requests without an answer that are remembered for a channel after they were given up: an answer to one is no fault. */
export const GIVEN_UP_REQUESTS_MAX = 1_024

/** Parties that are remembered as banned by one download; the oldest is forgotten. */
export const BANNED_PARTIES_MAX = 4_096

/** Requests that one channel may have waiting here; more are rejected. */
export const UPLOAD_QUEUE_REQUESTS_MAX = 512

/** Requests of one channel that are rejected in `UPLOAD_FLOOD_WINDOW_MS` before the channel is closed. */
export const UPLOAD_FLOOD_REJECTS_MAX = 2_048

/** How long rejected requests count as part of a flood. */
export const UPLOAD_FLOOD_WINDOW_MS = 10_000

/** Pieces of which it is remembered how often they were given; then all is forgotten. */
export const UPLOAD_PIECES_REMEMBERED_MAX = 65_536
