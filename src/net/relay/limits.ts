/** Bounds of relaying. Each is listed in `docs/reference/limits.md`. Those for strangers are go-libp2p's. */

/** Reservations that a relay gives at once. */
export const RELAY_RESERVATIONS_MAX = 128

/** Life of a reservation that is not renewed, in milliseconds. */
export const RELAY_RESERVATION_MS = 60 * 60 * 1000

/** Circuits through a relay at once, those that wait for their target's answer included. */
export const RELAY_CIRCUITS_MAX = 256

/** Circuits of one peer at once, at either end. */
export const RELAY_CIRCUITS_PER_PEER_MAX = 16

/** Reservations, and circuits, of strangers from one address (IPv6: from one /64). */
export const RELAY_GROUP_MAX = 8

/** The same where peers have proved the swarm's secret: many may be behind one NAT. */
export const RELAY_TRUSTED_GROUP_MAX = 64

/** Bytes of one circuit of strangers, both directions together: enough to find a direct path. */
export const RELAY_CIRCUIT_BYTES_MAX = 128 * 1024

/** Life of one circuit of strangers, in milliseconds. */
export const RELAY_CIRCUIT_MS_MAX = 2 * 60 * 1000

/** Bytes a second of one circuit of strangers. */
export const RELAY_CIRCUIT_BYTES_PER_SECOND = 128 * 1024

/** Bytes of one circuit of trusted peers, both directions together: generations run over it. */
export const RELAY_TRUSTED_CIRCUIT_BYTES_MAX = 64 * 1024 * 1024 * 1024

/** Life of one circuit of trusted peers, in milliseconds. */
export const RELAY_TRUSTED_CIRCUIT_MS_MAX = 24 * 60 * 60 * 1000

/** Bytes a second of one circuit of trusted peers. */
export const RELAY_TRUSTED_CIRCUIT_BYTES_PER_SECOND = 64 * 1024 * 1024

/** Time between two keepalives of a reservation, in milliseconds. */
export const RELAY_KEEPALIVE_MS = 5_000

/** Keepalives in a row that may fail to come before either side takes the other for gone. */
export const RELAY_KEEPALIVES_MISSED_MAX = 3

/** Keepalives that one stream may bring at once. */
export const RELAY_KEEPALIVE_BURST = 16

/** Keepalives that one stream may bring in a second after that. */
export const RELAY_KEEPALIVES_PER_SECOND = 4

/** Reservations that one peer may ask for at once, renewals included. */
export const RELAY_RESERVE_BURST = 30

/** Time in which a peer regains one of these, in milliseconds. */
export const RELAY_RESERVE_REFILL_MS = 2 * 60 * 1000

/** Circuits that one trusted peer may ask for at once. */
export const RELAY_CONNECT_BURST = 32

/** Circuits that one trusted peer may ask for in a second after that. */
export const RELAY_CONNECTS_PER_SECOND = 1

/** Circuits that one stranger may ask for at once. */
export const RELAY_STRANGER_CONNECT_BURST = 16

/** Time in which a stranger regains one of these, in milliseconds: circuits in a row carry no more than 9 KiB a second. */
export const RELAY_STRANGER_CONNECT_REFILL_MS = 15_000

/** Circuits that one relay may bring to us at once. */
export const RELAY_INCOMING_BURST = 64

/** Circuits that one relay may bring to us in a second after that. */
export const RELAY_INCOMING_PER_SECOND = 4

/** Peers whose requests are counted each for itself; those beyond share one count. */
export const RELAY_COUNTED_PEERS_MAX = 256

/** From a request to its answer, in milliseconds. */
export const RELAY_ANSWER_TIMEOUT_MS = 5_000

/** How long the ends of a circuit that was cut may take to hear why, in milliseconds. */
export const RELAY_LINGER_MS = 1_000

/** Relays at which a node that others cannot dial holds reservations. */
export const RELAYS_HELD = 2

/** Relays that are measured and compared. */
export const RELAY_CANDIDATES_MAX = 8

/** Addresses of one relay that become addresses of ours. */
export const RELAY_ADDRESSES_MAX = 3

/** Time between two looks at the relays that there are, about, in milliseconds. */
export const RELAY_REVIEW_MS = 30_000

/** Keepalives that a look measures a relay with. */
export const RELAY_PROBES = 3

/** Samples of round-trip times and losses that are remembered of one relay. */
export const RELAY_SAMPLES_MAX = 16

/** A relay is left for one whose score is below this share of its own. */
export const RELAY_MOVE_RATIO = 0.5

/** Looks in a row in which another relay must be so much better. */
export const RELAY_MOVE_REVIEWS = 3

/** The first wait after a relay refused or was lost, about, in milliseconds; each next one is twice as long. */
export const RELAY_RETRY_MS_MIN = 1_000

/** The longest such wait, in milliseconds. */
export const RELAY_RETRY_MS_MAX = 5 * 60 * 1000

/** A reservation that was held for so long ends a row of failures, in milliseconds. */
export const RELAY_STEADY_MS = 60_000

/** Circuits that end at this node at once. */
export const RELAY_OWN_CIRCUITS_MAX = 64
