/** Bounds of the Mainline DHT node. Each is listed in `docs/reference/limits.md`. */

/** Bytes of the longest datagram that is decoded, and of the longest that is sent. */
export const PACKET_BYTES_MAX = 1_500

/** Bytes of a transaction id that is answered. */
export const TRANSACTION_BYTES_MAX = 32

/** Bytes of a token that is kept, to be given back. */
export const TOKEN_BYTES_MAX = 128

/** Bytes of the longest stored value in its bencoded form (BEP 44: less than 1000). */
export const ITEM_VALUE_BYTES_MAX = 999

/** Bytes of the longest salt of a stored value (BEP 44). */
export const ITEM_SALT_BYTES_MAX = 64

/** Contacts in one bucket of the routing table, and in one answer: k of BEP 5. */
export const BUCKET_CONTACTS_MAX = 8

/** Contacts of one prefix (IPv4 /24, IPv6 /48) in one bucket. A setting: this is what it is when none is given. */
export const BUCKET_PREFIX_CONTACTS_MAX = 2

/** Contacts of one prefix in the routing table, and among the candidates of one lookup. A setting, as above. */
export const TABLE_PREFIX_CONTACTS_MAX = 3

/** How long a contact is good after it was heard of last, and a bucket unchanged before it is refreshed (BEP 5). */
export const CONTACT_GOOD_MS = 900_000

/** Queries in a row without an answer that make a contact bad. */
export const CONTACT_FAILURES_MAX = 2

/** Waiting for the answer to one query. */
export const QUERY_MS_MAX = 2_000

/** Waiting for an answer before a lookup asks somebody else beside; the answer is still taken. */
export const QUERY_SLOW_MS = 500

/** Queries of ours that wait for their answers, in the network of one family. */
export const QUERIES_IN_FLIGHT_MAX = 256

/** Queries of one lookup that are under way at once: alpha. A setting: this is what it is when none is given. */
export const LOOKUP_PARALLEL_MAX = 3

/** Time of one lookup, whatever comes back. */
export const LOOKUP_MS_MAX = 30_000

/** Queries of one lookup. */
export const LOOKUP_QUERIES_MAX = 200

/** Contacts that one lookup keeps. */
export const LOOKUP_CANDIDATES_MAX = 128

/** Lookups at once: more are refused. */
export const LOOKUPS_MAX = 16

/** Peers that wait until the reader of `getPeers` takes them: more are dropped. */
export const FOUND_PEERS_MAX = 1_024

/** Strangers that wait to be pinged before they may enter the routing table. */
export const CANDIDATES_WAITING_MAX = 256

/** Pings of strangers at once. */
export const CANDIDATE_PINGS_MAX = 8

/** Addresses that one call of `bootstrap` takes, and addresses that are used of one name. */
export const BOOTSTRAP_ADDRESSES_MAX = 32

/** Waiting for the addresses of one name. */
export const RESOLVE_MS_MAX = 5_000

/** How long a secret makes tokens. Those of the secret before it hold as long again (BEP 5). */
export const TOKEN_SECRET_MS = 300_000

/** How long an announced peer is told to others. */
export const STORED_PEER_MS = 1_800_000

/** Announced peers that are stored, of all info hashes together. */
export const STORED_PEERS_MAX = 20_000

/** Announced peers that are stored of one info hash. */
export const STORED_PEERS_PER_HASH_MAX = 500

/** Announced peers that are stored of one IPv4 address or IPv6 /48. */
export const STORED_PEERS_PER_ADDRESS_MAX = 200

/** Peers in one answer: IPv4. */
export const ANSWERED_PEERS_MAX = 50

/** Peers in one answer: IPv6, whose addresses are longer. */
export const ANSWERED_PEERS6_MAX = 30

/** Contacts in an answer that holds a stored value too, so that it fits one datagram. */
export const ANSWERED_CONTACTS_WITH_ITEM_MAX = 4

/** How long a stored value is kept after it was put last (BEP 44). */
export const STORED_ITEM_MS = 7_200_000

/** Stored values, all together. */
export const STORED_ITEMS_MAX = 2_000

/** Stored values that came from one IPv4 address or IPv6 /48. */
export const STORED_ITEMS_PER_ADDRESS_MAX = 40

/** Datagrams of one IPv4 address or IPv6 /48 that are taken at once. A setting: this is what it is when none is given. */
export const ADDRESS_QUERIES_MAX = 40

/** Datagrams of one IPv4 address or IPv6 /48 that are taken a second, for long. A setting, as above. */
export const ADDRESS_QUERIES_PER_SECOND = 8

/** Datagrams of all addresses together that are taken at once. A setting, as above. */
export const TOTAL_QUERIES_MAX = 1_000

/** Datagrams of all addresses together that are taken a second, for long. A setting, as above. */
export const TOTAL_QUERIES_PER_SECOND = 400

/** Addresses whose rate is watched one by one; those beyond share one allowance. */
export const RATE_LIMITED_ADDRESSES_MAX = 4_096

/** Latest votes that say which address of ours others see. */
export const ADDRESS_VOTES_MAX = 24

/** Votes for one address, of different prefixes, before it is believed. More than half of all must agree as well. */
export const ADDRESS_VOTES_MIN = 4

/** How often the tables are swept and stale buckets are looked for. */
export const UPKEEP_MS = 60_000
