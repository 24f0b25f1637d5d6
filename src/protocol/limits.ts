/** Bounds of sessions, frames, replay protection and commands. Each is listed in `docs/reference/limits.md`. */

// Sessions and their frames (`secure-session.ts`, `sealed-channel.ts`).

/** How far the time in a frame may lie from ours, corrected by the measured offset of the clocks, in milliseconds. */
export const FRAME_AGE_MS_MAX = 30_000

/** Control frames that may overtake one another: a sequence further back or further ahead is refused. */
export const REORDER_WINDOW = 256

/** Bytes of control messages under one key. AES-GCM would bear 1024 times as much; this is what a stolen key opens. */
export const CONTROL_REKEY_BYTES = 1024 * 1024 * 1024

/** Bytes of one stream's direction under one key: 2^32 blocks, so an attacker's advantage stays below 2^-62. */
export const CHANNEL_REKEY_BYTES = 64 * 1024 * 1024 * 1024

/** How old a frame's header may be that was made before there was anything to send, in milliseconds: it says the time. */
export const BEGUN_MS_MAX = 1_000

/** Frames under one key, of control or of a stream. */
export const REKEY_FRAMES = 2 ** 32

/** Age at which a key is replaced by the next frame that is sent, in milliseconds. */
export const REKEY_MS = 10 * 60 * 1000

/** Keys that a sender may be ahead of what has arrived, and that are kept behind it for what was overtaken. */
export const REKEYS_AHEAD_MAX = 4

/** How long the key before the newest one still opens control frames that were overtaken, in milliseconds. */
export const OLD_KEY_MS_MAX = 10_000

/** Streams of one side that may overtake one another when they begin. */
export const CHANNELS_AHEAD_MAX = 256

// Sealed streams (`sealed-stream.ts`).

/** Bytes of a stream in one sealed frame: a longer write is cut. */
export const SEALED_PART_BYTES_MAX = 256 * 1024

/** Bytes in a stream's opening frame: a tag of ours and the protocol's id. All that is read before the peer is proved. */
export const SEALED_OPENING_BYTES_MAX = 128

/** From the first byte of waiting for a stream's opening frame to having it, in milliseconds. */
export const SEALED_OPEN_MS_MAX = 10_000

// Replay filter (`replay-filter.ts`).

/** Frames that one generation of the replay filter remembers: 2184 a second for a minute. */
export const REPLAY_FRAMES_MAX = 2 ** 17

/** How far ahead of the accepted frames the persisted horizon lies, in milliseconds: a write to disk each so often. */
export const REPLAY_LEASE_MS = 5_000

// Control links (`control-link.ts`, `negotiation.ts`).

/** How far the clocks of two nodes may be apart; their frames' times are corrected by it. Milliseconds. */
export const CLOCK_OFFSET_MS_MAX = 10 * 60 * 1000

/** How long a session can be resumed after its handshake: what a stolen resumption secret is worth. Milliseconds. */
export const SESSION_LIFE_MS = 24 * 60 * 60 * 1000

/** Resumptions of one session: they are half of the epoch, 16 bits. */
export const RESUMPTIONS_MAX = 0xffff

/** Messages that wait to be sent to one peer. */
export const OUTGOING_MESSAGES_MAX = 1024

/** With no more messages than this waiting, whoever makes many goes on. */
export const OUTGOING_ROOM = 64

/** Bytes of messages that wait to be sent to one peer. */
export const OUTGOING_BYTES_MAX = 4 * 1024 * 1024

// Commands: the side that answers (`dispatcher.ts`).

/** Characters of a command's name. */
export const COMMAND_NAME_CHARS_MAX = 40

/** Tokens that one request may cost. */
export const COMMAND_COST_MAX = 256

/** Longest deadline that a command may have, in milliseconds: a day. */
export const COMMAND_DEADLINE_MS_MAX = 24 * 60 * 60 * 1000

/** Requests that are answered at once. */
export const REQUESTS_RUNNING_MAX = 128

/** Requests of one peer that are answered at once. */
export const REQUESTS_RUNNING_PER_PEER_MAX = 32

/** Of both, places that only requests of high priority take: a look-up does not wait behind generations. */
export const REQUESTS_RUNNING_RESERVED = 8

/** Requests that wait for a place beyond those. */
export const REQUESTS_WAITING_MAX = 512

/** Requests of one peer that wait for a place. */
export const REQUESTS_WAITING_PER_PEER_MAX = 64

/** What a request that finds no place is told to wait, in milliseconds. */
export const BUSY_RETRY_AFTER_MS = 1_000

/** How long a handler that was told to end keeps its place, in milliseconds: after it, it is written off as a bug. */
export const HANDLER_END_MS_MAX = 10_000

/** Events of one request that its handler has sent and nobody has taken. */
export const EVENTS_WAITING_MAX = 64

/** Events of one request that are kept after they were sent, for a caller that lost its connection. */
export const EVENTS_KEPT_MAX = 512

/** Bytes (about) of the events of one request that are kept after they were sent. */
export const EVENT_BYTES_KEPT_MAX = 128 * 1024

/** Requests whose id is remembered after their end, so that none runs twice. */
export const REQUESTS_REMEMBERED_MAX = 4_096

/** Of those, requests of one peer. */
export const REQUESTS_REMEMBERED_PER_PEER_MAX = 512

/** Answers that are kept in case the caller did not get them. */
export const ANSWERS_KEPT_MAX = 256

/** Of those, answers to one peer. */
export const ANSWERS_KEPT_PER_PEER_MAX = 32

/** Bytes (about) of the answers that are kept; one peer's may have an eighth. */
export const ANSWER_BYTES_KEPT_MAX = 16 * 1024 * 1024

