/** Bounds of the network host. Each is listed in `docs/reference/limits.md`. */

/** Peers that are connected at once. */
export const PEERS_MAX = 64

/** Inbound connections whose peer has not proved the swarm secret yet. */
export const UNPROVEN_MAX = 32

/** Inbound connections that are refused and wait to hear why; more are closed without a word. */
export const TURNED_AWAY_MAX = 16

/** Connections of peers that speak another protocol than ours. */
export const GUESTS_MAX = 16

/** Streams of another protocol than ours that one connection may have open: each may hold a message of 2 MiB. */
export const GUEST_STREAMS_MAX = 4

/** Connections between us and one peer: two when both dial at once, more only while dead ones are noticed. */
export const CONNECTIONS_PER_PEER_MAX = 4

/** Inbound connections that one IP address may open in a second. A swarm on one machine shares an address. */
export const INBOUND_PER_SECOND_MAX = 64

/** Inbound connections in the middle of their TLS or Noise handshake. */
export const HANDSHAKES_MAX = 32

/** Of these, connections from one address (IPv6: from one /64). */
export const HANDSHAKES_PER_ADDRESS_MAX = 16

/** From the connection to admission and the exchange of offers, in milliseconds. */
export const ADMISSION_TIMEOUT_MS = 5_000

/** From the first dial to a usable peer, in milliseconds. */
export const CONNECT_TIMEOUT_MS = 15_000

/** From asking for a stream to having it, in milliseconds. */
export const OPEN_TIMEOUT_MS = 10_000

/** How long a close may wait for bytes that were queued, in milliseconds. */
export const CLOSE_TIMEOUT_MS = 10_000

/** How long one address of a peer is tried before the next is tried beside it, in milliseconds. */
export const DIAL_STAGGER_MS = 250

/** How long the other side of a refusal may take to hear it, in milliseconds. */
export const LINGER_MS = 1_000

/** Age at which both sides know of a connection, so that a second one beside it can be closed, in milliseconds. */
export const SETTLED_MS = 5_000

/** Streams that one connection may have open in each direction. */
export const STREAMS_PER_CONNECTION_MAX = 256

/** Bytes that a peer may send on one stream before we have read them (Yamux window). Also what a pause may buffer. */
export const STREAM_WINDOW_BYTES_MAX = 1024 * 1024

/** Bytes that wait to be sent on one stream; a writer that ignores back-pressure beyond it loses the stream. */
export const STREAM_WRITE_BYTES_MAX = 4 * 1024 * 1024

/** Received bytes that wait for a stream's reader before the peer is told to pause. */
export const STREAM_READ_BYTES_MAX = 256 * 1024

/** Received pieces, however small, that wait for a stream's reader before the peer is told to pause. */
export const STREAM_READ_PIECES_MAX = 1_024

/** Time between two pings of one connection, in milliseconds. */
export const PING_INTERVAL_MS = 15_000

/** Pings that follow one another quickly when a peer has joined, so that its distance is known soon. */
export const PINGS_FIRST = 4

/** Time between an answer and the next of these first pings, in milliseconds. */
export const PING_FIRST_INTERVAL_MS = 500

/** Pings in a row that may go unanswered before the connection counts as dead. */
export const PINGS_MISSED_MAX = 2

/** The shortest time between two offers to one peer, in milliseconds. */
export const OFFER_INTERVAL_MS = 250

/** What a peer may send on its control stream at once: each message costs one token and one more per 8 KiB. */
export const CONTROL_TOKENS_MAX = 2048

/**
 * Tokens that a peer's control stream regains in a second. Answers come there too: a generation's events are as many
 * as its tokens. Checking a message takes 0.1 ms, so a peer that uses all of it takes a twentieth of a core.
 */
export const CONTROL_TOKENS_PER_SECOND = 512

/** How long a peer's signed record is good for, in milliseconds. A new one is made four times as often. */
export const RECORD_LIFE_MS = 24 * 60 * 60 * 1000

/** Introduced peers that wait to be dialled. */
export const INTRODUCTIONS_MAX = 64

/** Introduced peers that are dialled at once. */
export const INTRODUCTION_DIALS_MAX = 4

/** How long a peer that is new to a common acquaintance is given to dial us first, about, in milliseconds. */
export const INTRODUCTION_WAIT_MS = 1_000

/** How long an introduced peer that could not be reached is left alone, in milliseconds. */
export const INTRODUCTION_RETRY_MS = 60_000

/** Addresses outside (mapped ports, what the owner says) that a host tells of. */
export const EXTERNAL_ADDRESSES_MAX = 8

/** Addresses that the host keeps dialling. */
export const KEPT_ADDRESSES_MAX = 64

/** The first wait before a kept address is dialled again, in milliseconds; each next one is twice as long. */
export const REDIAL_MS_MIN = 250

/** The longest wait before a kept address is dialled again, in milliseconds. */
export const REDIAL_MS_MAX = 30_000

/** From the first packet to a stream of the data plane, in milliseconds; then the stream goes over libp2p. */
export const PLANE_CONNECT_MS_MAX = 1_000

/** The first time for which a peer's data plane is left alone once it could not be reached, in milliseconds. */
export const PLANE_RETRY_MS_MIN = 30_000

/** The longest such time, in milliseconds; it doubles with every failure. */
export const PLANE_RETRY_MS_MAX = 15 * 60_000

/** Connections to the data plane that wait in the system's queue until they are accepted. */
export const PLANE_BACKLOG = 128

/** Bytes that one stream of the data plane sends under its keys: TLS 1.3 bears 2^24.5 records of AES-GCM, 380 GiB. */
export const PLANE_STREAM_BYTES_MAX = 256 * 1024 * 1024 * 1024
