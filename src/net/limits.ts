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

/** Attempts by TCP of one punch, each with a round-trip time of its own. */
export const PUNCH_ATTEMPTS_MAX = 3

/** One attempt by TCP, from the first SYN to the word of the other side, in milliseconds: a SYN is sent at 0, 1 and 3 s. */
export const PUNCH_DIAL_MS_MAX = 4_000

/** One attempt by ICE, from the other side's description to a joined session, in milliseconds. */
export const PUNCH_ICE_MS_MAX = 12_000

/** From the socket of an attempt to the joined session on it, in milliseconds. */
export const PUNCH_JOIN_MS_MAX = 5_000

/** Waiting for the other side's next message, in milliseconds; results may take as long as their attempt more. */
export const PUNCH_MESSAGE_MS_MAX = 10_000

/** One punch with all its attempts, in milliseconds. */
export const PUNCH_MS_MAX = 90_000

/** Time between two calls of one endpoint that refuses them, in milliseconds. */
export const PUNCH_REDIAL_MS = 100

/** Calls of one attempt by TCP, to all endpoints of the peer together. */
export const PUNCH_DIALS_MAX = 24

/** How long an attempt that also listens calls before it does, in milliseconds. */
export const PUNCH_LISTEN_AFTER_MS = 20

/** Sockets that one attempt by TCP has open: called and accepted. */
export const PUNCH_SOCKETS_MAX = 16

/** Messages of one punch that wait to be looked at. */
export const PUNCH_MESSAGES_WAITING_MAX = 8

/** Punches of our own that are under way. */
export const PUNCHES_MAX = 4

/** Punches of others that are under way. */
export const PUNCHES_SERVED_MAX = 8

/** The shortest time between two punches that one peer starts, in milliseconds. */
export const PUNCH_INTERVAL_MS_MIN = 10_000

/** How long the side that dialled a relayed connection waits for the other to start a punch, in milliseconds. */
export const PATH_START_WAIT_MS = 15_000

/** The first wait after a peer could not be reached directly, in milliseconds; each next one is twice as long. */
export const PATH_RETRY_MS_MIN = 30_000

/** The longest such wait, in milliseconds. */
export const PATH_RETRY_MS_MAX = 30 * 60_000

/** Nodes that are asked where they see a socket, before an attempt. */
export const OBSERVERS_MAX = 2

/** Nodes that are tried for that, where the first ones do not answer. */
export const OBSERVERS_TRIED_MAX = 4

/** Asking one node where it sees a socket, in milliseconds. */
export const OBSERVE_MS_MAX = 4_000

/** Peers that are told at once where they are seen; each may ask once at a time. */
export const OBSERVED_PEERS_MAX = 32

/** How long a peer that is told where it is seen may hold its sockets for it, in milliseconds. */
export const OBSERVED_MS_MAX = 30_000

/** Inbound sockets at the ports where peers are told where they are seen, to a few of each peer. */
export const OBSERVER_SOCKETS_MAX = 96

/** How long a UDP shuttle between an ICE path and QUIC lives without a datagram of our QUIC, in milliseconds: that keeps alive every 5 s. */
export const SHUTTLE_IDLE_MS = 20_000

/** Datagrams of a UDP shuttle that the system has not taken yet; more are lost, as on any way that is too narrow. */
export const SHUTTLE_DATAGRAMS_MAX = 512

/** Streams that one connection may have open in each direction. */
export const STREAMS_PER_CONNECTION_MAX = 256

/** Bytes that a peer may send on one stream before we have read them (Yamux window). Also what a pause may buffer. */
export const STREAM_WINDOW_BYTES_MAX = 1024 * 1024

/**
 * Bytes that wait to be sent on one stream (on a carried one: behind its window); a writer that ignores back-pressure
 * beyond it loses the stream.
 */
export const STREAM_WRITE_BYTES_MAX = 4 * 1024 * 1024

/** Received bytes that wait for a stream's reader before the peer is told to pause. */
export const STREAM_READ_BYTES_MAX = 256 * 1024

/** Received pieces, however small, that wait for a stream's reader before the peer is told to pause. */
export const STREAM_READ_PIECES_MAX = 1_024

/** Time between two pings of one connection, in milliseconds. */
export const PING_INTERVAL_MS = 15_000

/** How long the answer to a ping may take, in milliseconds. */
export const PING_TIMEOUT_MS = 10_000

/** Silence after something was said from which on a peer is asked whether it is there, in milliseconds. */
export const SILENCE_DOUBT_MS = 1_000

/** How long after something was said an answer may be expected at all, in milliseconds. */
export const SILENCE_FORGET_MS = 10_000

/** Time between two looks for silence, in milliseconds. */
export const SILENCE_LOOK_MS = 500

/** How long the answer to a ping may take that asks whether the peer is there, in milliseconds; four round trips where that is more. */
export const DOUBT_TIMEOUT_MS = 1_500

/** Such pings in a row that may fail; with the last of them the connection counts as dead. */
export const DOUBTS_FAILED_MAX = 3

/** Pings that follow one another quickly when a peer has joined, so that its distance is known soon. */
export const PINGS_FIRST = 4

/** Time between an answer and the next of these first pings, in milliseconds. */
export const PING_FIRST_INTERVAL_MS = 500

/** Pings in a row that may fail; with the last of them the connection counts as dead. */
export const PINGS_FAILED_MAX = 3

/** Time between two looks at all connections, for those that are of no use any more, in milliseconds. */
export const SWEEP_PERIOD_MS = 60_000

