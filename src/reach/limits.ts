/** Bounds of finding out whether this node can be reached. Each is listed in `docs/reference/limits.md`. */

/** Peers in different networks that must say the same of us before it is believed. */
export const VOTES_MIN = 2

/** Networks (IPv4 /16, IPv6 /32) whose word on where we are seen is kept, one each. */
export const VOTERS_MAX = 64

/** How long a peer's word on where it sees us counts after it was last heard, in milliseconds. */
export const VOTE_LIFE_MS = 30 * 60_000

/** Addresses of ours that are looked after at once: listened at, mapped, seen by peers, named by the owner. */
export const CANDIDATES_MAX = 16

/** Bytes of a request for a dial-back, at least: more than the dial costs its target, whoever that turns out to be. */
export const DIAL_BACK_REQUEST_BYTES_MIN = 8 * 1024

/** Bytes of a request for a dial-back, at most. */
export const DIAL_BACK_REQUEST_BYTES_MAX = 9 * 1024

/** Bytes of the answer to it. */
export const DIAL_BACK_ANSWER_BYTES_MAX = 256

/** Requests for dial-backs that are being read at once; more streams are reset. */
export const DIAL_BACK_REQUESTS_MAX = 32

/** Waiting for the request once its stream is open, in milliseconds. */
export const DIAL_BACK_REQUEST_MS_MAX = 5_000

/** One dial to an asker's address and the nonce there, in milliseconds. */
export const DIAL_BACK_DIAL_MS_MAX = 8_000

/** Asking a peer for a dial-back, from the stream to the answer, in milliseconds. */
export const DIAL_BACK_MS_MAX = 16_000

/** Dials for others that are under way at once. */
export const DIAL_BACKS_RUNNING_MAX = 4

/** Dials that one IP address (IPv6: one /64) may ask for at once. */
export const DIAL_BACKS_PER_ADDRESS_MAX = 6

/** Dials that an address regains in a minute. */
export const DIAL_BACKS_PER_ADDRESS_PER_MINUTE = 3

/** Dials that everybody together may ask for at once. */
export const DIAL_BACKS_MAX = 30

/** Dials that everybody together regains in a minute. */
export const DIAL_BACKS_PER_MINUTE = 60

/** Addresses whose rate of asking is kept; those that find no place share one rate. */
export const DIAL_BACK_ASKERS_MAX = 256

/** How long the proof that an address leads here counts, in milliseconds. It is renewed after a half. */
export const PROOF_LIFE_MS = 60 * 60_000

/** How long a dial that failed counts, in milliseconds. Then the address is tried again. */
export const FAILURE_LIFE_MS = 15 * 60_000

/** How long a peer that would not dial, or could not be asked, is left alone, in milliseconds. */
export const HELPER_REST_MS = 5 * 60_000

/** Peers whose refusals to dial are remembered. */
export const HELPERS_MAX = 128

/** From one look at the network (interfaces, what is due) to the next, in milliseconds. */
export const LOOK_MS = 15_000

/** From a change to what follows from it: changes come in groups. In milliseconds. */
export const SETTLE_MS = 500

/** How often the NAT is looked at again where nothing has changed, in milliseconds. */
export const DETECT_PERIOD_MS = 30 * 60_000

/** The same where nothing was found out the last time, in milliseconds. */
export const DETECT_RETRY_MS = 2 * 60_000

/** STUN servers that the owner may name. */
export const STUN_SERVERS_MAX = 8

/** From a port that no gateway mapped to the next try, in milliseconds. */
export const MAP_RETRY_MS = 10 * 60_000

/** A look at the network without a node (`koinon doctor`), in milliseconds. */
export const SURVEY_MS_MAX = 15_000
