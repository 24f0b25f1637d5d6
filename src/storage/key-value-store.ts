/** What the DHT keeps between runs: records of others, sequence numbers seen, addresses of peers. One bounded table. */
import type { KeyValueStore, StoredEntry } from '#base'
import { KAD_ENTRIES_KEPT_MAX, KAD_ENTRY_BYTES_MAX, KAD_ENTRY_KEY_CHARS_MAX } from './limits.ts'
import { integerOf, limitRows, prepareRead, type Row, type StoreDeps, textOf } from './rows.ts'

export function createKeyValueStore({ database, clock, guard }: StoreDeps): KeyValueStore {
  const find = prepareRead(database, 'SELECT key, value, expires_at FROM kad_entries WHERE key = ? AND expires_at > ?')
  // `GLOB` would read stars in the prefix; a comparison of the first characters reads nothing.
  const list = prepareRead(
    database,
    `SELECT key, value, expires_at FROM kad_entries WHERE substr(key, 1, length(?1)) = ?1 AND expires_at > ?2
     ORDER BY expires_at DESC LIMIT ?3`,
  )
  const upsert = database.prepare(
    `INSERT INTO kad_entries (key, value, expires_at) VALUES (?, ?, ?)
     ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at`,
  )
  const remove = database.prepare('DELETE FROM kad_entries WHERE key = ?')
  const forget = database.prepare('DELETE FROM kad_entries WHERE expires_at <= ?')
  const limit = limitRows(database, { table: 'kad_entries', firstToGo: 'expires_at', max: KAD_ENTRIES_KEPT_MAX })
  return {
    get: key =>
      guard.attempt('read what the DHT keeps', undefined, () => {
        const row = find.get(key, Math.trunc(clock.now()))
        return row === undefined ? undefined : entryOf(row)
      }),
    put: ({ key, value, expiresAt }) =>
      guard.attempt('store what the DHT keeps', undefined, () => {
        if (key.length > KAD_ENTRY_KEY_CHARS_MAX || value.byteLength > KAD_ENTRY_BYTES_MAX) return
        upsert.run(key, value, Math.trunc(expiresAt))
        limit()
      }),
    delete: key => guard.attempt('forget what the DHT kept', undefined, () => void remove.run(key)),
    list: (prefix, max) =>
      guard.attempt<StoredEntry[]>('read what the DHT keeps', [], () => {
        forget.run(Math.trunc(clock.now()))
        return list
          .all(prefix, Math.trunc(clock.now()), max)
          .map(entryOf)
          .filter(entry => entry !== undefined)
      }),
  }
}

function entryOf(row: Row): StoredEntry | undefined {
  const key = textOf(row, 'key')
  const value = row['value']
  const expiresAt = integerOf(row, 'expires_at')
  if (key === undefined || key.length > KAD_ENTRY_KEY_CHARS_MAX || expiresAt === undefined) return undefined
  if (!(value instanceof Uint8Array) || value.byteLength > KAD_ENTRY_BYTES_MAX) return undefined
  return { key, value: new Uint8Array(value), expiresAt }
}
