/** Bounds and defaults of discovery. Each is listed in `docs/reference/limits.md`. */

const HOUR_MS = 60 * 60_000

// Peer metadata (BEP 44).

/** Bytes of peer metadata as a bencoded value (BEP 44: less than 1000). */
export const METADATA_BYTES_MAX = 999

/** Addresses in peer metadata beside the public and the private place. */
export const METADATA_ADDRESSES_MAX = 8

/** Characters of an address in peer metadata. */
export const METADATA_ADDRESS_CHARS_MAX = 200

/** Protocols in peer metadata, and capabilities. */
export const METADATA_WORDS_MAX = 16

/** Characters of one such word, and of the id of a relay session. */
export const METADATA_WORD_CHARS_MAX = 40

/** Between two publications of the same metadata. A setting: this is what it is when none is given. */
export const REPUBLISH_MS = 1_800_000

/** Metadata that has changed is published at once, but never sooner after the last time than this. */
export const PUBLISH_GAP_MS = 5_000

/** The first wait after a publication that nobody stored; it doubles. */
export const PUBLISH_RETRY_MS_MIN = 30_000

/** The longest such wait. */
export const PUBLISH_RETRY_MS_MAX = 600_000

/** Time of one publication, the look-up before it included. */
export const PUBLISH_MS_MAX = 60_000

/** Peers whose metadata is kept for a while, and peers that are known to have none. */
export const METADATA_CACHE_MAX = 2_000

/** How long metadata that was fetched is used. A setting, as above. */
export const METADATA_FRESH_MS = 300_000

/** How long a peer that has no metadata is not asked about again. A setting, as above. */
export const METADATA_ABSENT_MS = 60_000

/** Queries for metadata at once. */
export const METADATA_QUERIES_MAX = 8

/** Queries for metadata that wait for their turn; more are refused. */
export const METADATA_QUERIES_WAITING_MAX = 512

/** Time of one query for metadata. */
export const METADATA_QUERY_MS_MAX = 10_000

// Known peers and their exchange.

/** Peers that are known, connected or not; those heard of longest ago go first, and of these the ones never met. */
export const KNOWN_PEERS_MAX = 2_000

/** Known peers that one peer has told of and that were never met; more of its are not taken. */
export const TOLD_BY_ONE_MAX = 500

/** How long a peer that was met is remembered after anybody has last seen it. A setting, as above. */
export const MET_PEER_MS_MAX = 7 * 24 * HOUR_MS

/** How long a peer that was only told of is remembered after anybody has last seen it. A setting, as above. */
export const TOLD_PEER_MS_MAX = 24 * HOUR_MS

/** Bytes of the identity that opens an exchange, the filter of known peers included. */
export const EXCHANGE_HELLO_BYTES_MAX = 5 * 1024

/** Bytes of the peers of an exchange. */
export const EXCHANGE_PEERS_BYTES_MAX = 5 * 1024

/** Known peers in one exchange. A setting may make it fewer. */
export const EXCHANGE_PEERS_MAX = 50

/** Time of one exchange. */
export const EXCHANGE_MS_MAX = 10_000

/** Exchanges that a peer may begin at once; more are a flood. */
export const EXCHANGE_BURST_MAX = 8

/** Seconds until a peer may begin one exchange more. */
export const EXCHANGE_REFILL_S = 10

/** Exchanges that others have begun and that are under way. */
export const EXCHANGES_SERVED_MAX = 64

/** Bytes of the filter of known peers. */
export const FILTER_BYTES_MAX = 2_048

/** Bits of the filter for each known peer, while they fit: one in a hundred is taken for known and is not. */
export const FILTER_BITS_PER_PEER = 10

/** Bytes of a signed peer record. */
export const RECORD_BYTES_MAX = 3 * 1024

/** Characters of all addresses in our own record: with them it stays below what a record may have. */
export const OWN_RECORD_ADDRESSES_CHARS_MAX = 2_000

/** How long our own record is good for; a new one is made four times as often. */
export const OWN_RECORD_LIFE_MS = 24 * HOUR_MS

