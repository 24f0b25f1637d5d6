/** Bounds of a node's own waits, queues and counts. Each is listed in `docs/reference/limits.md`. */

/** Completions that run at once here: as many as one entry may have on another node's stage. */
export const COMPLETIONS_RUNNING_MAX = 32

/** Completions that wait for their turn beyond those. */
export const COMPLETIONS_WAITING_MAX = 256

/** Longest wait for that turn, and then for a free slot on every stage, in milliseconds. */
export const COMPLETION_WAIT_MS_MAX = 120_000

/** Routes that one completion tries before its first token. */
export const ROUTES_TRIED_MAX = 3

/** Positions of one generation where the configuration does not say: more costs KV memory that few prompts use. */
export const CONTEXT_DEFAULT_MAX = 4_096

/** How often a node looks whether its offer has changed, and so the most often that it sends one, in milliseconds. */
export const OFFER_PERIOD_MS = 250

/** Share of the free memory that a node takes where the configuration does not say. */
export const MEMORY_SHARE = 0.8

/** Longest wait for the first attempts to reach the configured peers, in milliseconds. */
export const FIRST_DIAL_MS_MAX = 10_000

/** No new peer and no new offer for this long: whoever is in the swarm has been heard of, in milliseconds. */
export const SWARM_QUIET_MS = 500

/** Longest wait for that quiet, in milliseconds. */
export const SWARM_SETTLE_MS_MAX = 5_000

/** Longest wait for the nodes that are to share the layers, in milliseconds: time to start them by hand. */
export const PLACEMENT_WAIT_MS_MAX = 30 * 60_000

/** Loads of other layers (LOAD_SHARD) that wait for the one that runs. */
export const LOADS_WAITING_MAX = 4

/** Longest wait of a load for its turn, in milliseconds. */
export const LOAD_WAIT_MS_MAX = 5 * 60_000

/** Audits that wait for the one that runs. */
export const AUDITS_WAITING_MAX = 8

/** Longest wait of an audit for its turn, in milliseconds. */
export const AUDIT_WAIT_MS_MAX = 20_000

/** How long what runs may go on when the node stops, where the settings say nothing else, in milliseconds. */
export const DRAIN_MS = 8_000

/** How long the requests of a peer whose connection is gone go on, in milliseconds. */
export const CALLER_GONE_MS = 30_000

/** Longest wait for each part of a node to stop, in milliseconds. */
export const STOP_MS_MAX = 10_000

/** Bytes that attachments may take on disk while they arrive and are used. */
export const TRANSFER_QUOTA_BYTES = 8 * 1024 ** 3

// What peers may ask by commands (`commands/`).

/** Characters of a peer id in a command. */
export const PEER_ID_CHARS_MAX = 100

/** Nodes that one FIND_NODES answers. */
export const FOUND_NODES_MAX = 20

/** Bytes of the text of one EXECUTE_TASK or INFERENCE_REQUEST; an answer that grows beyond it ends there. */
export const TASK_TEXT_BYTES_MAX = 256 * 1024

/** Tokens of the prompt of one INFERENCE_REQUEST. */
export const INFERENCE_PROMPT_TOKENS_MAX = 65_536

/** Tokens that one INFERENCE_REQUEST may make. */
export const INFERENCE_TOKENS_MAX = 4_096

/** Rows of one AUDIT_CHALLENGE. */
export const AUDIT_ROWS_MAX = 32

/** Bytes of the rows of one AUDIT_CHALLENGE: 32 rows of a model of width 32 768. */
export const AUDIT_ROWS_BYTES_MAX = 4 * 1024 * 1024

/** Piece hashes that one GET_FILE_METADATA answers: 16 GiB of a file. */
export const PIECE_HASHES_MAX = 16_384

/** Piece numbers that may be asked for: a file of 2 PiB. */
export const PIECE_NUMBER_MAX = 2 ** 31 - 1

/** Characters of a rating's comment. */
export const COMMENT_CHARS_MAX = 200

/** Longest life of a generation that a command starts, in milliseconds. */
export const TASK_DEADLINE_MS = 30 * 60_000

/** Longest LOAD_SHARD: large models come from slow disks. In milliseconds. */
export const LOAD_DEADLINE_MS = 30 * 60_000

/** Longest reading of a whole file for its hashes, in milliseconds. */
export const HASHING_DEADLINE_MS = 15 * 60_000

/** Longest look-up, in milliseconds. */
export const LOOK_UP_DEADLINE_MS = 10_000

/** Longest AUDIT_CHALLENGE, with its wait, in milliseconds. */
export const AUDIT_DEADLINE_MS = 60_000

/** Longest REQUEST_PIECE, in milliseconds. */
export const PIECE_DEADLINE_MS = 120_000