/** How long a connection that nobody holds may be of no use before it is closed, in milliseconds. */
export const IDLE_LIMIT_MS = 5 * 60_000

/** So few peers are kept whether they are of use or not: a small swarm stays together when it is quiet. */
export const PEERS_FLOOR = 32

/** Holds on connections at once, of all peers and reasons. */
export const HOLDS_MAX = 1_024

/** Listeners to one kind of event of the host. */
export const LISTENERS_MAX = 64

/** Dials of one peer or address that fail within the window before it is left alone. */
export const BREAKER_FAILURES = 5

/** The window of these failures, in milliseconds. */
export const BREAKER_WINDOW_MS = 60_000

/** The first time for which a peer or an address is left alone, about, in milliseconds; it doubles with each failed probe. */
export const BREAKER_WAIT_MS_MIN = 1_000

/** The longest such time, about, in milliseconds. */
export const BREAKER_WAIT_MS_MAX = 30_000

/** Peers and addresses whose failures are remembered; those that were heard of longest ago are forgotten first. */
export const BREAKERS_MAX = 512

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

/** Dials of one peer at once: each begun for addresses that those before did not have. */
export const DIALS_PER_PEER_MAX = 3

/** Introduced peers that are dialled at once. */
export const INTRODUCTION_DIALS_MAX = 4

/** How long a peer that is new to a common acquaintance is given to dial us first, about, in milliseconds. */
export const INTRODUCTION_WAIT_MS = 1_000

/** How often the others are told of a peer whose addresses keep changing, at once. */
export const NEWS_BURST_MAX = 4

/** Time in which a peer regains one such telling, in milliseconds. */
export const NEWS_REFILL_MS = 30_000

/** Addresses outside (mapped ports, what the owner says) that a host tells of. */
export const EXTERNAL_ADDRESSES_MAX = 8

/** Addresses that the host keeps dialling. */
export const KEPT_ADDRESSES_MAX = 64

/** The wait before a kept address is dialled again, about, in milliseconds; its breaker makes it longer when that fails. */
export const REDIAL_MS = 250

/** The same after a refusal that another try would not change, in milliseconds. */
export const REDIAL_REFUSED_MS = 30_000

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

/** QUIC handshakes that one listener has in its hands at once; more wait in the addon's queue. */
export const QUIC_HANDSHAKES_MAX = 128

/** Bytes that are taken from a QUIC stream at a time. */
export const QUIC_READ_BYTES = 64 * 1024

/** Bytes that wait for the QUIC addon on one stream before its writer is told to pause. */
export const QUIC_WRITE_BYTES = 256 * 1024

/** Peers of an allow list. */
export const ALLOWED_PEERS_MAX = 1_024

/** Received bytes that wait inside one WebSocket connection whose reader pauses; it is closed beyond. */
export const WEBSOCKET_READ_BYTES_MAX = 32 * 1024 * 1024

/** Bytes of one WebSocket message that a listener takes: ours are 128 KiB at most. */
export const WEBSOCKET_MESSAGE_BYTES_MAX = 1024 * 1024

/** Bytes of a carried stream that were sent and not taken by the other side's user: then its writer has to wait. */
export const CARRIED_WINDOW_BYTES_MAX = 2 * 1024 * 1024

/** Bytes that the user of a carried stream takes before the other side is told, so that it can let go of them. */
export const CARRIED_ACK_BYTES = 512 * 1024

/** Bytes of one data frame of a carried stream. */
export const CARRIED_DATA_BYTES_MAX = 1024 * 1024

/** Received pieces of a carried stream that wait for its reader before small ones are joined. */
export const CARRIED_PIECES_MAX = 1_024

/** How long a carried stream waits for another carrier when it has lost its own, in milliseconds. */
export const CARRIED_WINDOW_MS = 10_000

/** The same where the peer's machine refuses every connection: nothing listens there any more. In milliseconds. */
export const CARRIED_REFUSED_MS = 2_000

/** The first wait between two tries to have another carrier, in milliseconds; each next one is twice as long. */
export const CARRIED_RETRY_MS_MIN = 25

/** The longest such wait, in milliseconds. */
export const CARRIED_RETRY_MS_MAX = 1_000

/** How long the side that did not dial leaves the first try to the other one, in milliseconds. */
export const CARRIED_TURN_MS = 250

/** From asking for another carrier over a session to having it, in milliseconds; then the session counts as dead. */
export const CARRIED_REOPEN_MS_MAX = 3_000

/** From a carrier to its first frame, in milliseconds. */
export const CARRIED_START_MS_MAX = 5_000

/** Carriers of one session that have not sent their first frame yet. */
export const CARRIED_STARTING_MAX = 24

/** Carriers that are opened to one peer at once for streams that wait. */
export const CARRIED_REOPENS_MAX = 8

/** Carried streams with one peer, whether they wait for a carrier or have one. */
export const CARRIED_PER_PEER_MAX = 512

/** Carried streams that wait for another carrier, of all peers together. */
export const CARRIED_WAITING_MAX = 1_024

/** Bytes that these hold in memory. */
export const CARRIED_WAITING_BYTES_MAX = 256 * 1024 * 1024

/** Peers with and without streams beyond which one that has left is forgotten at once, and how its streams have ended with it. */
export const CARRIED_PEERS_REMEMBERED_MAX = 1_024

/** Ended streams of one peer that are remembered, so that a late carrier for one hears how it ended. */
export const CARRIED_ENDED_MAX = 256

/** Carriers for streams that nobody here knows, in one session, before that counts as guessing. */
export const CARRIED_UNKNOWN_MAX = 512