/** Characters of the topic that nodes of one network share. */
export const TOPIC_CHARS_MAX = 64

// Recursive discovery.

/** Between two rounds of discovery. A setting: this is what it is when none is given. */
export const DISCOVERY_INTERVAL_MS = 30_000

/** Exchanges with connected peers that one round begins. A setting, as above. */
export const ROUND_EXCHANGES_MAX = 3

/** Connected peers that are enough: then nobody is dialled for the sake of discovery. A setting, as above. */
export const PEERS_WANTED = 24

/** Connected peers from which on the host is nearly full. A setting, as above: eight below what the host takes. */
export const PEERS_CROWDED = 56

/** Steps from a peer that we met on our own account to one that is dialled because of it. A setting, as above. */
export const DISCOVERY_DEPTH_MAX = 6

/** Dials of discovery at once. A setting, as above. */
export const DIALS_MAX = 4

/** Dials of discovery in one round. A setting, as above. */
export const ROUND_DIALS_MAX = 32

/** Dials in one round to peers that one peer has told of. A setting, as above. */
export const SOURCE_DIALS_MAX = 8

/** Peers that wait to be dialled. */
export const DIALS_WAITING_MAX = 256

/** Time of one dial of discovery. */
export const DIAL_MS_MAX = 20_000

/** How long a peer that could not be reached is left alone at first; it doubles with every failure. */
export const DIAL_RETRY_MS_MIN = 60_000

/** The longest such time. */
export const DIAL_RETRY_MS_MAX = HOUR_MS

/** Peers whose failed dials are remembered. */
export const DIALS_FAILED_MAX = 2_000

/** Addresses that are tried of one peer. */
export const DIAL_ADDRESSES_MAX = 8

/** Peers that one look-up of the topic may add. */
export const TOPIC_PEERS_MAX = 16

/** Between two announcements of a topic in a DHT (Mainline forgets after half an hour). */
export const TOPIC_ANNOUNCE_MS = 900_000

/** Time of one announcement or look-up of a topic. */
export const TOPIC_MS_MAX = 30_000

// Announcements of stages and services.

/** Services in one peer's announcement. */
export const SERVICES_MAX = 32

/** Characters of the name of a service. */
export const SERVICE_NAME_CHARS_MAX = 64

/** Characters of the name of a model. */
export const MODEL_NAME_CHARS_MAX = 200

/** Bytes of one announcement, signature included. */
export const ANNOUNCEMENT_BYTES_MAX = 6 * 1024

/** Between two announcements of the same services. A setting: this is what it is when none is given. */
export const ANNOUNCE_MS = 60_000

/** How long an announcement is good for. */
export const ANNOUNCEMENT_LIFE_MS = 300_000

/** How long an announcement may be good for: what would be good for longer is refused. */
export const ANNOUNCEMENT_LIFE_MS_MAX = 900_000

/** How far the clock of another node may be ahead of ours. */
export const CLOCK_SKEW_MS_MAX = 60_000

/** Peers whose announcements are kept; those that expire first go first. */
export const ANNOUNCEMENTS_MAX = 1_000

/** Announcements of others that a peer is told when it asks for a service. */
export const ANSWERED_ANNOUNCEMENTS_MAX = 32

/** Messages about services that one peer may send at once; more are a flood. */
export const SERVICE_BURST_MAX = 20

/** Seconds until a peer may send one more. */
export const SERVICE_REFILL_S = 3

/** Streams about services that others have opened and that are being answered. */
export const SERVICE_STREAMS_MAX = 64

/** Time of one such stream. */
export const SERVICE_STREAM_MS_MAX = 10_000

/** Time of one search. A setting: this is what it is when none is given. */
export const FIND_MS_MAX = 15_000

/** Results of one search. */
export const FIND_RESULTS_MAX = 200

/** Peers that one search asks at once. */
export const FIND_PARALLEL_MAX = 8

/** Peers and addresses that one search looks at. */
export const FIND_CANDIDATES_MAX = 128

/** Searches at once. */
export const FINDS_MAX = 8