/** Longest time that a plug-in may take to load, in milliseconds. */
export const PLUGIN_LOAD_MS_MAX = 10_000

// The JSON protocol (`json/`).

/** Bytes of one JSON message, either way: a piece of 1 MiB in base64 fits. */
export const JSON_MESSAGE_BYTES_MAX = 2 * 1024 * 1024

/** Bytes of a JSON message before the peer has proved that it knows the swarm secret. */
export const JSON_UNPROVEN_BYTES_MAX = 4 * 1024

/** Bytes of an attachment that travels in base64 inside a JSON message. */
export const JSON_ATTACHMENT_BYTES_MAX = 1_280 * 1024

/** Levels of a JSON message. */
export const JSON_DEPTH_MAX = 32

/** Values of a JSON message: each costs memory many times its bytes. */
export const JSON_VALUES_MAX = 2 ** 17

/** Characters of a request's id. */
export const JSON_ID_CHARS_MAX = 64

/** Requests that one stream may have open. */
export const JSON_REQUESTS_MAX = 8

/** Bytes of the messages of the requests that one stream has open. */
export const JSON_REQUEST_BYTES_MAX = 4 * 1024 * 1024

/** Messages of one stream that ask for nothing or cannot be used; one a second is forgiven, with one more it is ended. */
export const JSON_FAULTS_MAX = 16

/** From the start of a stream to the proof of the swarm secret, in milliseconds. */
export const JSON_ADMISSION_MS_MAX = 10_000

/** From the first byte of a message to its last, in milliseconds. */
export const JSON_MESSAGE_MS_MAX = 30_000

/** How long a stream may carry nothing while no request is open, in milliseconds. */
export const JSON_IDLE_MS_MAX = 60_000

/** How long a peer may leave what was sent to it unread, in milliseconds. */
export const JSON_STALL_MS_MAX = 30_000

/** How long the other side of an ended stream may take to hear why, in milliseconds. */
export const JSON_LINGER_MS_MAX = 1_000

/** When a stream with too many open requests may try again, in milliseconds. */
export const JSON_RETRY_MS = 1_000

// Protocols of the systems before (`json/older-*.ts`).

/** Bytes of a request of such a peer: a name and a hash. */
export const OLDER_REQUEST_BYTES_MAX = 1_024

/** Pieces of 64 KiB of a file that such peers may fetch: 8 GiB, whose hashes are 9 MB of JSON. */
export const OLDER_PIECES_MAX = 131_072

/** Requests for one command by such peers, all together, that are given on at once; further ones wait their turn. */
export const OLDER_BURST = 8

/** Requests for pieces by such peers that are given on in a second: fewer than REQUEST_PIECE allows one of them. */
export const OLDER_PIECES_PER_SECOND = 4

/** Requests for any other command that are given on in a second: no more than the commands behind them allow. */
export const OLDER_PER_SECOND = 1

/** Between two looks whether it is a request's turn, in milliseconds. */
export const OLDER_TURN_MS = 250

/** How long a request of such a peer may take, its turn included, in milliseconds. */
export const OLDER_REQUEST_MS_MAX = 120_000

/** Round-trip times that a monitor is told. */
export const OLDER_LATENCIES_MAX = 100

// Finding peers.

/** How long a record that this node puts into the DHT of its swarm is good for, in milliseconds. It is put again before. */
export const KAD_RECORD_LIFE_MS = 24 * 60 * 60_000

/** How long the solution of a node's id puzzle is kept, in milliseconds. */
export const PUZZLE_KEPT_MS = 365 * 24 * 60 * 60_000

/** How long a start waits for the Mainline DHT to answer, in milliseconds. */
export const MAINLINE_JOIN_MS = 3_000

/** Time between two attempts to join the Mainline DHT where nobody of it is known, in milliseconds. */
export const MAINLINE_REJOIN_MS = 60_000

/** Contacts of the Mainline DHT that are kept for the next start. */
export const MAINLINE_CONTACTS_KEPT = 32

/** How long these are kept, in milliseconds. */
export const MAINLINE_CONTACTS_KEPT_MS = 30 * 24 * 60 * 60_000

/** Connected peers from which on one that nothing uses gives way to a newcomer: eight less than there is room for. */
export const PEERS_CROWDED = 56

// Weights of models (`weights/`).

/** Shortest beginning of a model's id that names it. */
export const MODEL_ID_PREFIX_MIN = 8

/** Share of the free memory that the weights of one trial of a model take: the rest of it is tried after that. */
export const TRIAL_MEMORY_SHARE = 0.5

/** Trials of models that wait for the one that runs. */
export const TRIALS_WAITING_MAX = 32

/** How long a trial of a model waits for those before it, in milliseconds: a large model takes minutes. */
export const TRIAL_WAIT_MS_MAX = 30 * 60_000
