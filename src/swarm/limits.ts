/** Bounds of the swarm: what is kept, what is under way at once, and how long anything is waited for. */

/** Models that are shared or pulled at once. */
export const MODELS_MAX = 256

/** Pulls that are under way at once. */
export const PULLS_MAX = 64

/** Sessions about one model. */
export const PEERS_PER_MODEL_MAX = 48

/** Sessions about all models. */
export const PEERS_MAX = 256

/** Sessions about different models that one party may have open with this node. */
export const SESSIONS_PER_PARTY_MAX = 32

/** Peers that are known to have a model, connected or not. */
export const CANDIDATES_MAX = 512

/** Peers that are dialled at once for one model. */
export const DIALS_MAX = 8

/** Time until a peer is reached and has answered the greeting. */
export const DIAL_MS_MAX = 20_000

/** First wait before a lost or refusing peer is tried again; it doubles. */
export const REDIAL_MS_MIN = 1_000

/** Longest wait before a peer is tried again. */
export const REDIAL_MS_MAX = 60_000

/** Failures in a row after which a peer is forgotten. */
export const REDIALS_MAX = 8

/** Time between two searches for peers, while a pull needs them. */
export const FIND_INTERVAL_MS = 30_000

/** Time that one search may take. */
export const FIND_MS_MAX = 20_000

/** How often a model is announced in the DHT, where it is forgotten after half an hour (BEP 5). */
export const ANNOUNCE_INTERVAL_MS = 15 * 60_000

/** How soon a model is announced again that nobody has taken note of. */
export const ANNOUNCE_RETRY_MS = 60_000

/** Time that one announcement may take. */
export const ANNOUNCE_MS_MAX = 60_000

/** Models that are announced at once. */
export const ANNOUNCES_MAX = 4

/** Time between two rounds of everything that time drives: orders of the state machines, limits of rates, news of pieces. */
export const ROUND_MS = 50

/** Time between two reports of a pull's progress. */
export const PROGRESS_INTERVAL_MS = 500

/** How long a pull does without anybody to ask before it fails. A setting. */
export const NO_PEERS_MS = 30_000

/** How long a pull waits for pieces that nobody has who is connected, before it fails. A setting. */
export const PIECES_MISSING_MS = 60_000

/** Bytes that this node has asked for, or has and has not stored: what transfers take of the memory while they come in. */
export const INCOMING_BYTES_MAX = 48 * 1024 * 1024

/** Bytes that have been read to be sent, and are not sent yet. */
export const OUTGOING_BYTES_MAX = 32 * 1024 * 1024

/** The least that a limit of a rate lets through at once: a request of a whole piece. */
export const RATE_BURST_BYTES_MIN = 1024 * 1024

/** For so many seconds a rate that was not used is made up for. */
export const RATE_BURST_S = 0.25

/** Hashes of pieces in one request: BEP 52 advises no more. */
export const HASHES_PER_REQUEST_MAX = 512

/** Requests for hashes of pieces that are under way at once. */
export const HASH_REQUESTS_MAX = 16

/** Requests for hashes that one peer is asked at once. */
export const HASH_REQUESTS_PER_PEER_MAX = 4

/** How long an answer to a request for hashes is waited for at first, before another is asked; it doubles. */
export const HASH_REQUEST_MS_MIN = 1_500

/** How long an answer to a request for hashes is waited for at most. */
export const HASH_REQUEST_MS_MAX = 10_000

/** Requests for hashes of one peer that wait to be answered; who asks for more is cut off. */
export const HASH_ANSWERS_MAX = 256

/** Peers that are asked for the description of a model at once. */
export const DESCRIBERS_MAX = 4

/** How long one peer may take for the description of a model. */
export const DESCRIBE_MS_MAX = 60_000

/** How often a peer is told, while a session runs, that there are new votes on a model. */
export const VOTES_INTERVAL_MS = 10_000

/** Votes that are taken from one peer about one model at once. */
export const VOTES_PER_PEER_MAX = 1024

/** Parties that are remembered for having sent what is not the model. */
export const BANNED_MAX = 4096

/** Ranges of one origin that are fetched at once, whatever it says. */
export const ORIGIN_PARALLEL_MAX = 16

/** Pieces that are asked of an origin as one range. */
export const ORIGIN_PIECES_PER_FETCH_MAX = 8

/** Fetches in a row that fail before an origin is dropped. */
export const ORIGIN_FAILURES_MAX = 3

/** How long an origin that failed is left alone; it doubles. */
export const ORIGIN_RETRY_MS_MIN = 500

/** Origins of one pull. */
export const ORIGINS_PER_PULL_MAX = 16

/** Requests that a Koinon peer is asked at once, where it does not say how many it takes. */
export const KOINON_REQUESTS_MAX = 256

/** The same for stock clients: BEP 10 takes 250 for what all of them bear. */
export const STOCK_REQUESTS_MAX = 200

