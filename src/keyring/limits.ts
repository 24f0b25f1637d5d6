/** What is waited for and kept for keys in tokens and services. Each is listed in `docs/reference/limits.md`. */

/** Waiting for a token to open, find a key, or make one. */
export const TOKEN_OPEN_MS_MAX = 30_000

/** Waiting for one signature of a token, its turn included. */
export const TOKEN_SIGN_MS_MAX = 10_000

/** Calls that wait for their turn on one PKCS#11 module, which makes one signature at a time. */
export const TOKEN_QUEUE_MAX = 256

/** Slots that are looked at for a token. */
export const TOKEN_SLOTS_MAX = 256

/** Bytes of one attribute that is read of a token's object: a curve's name or a point. */
export const TOKEN_ATTRIBUTE_BYTES_MAX = 128

/** Waiting for a connection to the key service. */
export const KMS_CONNECT_MS_MAX = 3_000

/** Waiting for one answer of the key service. */
export const KMS_ANSWER_MS_MAX = 5_000

/** Tries of one request to the key service. */
export const KMS_TRIES_MAX = 3

/** Waiting for one signature of the key service, its turn and all tries included. */
export const KMS_SIGN_MS_MAX = 15_000

/** Requests to the key service at once. */
export const KMS_RUNNING_MAX = 8

/** Signatures that wait for their turn at the key service. */
export const KMS_QUEUE_MAX = 256

/** Bytes of the longest message that AWS KMS signs. */
export const KMS_MESSAGE_BYTES_MAX = 4_096

/** Characters of the text that says where a key lies. */
export const KEY_URI_CHARS_MAX = 2_048
