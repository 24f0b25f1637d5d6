/** Bounds of NAT detection and traversal. Each is listed in `docs/reference/limits.md`. */

/** Bytes of a STUN message that is looked at or sent: one that fits every path without being cut into pieces. */
export const STUN_MESSAGE_BYTES_MAX = 548

/** Attributes of one STUN message; one with more is refused. */
export const STUN_ATTRIBUTES_MAX = 32

/** Bytes of a user name, a reason or another text in a STUN message. */
export const STUN_TEXT_BYTES_MAX = 512

/** Requests that one STUN client has under way. */
export const STUN_PENDING_MAX = 64

/** From the first sending of a request to the second, in milliseconds; each next wait is twice as long (RFC 8489, 6.2.1). */
export const STUN_RTO_MS = 500

/** How often one request is sent (Rc of RFC 8489). */
export const STUN_SENDS_MAX = 7

/** After the last sending, an answer is waited for this many times the first wait (Rm of RFC 8489). */
export const STUN_LAST_WAIT_FACTOR = 16

/** Waiting for the answer to one request, in milliseconds, where the caller says nothing. RFC 8489 would go on for 39.5 s. */
export const STUN_TIMEOUT_MS = 5_000

/** An answer of the STUN server is at most this many times as long as its request, so it is no amplifier. */
export const STUN_ANSWER_FACTOR_MAX = 3

/** Answers that the STUN server gives one address (IPv6: one /64) at once. */
export const STUN_BURST_PER_ADDRESS_MAX = 32

/** Answers that an address regains in a second. */
export const STUN_PER_ADDRESS_PER_SECOND = 8

/** Answers that the STUN server gives everybody together at once. */
export const STUN_BURST_MAX = 1_024

/** Answers that everybody together regains in a second. */
export const STUN_PER_SECOND = 512

/** Addresses whose rate the STUN server keeps; those that find no place share one rate. */
export const STUN_ADDRESSES_MAX = 1_024

/** STUN servers that one detection asks. */
export const DETECTION_SERVERS_MAX = 8

/** Sockets that one detection opens to see which ports a NAT gives. */
export const DETECTION_SOCKETS_MAX = 5

/** Waiting for one answer in a detection, in milliseconds: sent at 0, 0.5 and 1.5 s. */
export const DETECTION_ANSWER_MS_MAX = 2_500

/** A whole detection, in milliseconds. */
export const DETECTION_MS_MAX = 20_000

/** Observations of one kind that are looked at. */
export const OBSERVATIONS_MAX = 64

/** Ports that are predicted. */
export const PREDICTED_PORTS_MAX = 64

/** The widest step from one port to the next that still counts as a pattern. */
export const PORT_STEP_MAX = 16

/** Waiting for a gateway to map one port, in milliseconds, by one of the ways. */
export const MAPPING_MS_MAX = 5_000

/** Waiting for a gateway to take back one mapping, in milliseconds. */
export const UNMAPPING_MS_MAX = 2_000

/** How long a mapping is asked for, in seconds (RFC 6886 recommends two hours). */
export const MAPPING_LEASE_SECONDS = 7_200

/** The shortest lease that is taken; a gateway that grants less is of no use. */
export const MAPPING_LEASE_SECONDS_MIN = 30

/** From a renewal that failed to the next try, in milliseconds, unless the lease ends earlier. */
export const MAPPING_RETRY_MS = 30_000

/** Mappings that one port mapper holds. */
export const MAPPINGS_MAX = 16

/** From the first sending of a NAT-PMP or PCP request to the second, in milliseconds; each next wait is twice as long. */
export const PMP_RTO_MS = 250

/** How often one NAT-PMP or PCP request is sent. */
export const PMP_SENDS_MAX = 3

/** Bytes of a NAT-PMP or PCP answer that is looked at (RFC 6887, 7). */
export const PMP_ANSWER_BYTES_MAX = 1_100

/** Waiting for UPnP gateways to answer a search, in milliseconds. */
export const UPNP_SEARCH_MS = 1_500

/** UPnP gateways that are asked. */
export const UPNP_GATEWAYS_MAX = 4

/** Bytes of a UPnP gateway's description or answer. */
export const UPNP_BODY_BYTES_MAX = 128 * 1024

/** Services in a UPnP gateway's description that are looked at. */
export const UPNP_SERVICES_MAX = 64

/** External ports that a UPnP gateway is asked for before it is given up: each may belong to somebody else. */
export const UPNP_PORTS_MAX = 4

/** Candidates in one ICE description. */
export const ICE_CANDIDATES_MAX = 24

/** Pairs that one ICE agent checks. */
export const ICE_PAIRS_MAX = 256

/** STUN servers that one ICE agent asks. */
export const ICE_STUN_SERVERS_MAX = 4

/** Gathering candidates, in milliseconds. What has come by then is used. */
export const ICE_GATHER_MS_MAX = 6_000

/** Waiting for one STUN or TURN server while gathering, in milliseconds. */
export const ICE_SERVER_MS_MAX = 2_500

/** From the other side's description to a pair that works, in milliseconds. */
export const ICE_CONNECT_MS_MAX = 20_000

/** Closing an ICE agent, in milliseconds. */
export const ICE_CLOSE_MS_MAX = 2_000

/** Bytes of one datagram over an ICE path: what a path of 1280 bytes carries inside UDP, IPv6 and TURN. */
export const ICE_DATAGRAM_BYTES_MAX = 1_200

/** Checks that an ICE agent takes of one address at once. */
export const ICE_CHECKS_BURST_MAX = 256

/** Checks that an ICE agent regains in a second. */
export const ICE_CHECKS_PER_SECOND = 64
