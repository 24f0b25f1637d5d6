/** Sizes and counts that bound what is kept. Each is listed in `docs/reference/limits.md`. */

/** Bytes of a key file: one key is about 120. */
export const KEY_FILE_BYTES_MAX = 4096

/** Bytes of a socket's path: Linux takes 107, macOS 103. */
export const SOCKET_PATH_BYTES_MAX = 100

/** Model ids that are remembered; the least recently used go first. */
export const MODEL_ID_CACHE_MAX = 1_000
