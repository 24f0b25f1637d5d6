/** Bounds of Kademlia. Each is listed in `docs/reference/limits.md`. */

const HOUR_MS = 3_600_000

/** Peers in one bucket, and in one answer: k of Kademlia and of libp2p. A setting: this is what it is when none is given. */
export const BUCKET_PEERS_MAX = 20

/** Requests of one path of a look-up that are under way at once: alpha. A setting, as above. */
export const LOOKUP_PARALLEL_MAX = 3

/** Paths of one look-up that share no peer: d of S/Kademlia. A setting, as above. */
export const DISJOINT_PATHS = 4

/** Peers closest to a key that hold its value. A setting, as above. */
export const REPLICAS = 12

/** Peers next to those that hold it too, so that the closest may fall away together: siblings. A setting, as above. */
export const SIBLINGS = 8

/** Peers of one group of addresses (IPv4 /24, IPv6 /48, one relay) in the routing table. A setting, as above. */
export const TABLE_GROUP_PEERS_MAX = 3

/** Peers of one such group in one bucket. A setting, as above. */
export const BUCKET_GROUP_PEERS_MAX = 2

/** Peers in the routing table; beyond, only those among the k closest to the node itself are added. A setting, as above. */
export const TABLE_PEERS_MAX = 200

/** Bits of a key by which the routing table is split into buckets. A setting, as above. */
export const TABLE_PREFIX_BITS = 6

/** Peers that are checked for the routing table at once. */
export const NEWCOMERS_CHECKED_MAX = 8

/** How long a peer that others name is not tried again for the routing table. */
export const NEWCOMER_RETRY_MS = 60_000

/** Such peers that are remembered. */
export const NEWCOMERS_TRIED_MAX = 2_048

/** Requests in a row that a peer of the routing table leaves without an answer before it is dropped. */
export const PEER_FAILURES_MAX = 2

/** Time between two rounds in which peers of the routing table are pinged, and what has expired is forgotten. */
export const UPKEEP_MS = 60_000

/** Peers that are pinged in such a round, those not heard of for longest. */
export const UPKEEP_PINGS_MAX = 8

/** Peers that wait to be checked; more are forgotten. */
export const NEWCOMERS_WAITING_MAX = 128

/** Time of one put, get, search or look-up. A setting: this is what it is when none is given. A fifth of it bounds one request. */
export const OPERATION_MS = 10_000

/** Operations at once: more are refused. */
export const OPERATIONS_MAX = 64

/** Requests of one look-up, of all its paths together. */
export const LOOKUP_REQUESTS_MAX = 200

/** Requests at once to those that are left at the end of a walk. */
export const WALK_PARALLEL_MAX = 8

/** Share of an operation's time that the walk may take where something is sent afterwards, in percent. */
export const WALK_PERCENT_MAX = 60

/** Values of one key that are compared before a get ends early; two paths at least must have brought them. */
export const VALUES_COMPARED = 5

/** Peers that held an older value and are sent the latest after a get. */
export const CORRECTIONS_MAX = 8

/** Requests that a put or a hand-over has under way at once. */
export const STORES_PARALLEL_MAX = 4

/** Providers that one search yields. */
export const PROVIDERS_FOUND_MAX = 256

/** Providers that one answer may name. */
export const PROVIDERS_PER_ANSWER_MAX = 32

/** Bytes of a record's value. */
export const RECORD_VALUE_BYTES_MAX = 1_024

/** Bytes of a whole record, signature included. */
export const RECORD_BYTES_MAX = 1_536

/** Characters of a record's kind. */
export const RECORD_KIND_CHARS_MAX = 32

/** How long a record may still be good for. Republish comes much sooner. */
export const RECORD_LIFE_MS_MAX = 48 * HOUR_MS

/** Records of others that are held. Those farthest from this node go first. */
export const RECORDS_HELD_MAX = 4_096

/** Sequence numbers of records that are remembered. Those seen longest ago go first. */
export const SEQUENCES_KEPT_MAX = 16_384

/** Keys with providers that are held. Those farthest from this node go first. */
export const PROVIDED_KEYS_HELD_MAX = 4_096

/** Providers of one key that are held. Those heard of longest ago go first. */
export const PROVIDERS_PER_KEY_MAX = 32