/** Parties of whom it is remembered how much of a model they gave. */
export const GIVERS_REMEMBERED_MAX = 4_096

// Places beside peers (`origins/`).
// Origins: web servers, machines with rsync, folders.

/** Bytes of the file that names sources. */
export const ORIGIN_CONFIG_BYTES_MAX = 256 * 1024

/** Sources in it. */
export const ORIGIN_SOURCES_MAX = 64

/** Models that one source names, and hosts in a list of allowed ones. */
export const ORIGIN_ENTRIES_MAX = 1_024

/** Bytes of a file with a token, or with certificates. */
export const ORIGIN_SECRET_BYTES_MAX = 256 * 1024

/** Characters of a URL. */
export const ORIGIN_URL_CHARS_MAX = 4_096

/** Ranges that are fetched of one web server at once, unless the configuration says otherwise. */
export const ORIGIN_RANGES = 4

/** Ranges that are fetched of one source at once at most. */
export const ORIGIN_RANGES_MAX = 16

/** Waiting for the addresses of a host, in milliseconds. */
export const ORIGIN_RESOLVE_MS_MAX = 10_000

/** How long the addresses of a host are good for new connections, in milliseconds. */
export const ORIGIN_RESOLVED_MS = 60_000

/** Addresses of one host that are tried. */
export const ORIGIN_ADDRESSES_MAX = 8

/** Waiting for a connection, TLS included, in milliseconds. */
export const ORIGIN_CONNECT_MS_MAX = 10_000

/** From the request to the head of the answer, in milliseconds. */
export const ORIGIN_ANSWER_MS_MAX = 30_000

/** Waiting for the next byte of a body, in milliseconds. */
export const ORIGIN_STALL_MS_MAX = 20_000

/** Redirects that are followed for one request. */
export const ORIGIN_REDIRECTS_MAX = 5

/** How long the end of a chain of redirects is asked at once, in milliseconds. */
export const ORIGIN_REDIRECT_KEPT_MS = 60_000

/** Bytes of the head of an answer. */
export const ORIGIN_HEAD_BYTES_MAX = 16 * 1024

/** Bytes of a body nobody wants that are read so that the connection can be used again. */
export const ORIGIN_DISCARD_BYTES_MAX = 16 * 1024

/** Bytes at the start of a file that are read and dropped where a web server gives no ranges. */
export const ORIGIN_SKIP_BYTES_MAX = 4 * 1024 * 1024

/** Failures in a row, with next to nothing received in between, after which a fetch is given up. */
export const ORIGIN_TRIES_MAX = 6

/** Bytes after which a failure is the first one again. */
export const ORIGIN_PROGRESS_BYTES = 256 * 1024

/** Wait after the first failure, in milliseconds; each next one is twice as long, and all are jittered down to half. */
export const ORIGIN_BACKOFF_MS = 500

/** The longest of these waits, in milliseconds. */
export const ORIGIN_BACKOFF_MS_MAX = 15_000

/** The longest wait that a server may ask for (Retry-After), in milliseconds; beyond it the fetch fails. */
export const ORIGIN_RETRY_AFTER_MS_MAX = 60_000

/** Bytes that rsync may be ahead of what was asked for; then it is ended until more is wanted. */
export const RSYNC_AHEAD_BYTES = 64 * 1024 * 1024

/** And no more than so many times what is asked for: who asks for one byte wants to know whether the file is there. */
export const RSYNC_AHEAD_FACTOR = 64

/** Bytes ahead of rsync that are waited for; a range further on gets a connection of its own. */
export const RSYNC_JUMP_BYTES = 8 * 1024 * 1024

/** Bytes of a staging file that lie on the disk before it is emptied, those ahead aside. */
export const RSYNC_STAGED_BYTES_MAX = 256 * 1024 * 1024

/** Bytes that are read from a file at once. */
export const ORIGIN_READ_BYTES = 256 * 1024

/** How often a staging file is looked at while a range of it is waited for, in milliseconds. */
export const RSYNC_LOOK_MS = 20

/** Seconds for a connection by ssh. */
export const RSYNC_CONNECT_S_MAX = 10

/** Seconds without a byte after which rsync gives up. */
export const RSYNC_STALL_S_MAX = 20

/** Characters of what rsync and ssh complain about that are kept. */
export const RSYNC_COMPLAINT_CHARS_MAX = 8_192

/** Files of a folder whose sizes are looked at for a model whose name nothing bears. */
export const FOLDER_FILES_MAX = 4_096

/** Waiting for one source to say whether it has a model by one of its names, in milliseconds. */
export const ORIGIN_PROBE_MS_MAX = 20_000

/** URLs that others suggest for one model and that are looked at. */
export const ORIGINS_SUGGESTED_MAX = 8

/** The lowest limit on bytes a second that can be set for a source. */
export const ORIGIN_RATE_BYTES_MIN = 1_024
