/**
 * A user's file of which size, time and inode are as they were, and ctime is not. A new link, other rights or a name that was
 * changed and changed back do that; so does whoever edits the file and puts its time back. Only reading it tells.
 */
import { stat } from 'node:fs/promises'
import { type Clock, sleep } from '#base'
import { equalInConstantTime } from '#crypto'
import { hashSource } from '#formats'
import { type FileStamp, openFileSource, stampOf } from '../file-source.ts'
import { ADOPTED_RECHECK_MS, ADOPTED_RECHECKS_MAX } from '../limits.ts'

export function isSame(a: FileStamp, b: FileStamp): boolean {
  return mayBeSame(a, b) && a.changedNs === b.changedNs
}

/** All that can be told without reading it, but ctime. */
export function mayBeSame(a: FileStamp, b: FileStamp): boolean {
  return a.size === b.size && a.modifiedNs === b.modifiedNs && a.inode === b.inode
}

/**
 * Hashes the file again; once more where somebody touches it meanwhile, but not for ever.
 * @returns its stamp now; undefined: it is another file, or is not left alone @throws StorageError STORAGE_FILE, STORAGE_READ; the signal's reason
 */
export async function recheck(
  { clock }: { readonly clock: Clock },
  { stamp, root, signal }: { readonly stamp: FileStamp; readonly root: Uint8Array; readonly signal: AbortSignal },
): Promise<FileStamp | undefined> {
  for (let tries = 0; tries < ADOPTED_RECHECKS_MAX; tries++) {
    const source = await openFileSource(stamp.path)
    try {
      if (!mayBeSame(source.stamp, stamp)) return undefined
      const { tree } = await hashSource(source, { signal })
      if (!equalInConstantTime(tree.root, root)) return undefined
    } finally {
      await source.close()
    }
    const now = stampOf(stamp.path, await stat(stamp.path, { bigint: true }))
    if (isSame(now, source.stamp)) return now
    await sleep(clock, ADOPTED_RECHECK_MS, { signal })
  }
  return undefined
}