/** Keys that one peer may be a provider of, here. */
export const PROVIDED_KEYS_PER_PEER_MAX = 256

/** How long a provider is told to others. A setting, as above. */
export const PROVIDER_LIFE_MS = 2 * HOUR_MS

/** Time between two announcements of what is our own: values and keys that we provide. A setting, as above. */
export const REPUBLISH_MS = HOUR_MS / 2

/** First announcement of what was restored after a start. */
export const RESTORED_DELAY_MS = 5_000

/** How long what we provide is remembered over a restart. */
export const OWN_PROVIDED_LIFE_MS = 7 * 24 * HOUR_MS

/** Values of our own, and as many keys that we provide. */
export const OWN_ENTRIES_MAX = 1_024

/** Records that are handed on because one peer came or went. */
export const HANDED_ON_MAX = 256

/** Records that wait to be sent to a peer; those beyond wait for the next republish. */
export const SENDS_WAITING_MAX = 1_024

/** Holders of a value that hand it on, the closest to its key: more would say the same. */
export const HANDERS = 3

/** Peers whose addresses are kept. Those in the routing table go last. */
export const BOOK_PEERS_MAX = 2_048

/** Addresses of one peer that it has told itself or where it was reached, and as many that others say. */
export const BOOK_ADDRESSES_MAX = 8

/** Characters of one address. */
export const BOOK_ADDRESS_CHARS_MAX = 300

/** How long addresses are kept over a restart: as long as a node may be away and still find the others. */
export const BOOK_LIFE_MS = 7 * 24 * HOUR_MS

/** Addresses kept over a restart: those of peers in the routing table. */
export const BOOK_STORED_MAX = 256

/** Bytes that a peer may send on one stream to ask. A record and its key fit twice. */
export const REQUEST_BYTES_MAX = 4 * 1024

/** Bytes that a peer may send on one stream to answer: k peers with all their addresses. */
export const ANSWER_BYTES_MAX = 64 * 1024

/** Streams of this protocol that one connection may have open, in either direction. */
export const STREAMS_PER_CONNECTION_MAX = 16

/** What one peer may ask for at once, in tokens: one for a request, one for each 512 bytes of it. A setting, as above. */
export const PEER_TOKENS_MAX = 200

/** Tokens of one peer that come back a second. A setting, as above. */
export const PEER_TOKENS_PER_SECOND = 50

/** Bytes of requests for one token. */
export const REQUEST_BYTES_PER_TOKEN = 512

/** Peers whose rate is watched one by one; those beyond share one allowance. */
export const RATE_LIMITED_PEERS_MAX = 1_024

/** Nodes that one call of `bootstrap` takes. */
export const BOOTSTRAP_NODES_MAX = 32

/** Nodes that are asked at once in a bootstrap. */
export const BOOTSTRAP_PARALLEL_MAX = 3

/** First wait between two rounds of a bootstrap. Each is twice the one before, and half of it is left to chance. */
export const BOOTSTRAP_WAIT_MS = 1_000

/** Longest such wait. */
export const BOOTSTRAP_WAIT_MS_MAX = 60_000

/** Rounds of a bootstrap. A setting: this is what it is when none is given. */
export const BOOTSTRAP_ROUNDS_MAX = 8

/** Wait before a node looks for its own neighbours. A setting, as above. */
export const SELF_LOOKUP_DELAY_MS = 1_000

/** Time between two look-ups for the node's own neighbours, and for a key by chance. */
export const SELF_LOOKUP_PERIOD_MS = 300_000

/** Leading zero bits that an id puzzle's hash must have: about a second of one core. A setting, as above. */
export const PUZZLE_BITS = 19

/** Leading zero bits that can be asked for. */
export const PUZZLE_BITS_MAX = 40

/** Bytes of an id puzzle's solution. */
export const PUZZLE_SOLUTION_BYTES = 8

/** Hashes between two pauses of the search, so that the node goes on with its work. */
export const PUZZLE_HASHES_PER_TURN = 4_096

/** Tries of a search as a multiple of what is expected: beyond it, chance is against us or the bits are wrong. */
export const PUZZLE_TRIES_FACTOR_MAX = 32

/** Entries of a store without a disk. Those put longest ago go first. */
export const MEMORY_ENTRIES_MAX = 40_000