/** How long an answer is kept, in milliseconds. */
export const ANSWER_KEPT_MS_MAX = 60_000

// Commands: the side that asks (`requester.ts`).

/** Requests that wait for answers, of all peers. */
export const REQUESTS_PENDING_MAX = 1_024

/** How long requests wait for a lost connection to come back, in milliseconds. */
export const RECONNECT_MS_MAX = 30_000

/** Events of one request that wait for its caller; beyond them the request is given up. */
export const EVENTS_UNREAD_MAX = 1_024

// What a peer may ask for (`rate-limits.ts`).

/** Tokens that a peer may spend at once. */
export const PEER_TOKENS_MAX = 512

/** Tokens that a peer gains in a second. */
export const PEER_TOKENS_PER_SECOND = 64

/** Bytes of messages, in each direction, that a peer may exchange at once. */
export const PEER_BYTES_BURST_MAX = 64 * 1024 * 1024

/** Bytes of messages, in each direction, that a peer may exchange in a second, on average. */
export const PEER_BYTES_PER_SECOND_MAX = 16 * 1024 * 1024

/** Peers with buckets of their own; those beyond share one set. */
export const RATE_LIMITED_PEERS_MAX = 1_024

/** A peer that stays beyond its allowance is written into the audit log once in so many milliseconds. */
export const RATE_LIMIT_SAID_MS = 60_000

// What misconduct costs (`penalties.ts`, `back-off.ts`).

/** Scores and failed authentications halve in this time, in milliseconds. */
export const PENALTY_HALF_LIFE_MS = 10 * 60 * 1000

/** A peer with this score is disconnected. */
export const DISCONNECT_SCORE = 100

/** A peer with this score is banned. */
export const BAN_SCORE = 200

/** The shortest ban, in milliseconds. */
export const BAN_MS_MIN = 60_000

/** The longest ban, in milliseconds: a day. */
export const BAN_MS_MAX = 24 * 60 * 60 * 1000

/** Peers and addresses that something is held against. */
export const PENALTY_SUBJECTS_MAX = 4_096

/** Failed authentications that cost no time: several nodes may share one address. */
export const BACK_OFF_FREE_FAILURES = 5

/** Failed authentications that are counted. */
export const BACK_OFF_FAILURES_MAX = 20

/** The wait after the first failed authentication that is not free, in milliseconds; it doubles with each. */
export const BACK_OFF_MS_MIN = 1_000

/** The longest wait after a failed authentication, in milliseconds. */
export const BACK_OFF_MS_MAX = 5 * 60 * 1000

// Attachments in chunks (`transfer/`).

/** Bytes of an attachment: 4 GiB. */
export const TRANSFER_BYTES_MAX = 2 ** 32

/** Bytes of every chunk but the last: with its header it fits one sealed frame. A whole number of pages. */
export const TRANSFER_CHUNK_BYTES = 252 * 1024

/** Bytes that a sender may be ahead of the receiver's acknowledgement. */
export const TRANSFER_WINDOW_BYTES = 64 * TRANSFER_CHUNK_BYTES

/** Bytes that arrive between two acknowledgements. */
export const TRANSFER_ACK_BYTES = 4 * TRANSFER_CHUNK_BYTES

/** Arriving chunks are acknowledged at least so often, in milliseconds: a slow link must not look like a dead one. */
export const TRANSFER_ACK_MS_MAX = 5_000

/** Chunks of one transfer that have arrived and are not yet written. */
export const TRANSFER_CHUNKS_PENDING_MAX = 8

/** Bytes of an attachment that is collected in memory; a larger one is streamed to disk. */
export const TRANSFER_MEMORY_BYTES_MAX = 1024 * 1024

/** Bytes of all attachments that are held in memory after or while they arrive; more go to disk. */
export const TRANSFERS_MEMORY_BYTES_MAX = 64 * 1024 * 1024

/** Attachments that are fetched at once. */
export const TRANSFERS_FETCHED_MAX = 64

/** Attachments that are fetched at once from one peer. */
export const TRANSFERS_FETCHED_PER_PEER_MAX = 16

/** Attachments that are offered to peers and not yet delivered. */
export const TRANSFERS_OFFERED_MAX = 512

/** Attachments that are offered to one peer and not yet delivered. */
export const TRANSFERS_OFFERED_PER_PEER_MAX = 64

/** Streams on which attachments are sent at once. */
export const TRANSFERS_SENT_MAX = 128

/** Streams on which attachments are sent to one peer at once. */
export const TRANSFERS_SENT_PER_PEER_MAX = 16

/** How long an offered attachment waits to be fetched, or to be fetched on, in milliseconds. */
export const TRANSFER_OFFER_MS_MAX = 10 * 60 * 1000

/** How long one transfer may take in all, in milliseconds: a day. */
export const TRANSFER_MS_MAX = 24 * 60 * 60 * 1000

/** A new stream must ask for something within this time, in milliseconds. */
export const TRANSFER_START_MS_MAX = 10_000

/** Opening a stream for a transfer, in milliseconds. */
export const TRANSFER_OPEN_MS_MAX = 10_000

/** A stream on which no chunk is acknowledged, or arrives, for so long is given up, in milliseconds. */
export const TRANSFER_IDLE_MS_MAX = 60_000

/** How long a side lets its last word arrive, in milliseconds. */
export const TRANSFER_CLOSE_MS_MAX = 5_000

/** Attempts in a row that bring nothing new, before a transfer is given up. */
export const TRANSFER_ATTEMPTS_MAX = 10

/** The pause after the first lost stream, in milliseconds; it doubles with each. */
export const TRANSFER_RETRY_MS_MIN = 250

/** The longest pause between two attempts, in milliseconds. */
export const TRANSFER_RETRY_MS_MAX = 10_000
