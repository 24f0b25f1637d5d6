/**
 * One node per data directory. The lock is an exclusive transaction on an otherwise empty SQLite file: SQLite takes it
 * as a lock of the operating system on Linux, macOS and Windows alike, so it is gone the moment that its process ends,
 * however it ends. A file with a process id alone would outlive `kill -9`, and ids are used again.
 *
 * `node.pid` beside it only tells people who holds the lock. Nothing else may open `lock.db`: on POSIX, closing any
 * handle to a file drops its process's locks on it.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { messageOf } from '#base'
import { StorageError } from './errors.ts'

/** SQLite's primary result code for a file that another connection has locked. */
const SQLITE_BUSY = 5

/** Takes the lock of a data directory. @returns what gives it back @throws StorageError STORAGE_LOCKED, STORAGE_UNUSABLE */
export function lockDataDir(directory: string): () => void {
  const pidFile = join(directory, 'node.pid')
  const database = openLockFile(directory)
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE')
  } catch (error) {
    database.close()
    if (!isBusy(error)) throw unusable(directory, error)
    const pid = lockHolder(directory)
    throw new StorageError(
      { code: 'STORAGE_LOCKED', path: directory, pid },
      `another node${pid === 0 ? '' : ` (process ${pid})`} uses the data directory ${directory}: stop it, or give this one another --data-dir`,
      { cause: error },
    )
  }
  try {
    writeFileSync(pidFile, `${process.pid}\n`, { mode: 0o600 })
  } catch (error) {
    database.close()
    throw unusable(directory, error)
  }
  return () => {
    if (!database.isOpen) return
    rmSync(pidFile, { force: true })
    database.close()
  }
}

function openLockFile(directory: string): DatabaseSync {
  try {
    return new DatabaseSync(join(directory, 'lock.db'), { timeout: 0 })
  } catch (error) {
    throw unusable(directory, error)
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && (Number(error.errcode) & 0xff) === SQLITE_BUSY
}

/**
 * The process that has the lock of a data directory, by the id that it goes by itself; 0: nobody. One that was killed
 * still stands there.
 */
export function lockHolder(directory: string): number {
  try {
    const pid = Number(readFileSync(join(directory, 'node.pid'), 'utf8').slice(0, 20).trim())
    return Number.isSafeInteger(pid) ? pid : 0
  } catch {
    return 0 // The holder has not written it yet, or has just removed it: the lock is what counts.
  }
}

function unusable(directory: string, cause: unknown): StorageError {
  return new StorageError(
    { code: 'STORAGE_UNUSABLE', path: directory },
    `cannot use the data directory ${directory}: ${messageOf(cause)}`,
    { cause },
  )
}
