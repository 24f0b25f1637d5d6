/** A small store of bytes by name, so that a module can keep things between runs without knowing where they lie. */

export type StoredEntry = {
  readonly key: string
  readonly value: Uint8Array
  /** Unix milliseconds, from when on the entry is as good as none. */
  readonly expiresAt: number
}

/**
 * Entries with an end. Bounded by who implements it: what does not fit is left out or pushes out what expires first, and
 * nothing throws, since a full disk must not stop a node.
 */
export interface KeyValueStore {
  get(key: string): StoredEntry | undefined
  put(entry: StoredEntry): void
  delete(key: string): void
  /** Entries that have not expired and whose keys begin so, those that expire last first, `max` at most. */
  list(prefix: string, max: number): StoredEntry[]
}
