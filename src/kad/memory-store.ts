/** A store that keeps nothing over a restart: for nodes without a disk, and for simulations. */
import type { Clock, KeyValueStore, StoredEntry } from '#base'
import { MEMORY_ENTRIES_MAX } from './limits.ts'

export function createMemoryStore(deps: { readonly clock: Clock }): KeyValueStore {
  /** Least recently put first. */
  const entries = new Map<string, StoredEntry>()
  const isGood = ({ expiresAt }: StoredEntry): boolean => expiresAt > deps.clock.now()
  return {
    get: key => {
      const entry = entries.get(key)
      return entry !== undefined && isGood(entry) ? entry : undefined
    },
    put: entry => {
      entries.delete(entry.key)
      entries.set(entry.key, entry)
      const [oldest] = entries.keys()
      if (entries.size > MEMORY_ENTRIES_MAX && oldest !== undefined) entries.delete(oldest)
    },
    delete: key => void entries.delete(key),
    list: (prefix, max) => {
      for (const [key, entry] of entries) if (!isGood(entry)) entries.delete(key)
      return [...entries.values()]
        .filter(({ key }) => key.startsWith(prefix))
        .sort((a, b) => b.expiresAt - a.expiresAt)
        .slice(0, max)
    },
  }
}
