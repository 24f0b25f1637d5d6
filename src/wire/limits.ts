/** Sizes and counts that bound what crosses the wire. Each is listed in `docs/reference/limits.md`. */

/** Stages in one node's offer. */
export const OFFER_STAGES_MAX = 64

/** Addresses in one node's offer. */
export const PEER_ADDRESSES_MAX = 16

/** Peers that one HELLO may introduce. */
export const HELLO_PEERS_MAX = 50

/** Bytes of one HELLO message: 64 stages and 50 peers with 16 addresses each fit. */
export const HELLO_BYTES_MAX = 512 * 1024
