/** Sizes and counts that bound what is read as keys and statements. Each is listed in `docs/reference/limits.md`. */

/** Hand-over statements in one chain: rotations that a peer is told of. */
export const CHAIN_STATEMENTS_MAX = 16

/** Bytes of one hand-over statement, two signatures included. */
export const STATEMENT_BYTES_MAX = 512

/** Bytes of a signed envelope. */
export const ENVELOPE_BYTES_MAX = 16 * 1024

/** Addresses in a peer record. */
export const RECORD_ADDRESSES_MAX = 16

/** Characters of an address in a peer record. */
export const RECORD_ADDRESS_CHARS_MAX = 300

/** How long a peer record may still be good for, in milliseconds: a month. Where peers are changes sooner. */
export const RECORD_LIFE_MS_MAX = 31 * 24 * 60 * 60 * 1000

/** Characters of a key file's text. */
export const KEY_TEXT_CHARS_MAX = 4096

/** Characters of a passphrase: with fewer a fast machine guesses it, whatever the key file costs. */
export const PASSPHRASE_CHARS_MIN = 8

/** Characters of a passphrase. */
export const PASSPHRASE_CHARS_MAX = 1024

/** KiB of memory that a key file may ask for to be decrypted: 1 GiB. */
export const KDF_MEMORY_KIB_MAX = 1024 * 1024

/** Passes over that memory that a key file may ask for. */
export const KDF_PASSES_MAX = 16

/** Lanes that a key file may ask for. */
export const KDF_LANES_MAX = 16

/** Number of the last node key of a seed phrase: rotations of one phrase. */
export const KEY_INDEX_MAX = 0xffff
