/** Bounds of conversations about pieces. Each is listed in `docs/reference/limits.md`. */

/** Pieces of one torrent: 4 TiB in pieces of 1 MiB. Bounds bitfields whose torrent is not known yet. */
export const WIRE_PIECES_MAX = 4 * 1024 * 1024

/** Bytes that a stock client may ask for at once, and is asked for: what the field has agreed on. */
export const STOCK_REQUEST_BYTES_MAX = 16 * 1024

/** Bytes that a Koinon peer may ask for at once: a piece. */
export const KOINON_REQUEST_BYTES_MAX = 1024 * 1024

/** Requests that the other side may leave unanswered, as this side tells it (`reqq`). */
export const REQUESTS_TOLD_MAX = 512

/** Requests that the other side says it takes, at most believed. */
export const REQUESTS_BELIEVED_MAX = 4_096

/** Requests that were cancelled, or lost with a choke, whose blocks may still come. More are forgotten, the oldest first. */
export const WITHDRAWN_REQUESTS_MAX = 4_096

/** Hashes of one BEP 52 request, without uncles. libtorrent asks for 512, and takes requests for 8192. */
export const HASHES_MAX = 8_192

/** Layers of one tree of hashes, far beyond any file. */
export const HASH_LAYERS_MAX = 40

/** Requests for hashes and for chunks that may be open. Then the oldest is forgotten, and its answer is one that nobody asked for. */
export const ASKED_MAX = 1_024

/** Bytes of every chunk of a document but the last (BEP 9). */
export const CHUNK_BYTES = 16 * 1024

/** Bytes of an info dictionary that is fetched. Those of models have 300; stock torrents of many files reach some MiB. */
export const METADATA_BYTES_MAX = 1024 * 1024

/** Bytes of a canonical core that is fetched: 100 bytes for each tensor, of which large models have some thousands. */
export const CORE_BYTES_MAX = 8 * 1024 * 1024

/** Bytes of a signed manifest that is fetched. */
export const MANIFEST_BYTES_MAX = 4 * 1024 * 1024

/** Signed votes on one model that a peer may tell. */
export const VOTES_TOLD_MAX = 4_096

/** Votes in one message. */
export const VOTES_A_MESSAGE_MAX = 64

/** Bytes of one signed vote: two signatures, one of them of 3309 bytes. */
export const VOTE_BYTES_MAX = 8 * 1024

/** Bytes of the votes in one message. */
export const VOTES_BYTES_MAX = 64 * 1024

/** Bytes of one extended message (BEP 10), without its head: a chunk or votes, and the dictionary before them. */
export const EXTENDED_BYTES_MAX = 72 * 1024

/** Bytes of a message of a kind that is not known: it is skipped, not kept. */
export const UNKNOWN_BYTES_MAX = 64 * 1024

/** UTF-16 units of the other side's name for its program that are kept. */
export const AGENT_LENGTH_MAX = 64

/** Bytes of the greeting of `/koinon/pieces/1`, and of its answer. */
export const GREETING_BYTES_MAX = 1_024

/** Versions in a greeting. */
export const GREETING_VERSIONS_MAX = 16

/** Time for the greeting, or for the handshake with a stock client, each way, in milliseconds. */
export const HANDSHAKE_TIMEOUT_MS = 10_000

/** A session on which nothing came for so long is over, in milliseconds (BEP 3). */
export const IDLE_TIMEOUT_MS = 120_000

/** A session on which nothing was sent for so long sends a keep-alive, in milliseconds. */
export const KEEP_ALIVE_MS = 60_000

/** Time for the last words to go out, in milliseconds. */
export const HANG_UP_MS = 2_000

/** Bytes of what is sent that are gathered into one write. */
export const WRITE_BYTES = 256 * 1024

/** Bytes that wait here while the pipe is full before the owner is asked to send no more: one large piece, so that there is always a next one. */
export const SEND_AHEAD_BYTES = 1024 * 1024

/** Bytes that wait for a pipe that takes no more. A session with more of them is over: the other side does not read. */
export const SEND_QUEUE_BYTES_MAX = 8 * 1024 * 1024

/** Chunks of one document that are asked for before the first has come. */
export const CHUNKS_AT_ONCE_MAX = 8

/** Requests of a stock client that reach behind the end of a file, remembered until they are answered. */
export const PADDED_REQUESTS_MAX = 1_024
