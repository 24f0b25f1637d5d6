/** Sizes and counts that bound what crosses the wire. Each is listed in `docs/reference/limits.md`. */

/** Stages in one node's offer. */
export const OFFER_STAGES_MAX = 64

/** Addresses in one node's offer. */
export const PEER_ADDRESSES_MAX = 16

/** Peers that one message may introduce. */
export const HELLO_PEERS_MAX = 50

/** Characters of the address at which a peer sees us. */
export const OBSERVED_CHARS_MAX = 100

// Frames, sessions and commands (`frame.ts`, `control-messages.ts`, `command-messages.ts`).

/** Bytes of a HELLO: the only frame whose sender nobody has checked before it is read. */
export const HELLO_FRAME_BYTES_MAX = 16 * 1024

/** Bytes of one message of the handshake: keys, a ciphertext, and hybrid signatures fit. */
export const HANDSHAKE_BYTES_MAX = 12 * 1024

/** Bytes of one message of a session, ciphertext and tag together: 64 stages and 50 peers with 16 addresses each fit. */
export const CONTROL_BYTES_MAX = 512 * 1024

/** Bytes of a session's message before the peer has proved that it belongs to the swarm. */
export const UNPROVEN_BYTES_MAX = 512

/** Bytes of one sealed frame of a stream. */
export const SEALED_BYTES_MAX = 1024 * 1024

/** Versions that one HELLO may list. */
export const VERSIONS_MAX = 16

/** Cipher suites that one HELLO may list. */
export const SUITES_MAX = 8

/** Capabilities that one HELLO may list. */
export const CAPABILITIES_MAX = 32

/** Characters of the name of a capability. */
export const CAPABILITY_CHARS_MAX = 40

/** Hand-over statements of one node: rotations that a peer is told of. */
export const HANDOVERS_MAX = 16

/** Bytes of one hand-over statement, two signatures included. */
export const HANDOVER_BYTES_MAX = 512

/** Bytes of a signed peer record. */
export const PEER_RECORD_BYTES_MAX = 6 * 1024

/** Bytes of a message's attachment that travel inside the message; a larger one is sent in chunks. */
export const INLINE_ATTACHMENT_BYTES_MAX = 64 * 1024

/** Characters of an error code. */
export const ERROR_CODE_CHARS_MAX = 64

/** Characters of an error's sentence as a peer reports it. */
export const ERROR_SENTENCE_CHARS_MAX = 500

// Coming to a direct connection (`punch-messages.ts`).

/** Bytes of one message of `/koinon/punch/1`: an ICE description with 24 candidates takes 3 KiB. */
export const PUNCH_MESSAGE_BYTES_MAX = 8 * 1024

/** Endpoints of each kind that a side may name for one attempt by TCP: what bounds whom a peer can make a node dial. */
export const PUNCH_ENDPOINTS_MAX = 4

/** Candidates of one ICE description. */
export const PUNCH_CANDIDATES_MAX = 24

/** Ports at which a node tells others where it sees them. */
export const PUNCH_PORTS_MAX = 2

// What one request to the HTTP API may hold (`openai.ts`).

/** Characters of the `model` field of a request: an id has 64, names and file names are longer. */
export const MODEL_NAME_CHARS_MAX = 300

/** Answers to one prompt (`n`): each is a generation of its own. */
export const CHOICES_MAX = 4

/** Prompts in one request: each is a generation of its own, one after the other. */
export const PROMPTS_MAX = 16

/** Messages of one chat: the body's size bounds them too, this bounds the complaints about bad ones. */
export const MESSAGES_MAX = 2048

/** Stop texts of one request: OpenAI allows 4, llama.cpp's clients send more. */
export const STOP_TEXTS_MAX = 16

/** Characters of one stop text: an answer holds back as much text as could still become one. */
export const STOP_CHARS_MAX = 1000

/** Entries of `logit_bias`: each costs a look-up at every token. */
export const LOGIT_BIASES_MAX = 1024

/** Alternatives that are reported for one token: OpenAI's bound. */
export const TOP_LOGPROBS_MAX = 20

/** Tokens that penalties look back on. */
export const PENALTY_TOKENS_MAX = 4096

/** Largest token id that a request may name; the vocabulary is checked where it is known. */
export const TOKEN_ID_MAX = 10_000_000

// The stage protocol (`stage-frames.ts`, `stage-messages.ts`).

/** Bytes of rows in one frame: larger steps are cut, so that other streams of a connection get their turn. */
export const STAGE_PART_BYTES_MAX = 64 * 1024

/** Rows of one prefill chunk. Chunks are cut at multiples of it, as llama.cpp cuts them: bits depend on it. */
export const STAGE_CHUNK_ROWS_MAX = 512

/** Rows of one decoding step: one token, or a draft of several. */
export const STAGE_DECODE_ROWS_MAX = 32

/** Bytes of the rows of one step: a full chunk of f32 rows of width 32768. */
export const STAGE_STEP_BYTES_MAX = 64 * 1024 * 1024

/** Prefill chunks of one generation that are on their way between two stages and not yet computed. */
export const STAGE_CHUNKS_IN_FLIGHT_MAX = 2

/** Bytes of one control message: an OPEN with 16 addresses takes 5 KiB. */
export const STAGE_CONTROL_BYTES_MAX = 16 * 1024

/** Characters of an error's sentence as a peer reports it. */
export const STAGE_SENTENCE_CHARS_MAX = 500

/** Positions of one generation: beyond every model there is. */
export const STAGE_POSITIONS_MAX = 10_000_000

/** Longest life that an entry may ask for: a day. */
export const GENERATION_DEADLINE_MS_MAX = 24 * 60 * 60 * 1000

// Relays (`relay-messages.ts`).

/** Bytes of one message of the relay protocol: 16 addresses of 300 characters fit. */
export const RELAY_MESSAGE_BYTES_MAX = 8 * 1024

/** Characters of the name of a region in a relay's offer. */
export const REGION_CHARS_MAX = 40

// What people write about models (`weights-schema.ts`).

/** Characters of the name that a person gives to a model. */
export const MODEL_LABEL_CHARS_MAX = 200

/** Benchmark results that come with a model. */
export const BENCHMARKS_MAX = 64

/** Characters of what somebody says along with a vote. */
export const VOTE_COMMENT_CHARS_MAX = 500
