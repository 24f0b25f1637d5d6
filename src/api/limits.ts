/** Bounds of the HTTP surface. Each is listed in `docs/reference/limits.md`. */

/** Bytes of one HTTP request body, where the settings say nothing else: a long chat in a large context fits. */
export const BODY_BYTES_MAX = 1024 * 1024

/** Bytes of one request body on the local socket: prompts may come as token ids there, which are longer. */
export const LOCAL_BODY_BYTES_MAX = 16 * 1024 * 1024

/** Bytes of a request's header lines. */
export const HEADER_BYTES_MAX = 16 * 1024

/** Connections to one surface at once; further ones are closed. */
export const CONNECTIONS_MAX = 256

/** Time to send the header lines of a request. */
export const HEADERS_TIMEOUT_MS = 10_000

/** Time to send a whole request. */
export const REQUEST_TIMEOUT_MS = 60_000

/** How long a connection may wait for its next request. */
export const KEEP_ALIVE_TIMEOUT_MS = 30_000

/** How often the HTTP server looks for connections that are past their time. */
export const TIMEOUT_CHECK_MS = 5_000

/** How long a reader may leave a full stream unread before its generation is given up. */
export const READER_STALL_MS = 30_000

/** How long a surface that stops waits for its answers to end. */
export const STOP_GRACE_MS = 5_000

/** Seconds after which a client that was told "busy" may try again (`Retry-After`). */
export const BUSY_RETRY_AFTER_S = 1

/** Longest that an answer of a peer may be waited for, in milliseconds: a day. */
export const ASK_MS_MAX = 24 * 60 * 60 * 1000

/** Bytes of an answer's attachment in one line to the command line, before base64. */
export const ASK_PIECE_BYTES_MAX = 192 * 1024

/** Longest that a search for a service may take, in milliseconds. */
export const FIND_MS_MAX = 5 * 60_000

/** Time between two lines about how far a transfer of weights is, in milliseconds; a new phase is told at once. */
export const TRANSFER_LINE_MS = 100

/** Characters of what a model is asked for by: a magnet link with its trackers fits. */
export const MODEL_CHARS_MAX = 4_096

/** Nodes and BitTorrent clients that a pull is told to ask. */
export const PULL_PEERS_MAX = 64

/** Further sources that a pull is told to ask. */
export const PULL_SOURCES_MAX = 16

/** Characters of a .torrent file in base64: 11 MiB of it, the hashes of 360 GiB of weights. */
export const TORRENT_BASE64_CHARS_MAX = 15 * 1024 * 1024
