/** Bounds of connections with stock BitTorrent clients. Each is listed in `docs/reference/limits.md`. */

/** Connections with stock clients in all, those that shake hands included. */
export const CONNECTIONS_MAX = 128

/** Of them from or to one host (IPv6: one /64). */
export const CONNECTIONS_A_HOST_MAX = 4

/** Handshakes under way in all, both ways. */
export const HANDSHAKES_MAX = 32

/** Making a TCP connection, in milliseconds. */
export const DIAL_TIMEOUT_MS = 10_000

/** Last bytes of a connection, in milliseconds. */
export const CLOSE_TIMEOUT_MS = 2_000

/** Bytes that are read ahead of a session that is at work or paused. */
export const READ_AHEAD_BYTES = 512 * 1024

/** The same in pieces, however small: a dribbling peer sends one for each byte. */
export const READ_AHEAD_PIECES = 1_024
