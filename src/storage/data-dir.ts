/**
 * A node's data directory: made private, locked against a second node, and opened as a whole.
 *
 *   lock.db, node.pid   the lock and who holds it
 *   keys/node.key       the node key, 0600
 *   keys/handovers      the statements of former keys, 0600
 *   node.db             SQLite, 0600: what a node remembers
 *   blobs/              parts of model files, opened when they are first needed
 *   node.sock           control socket (elsewhere where the path is too long; a pipe on Windows)
 */
import { mkdir, realpath, rm, stat } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, posix, win32 } from 'node:path'
import { type Clock, type Logger, messageOf, type Random, silentLogger } from '#base'
import { openBlobStore } from './blobs/blob-store.ts'
import type { BlobStore } from './blobs/types.ts'
import { StorageError } from './errors.ts'
import { createKeyStore, type KeyStore } from './key-file.ts'
import { lockDataDir } from './lock.ts'
import { type NodeStores, openNodeDatabase } from './node-database.ts'
import { prepareSocket } from './socket-path.ts'

export interface DataDir extends NodeStores {
  /** Real, absolute path. */
  readonly path: string
  /** Where the control socket is to be served. Nothing is there: what a killed node left was removed. */
  readonly socketPath: string
  readonly keys: KeyStore
  /** Parts of model files. The first call opens them. @throws StorageError STORAGE_BLOB_DISK */
  blobs(): Promise<BlobStore>
  /** Ends the audit log, closes the database and gives the lock back. Idempotent. */
  close(): Promise<void>
}

export type DataDirDeps = {
  readonly clock: Clock
  readonly random: Random
  /** Is told where the database does not take what it should. @default nobody is */
  readonly log?: Logger
}

export type DataDirOptions = {
  /** Bytes that parts of model files may take. @default BLOB_QUOTA_BYTES, 256 GiB */
  readonly blobQuotaBytes?: number
  /** Threads that verify and write them, 1 to 4. @default 1 */
  readonly blobThreads?: number
}

/**
 * Opens a data directory, and makes it (0700) where it is missing.
 * @throws StorageError STORAGE_LOCKED, STORAGE_UNUSABLE, STORAGE_PERMISSIONS, STORAGE_DATABASE
 */
export async function openDataDir(path: string, deps: DataDirDeps, options: DataDirOptions = {}): Promise<DataDir> {
  const directory = await makePrivate(path)
  const unlock = lockDataDir(directory)
  try {
    const socketPath = await prepareSocket(directory)
    if (process.platform !== 'win32') await rm(socketPath, { force: true })
    const { clock, log = silentLogger } = deps
    const { stores, close } = openNodeDatabase(join(directory, 'node.db'), { clock, log })
    const blobs = lazyBlobs(join(directory, 'blobs'), deps, options)
    return {
      path: directory,
      socketPath,
      ...stores,
      keys: createKeyStore(directory, deps),
      blobs: blobs.open,
      close: async () => {
        await blobs.close()
        await close()
        unlock()
      },
    }
  } catch (error) {
    unlock()
    throw error
  }
}

/** A blob store that nobody asks for costs nothing. */
function lazyBlobs(
  directory: string,
  deps: DataDirDeps,
  { blobQuotaBytes, blobThreads }: DataDirOptions,
): { readonly open: () => Promise<BlobStore>; readonly close: () => Promise<void> } {
  let opened: Promise<BlobStore> | undefined
  const options = {
    directory,
    ...(blobQuotaBytes === undefined ? {} : { quotaBytes: blobQuotaBytes }),
    ...(blobThreads === undefined ? {} : { threads: blobThreads }),
  }
  return {
    open: () => {
      opened ??= openBlobStore(deps, options).catch((error: unknown) => {
        opened = undefined // The disk may be back next time.
        throw error
      })
      return opened
    },
    close: async () => {
      const store = await opened?.catch(() => undefined) // Who asked for it was told.
      await store?.close()
    },
  }
}

export interface LockedKeys extends KeyStore {
  /** Gives the lock back. Idempotent. */
  close(): void
}

/**
 * The keys of a data directory, for whoever writes them while no node runs.
 * @throws StorageError STORAGE_LOCKED, STORAGE_UNUSABLE, STORAGE_PERMISSIONS
 */
export async function openKeyStore(path: string, deps: { readonly random: Random }): Promise<LockedKeys> {
  const directory = await makePrivate(path)
  const close = lockDataDir(directory)
  return Object.assign(createKeyStore(directory, deps), { close })
}

async function makePrivate(path: string): Promise<string> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 })
    const directory = await realpath(path)
    const { mode } = await stat(directory)
    if (process.platform === 'win32' || (mode & 0o022) === 0) return directory
    throw new StorageError(
      { code: 'STORAGE_PERMISSIONS', path: directory },
      `other users can write to the data directory ${directory}: run "chmod 700 ${directory}"`,
    )
  } catch (error) {
    if (error instanceof StorageError) throw error
    throw new StorageError(
      { code: 'STORAGE_UNUSABLE', path },
      `cannot use the data directory ${path}: ${messageOf(error)}`,
      { cause: error },
    )
  }
}

export type Platform = {
  readonly platform: NodeJS.Platform
  readonly env: Readonly<Record<string, string | undefined>>
  readonly home: string
}

/** Where data goes unless the user says otherwise: each platform's own place for it. */
export function defaultDataDir(
  host: Platform = { platform: process.platform, env: process.env, home: homedir() },
): string {
  const { platform, env, home } = host
  if (platform === 'win32') return win32.join(env['LOCALAPPDATA'] ?? win32.join(home, 'AppData', 'Local'), 'koinon')
  if (platform === 'darwin') return posix.join(home, 'Library', 'Application Support', 'koinon')
  const base = env['XDG_DATA_HOME']
  // The XDG specification: a relative path is to be ignored.
  return posix.join(base?.startsWith('/') === true ? base : posix.join(home, '.local', 'share'), 'koinon')
}
