/** Ids of model files, which take seconds to compute, by what tells one state of a file from another. */
import type { FileStamp } from './file-source.ts'
import { MODEL_ID_CACHE_MAX } from './limits.ts'
import { prepareRead, type StoreDeps } from './rows.ts'

/** Remembers model ids by path, size, times of change and inode. */
export interface ModelIdCache {
  /** The id that was computed for this very state of the file, 64 hexadecimal digits. */
  find(stamp: FileStamp): string | undefined
  remember(stamp: FileStamp, id: string): void
}

export function createModelIdCache({ database, clock, guard }: StoreDeps): ModelIdCache {
  const find = prepareRead(
    database,
    'SELECT id FROM model_ids WHERE path = ? AND size = ? AND modified_ns = ? AND changed_ns = ? AND inode = ?',
  )
  const touch = database.prepare('UPDATE model_ids SET used_at = ? WHERE path = ?')
  const insert = database.prepare('INSERT OR REPLACE INTO model_ids VALUES (?, ?, ?, ?, ?, ?, ?)')
  const prune = database.prepare(
    'DELETE FROM model_ids WHERE path NOT IN (SELECT path FROM model_ids ORDER BY used_at DESC LIMIT ?)',
  )
  return {
    find: stamp =>
      guard.attempt('look up the id of a model file', undefined, () => {
        const id = find.get(...valuesOf(stamp))?.['id']
        if (typeof id !== 'string') return undefined
        touch.run(clock.now(), stamp.path)
        return id
      }),
    remember: (stamp, id) =>
      guard.attempt('remember the id of a model file', undefined, () => {
        insert.run(...valuesOf(stamp), id, clock.now())
        prune.run(MODEL_ID_CACHE_MAX)
      }),
  }
}

function valuesOf({ path, size, modifiedNs, changedNs, inode }: FileStamp): [string, number, string, string, string] {
  return [path, size, String(modifiedNs), String(changedNs), String(inode)]
}
