/** What the command line allows itself to wait for, read and keep. Each is listed in `docs/reference/limits.md`. */

/** Waiting for the node's socket to accept. A running node accepts within a millisecond. */
export const LOCAL_CONNECT_MS_MAX = 3_000

/** Waiting for one of the node's short answers (status, peers, models, plan, stop). */
export const LOCAL_ANSWER_MS_MAX = 30_000

/** Bytes of one short answer: 64 models or 1000 generations fit many times over. */
export const LOCAL_ANSWER_BYTES_MAX = 16 * 1024 * 1024

/** Bytes of one event of a streamed answer: logits of 260 000 tokens in base64 fit. */
export const LOCAL_EVENT_BYTES_MAX = 2 * 1024 * 1024

/** Longest that `--drain` may say, in seconds. */
export const DRAIN_S_MAX = 30

/** Waiting for a node to stop once its `--drain` is over; where it is in this process, the process ends regardless then. */
export const STOP_MS_MAX = 10_000

/** Bytes of a prompt that is read from standard input, and of a line typed or piped into a chat. */
export const PROMPT_BYTES_MAX = 1024 * 1024

/** Shortest swarm secret that is accepted, in bytes: shorter ones can be guessed. */
export const SECRET_BYTES_MIN = 16

/** Longest swarm secret that is read, in bytes. */
export const SECRET_BYTES_MAX = 1_024

/** Bytes of a file that a command for a peer brings along: in base64 it fits one request over the local socket. */
export const ATTACHMENT_BYTES_MAX = 8 * 1024 * 1024

/** Characters of a line that is typed at a question, and bytes of a file with a passphrase or a PIN. */
export const TYPED_CHARS_MAX = 4_096

/** Lines over which the words of a seed phrase may be spread. */
export const PHRASE_LINES_MAX = 24

/** Bytes of a file with settings of the network. */
export const NET_CONFIG_BYTES_MAX = 64 * 1024

/** Bytes of a .torrent file that a pull is given: in base64 it fits one request over the local socket. */
export const TORRENT_BYTES_MAX = 11 * 1024 * 1024

/** Bytes of a file with a model's benchmark results. */
export const CARD_BYTES_MAX = 64 * 1024
