/** `node.db`: what a node remembers between runs. So far: the ids of model files, which take seconds to compute. */
import { DatabaseSync } from 'node:sqlite'
import type { Clock } from '#base'
import { messageOf } from '#base'
import { StorageError } from './errors.ts'
import type { FileStamp } from './file-source.ts'
import { MODEL_ID_CACHE_MAX } from './limits.ts'

/** Remembers model ids by path, size and time of change. */
export interface ModelIdCache {
  /** The id that was computed for this very state of the file, 64 hexadecimal digits. */
  find(stamp: FileStamp): string | undefined
  remember(stamp: FileStamp, id: string): void
}

export interface NodeDatabase {
  readonly modelIds: ModelIdCache
  close(): void
}

/** Each step leads from the version of its index to the next; SQLite keeps the version in the file's header. */
const MIGRATIONS: readonly string[] = [
  `CREATE TABLE model_ids (
     path TEXT PRIMARY KEY,
     size INTEGER NOT NULL,
     modified_ns TEXT NOT NULL,
     id TEXT NOT NULL,
     used_at INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID`,
]

/** @throws StorageError STORAGE_DATABASE */
export function openNodeDatabase(path: string, clock: Clock): NodeDatabase {
  let database: DatabaseSync | undefined
  try {
    database = new DatabaseSync(path)
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')
    migrate(database, path)
    const open = database
    return { modelIds: createModelIdCache(open, clock), close: () => void (open.isOpen && open.close()) }
  } catch (error) {
    database?.close()
    if (error instanceof StorageError) throw error
    throw new StorageError(
      { code: 'STORAGE_DATABASE', path },
      `cannot use ${path}: ${messageOf(error)}. It can be moved away; the node then starts with an empty one`,
      { cause: error },
    )
  }
}

function migrate(database: DatabaseSync, path: string): void {
  const version = Number(database.prepare('PRAGMA user_version').get()?.['user_version'] ?? 0)
  if (version > MIGRATIONS.length) {
    throw new StorageError(
      { code: 'STORAGE_DATABASE', path },
      `${path} has version ${version}, but this program knows version ${MIGRATIONS.length}: update it`,
    )
  }
  for (const [index, step] of MIGRATIONS.entries()) {
    if (index < version) continue
    database.exec(`BEGIN; ${step}; PRAGMA user_version = ${index + 1}; COMMIT`)
  }
}

function createModelIdCache(database: DatabaseSync, clock: Clock): ModelIdCache {
  const find = database.prepare('SELECT id FROM model_ids WHERE path = ? AND size = ? AND modified_ns = ?')
  const touch = database.prepare('UPDATE model_ids SET used_at = ? WHERE path = ?')
  const insert = database.prepare('INSERT OR REPLACE INTO model_ids VALUES (?, ?, ?, ?, ?)')
  const prune = database.prepare(
    'DELETE FROM model_ids WHERE path NOT IN (SELECT path FROM model_ids ORDER BY used_at DESC LIMIT ?)',
  )
  return {
    find: ({ path, size, modifiedNs }) => {
      const id = find.get(path, size, String(modifiedNs))?.['id']
      if (typeof id !== 'string') return undefined
      touch.run(clock.now(), path)
      return id
    },
    remember: ({ path, size, modifiedNs }, id) => {
      insert.run(path, size, String(modifiedNs), id, clock.now())
      prune.run(MODEL_ID_CACHE_MAX)
    },
  }
}
