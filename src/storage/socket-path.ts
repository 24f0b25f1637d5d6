/**
 * Where the node's local control socket is. The command line finds it from the data directory alone, so the place must
 * follow from the directory's path; a Unix socket's path is short, so deep directories get a private place elsewhere.
 */
import { lstat, mkdir, realpath } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { toHex } from '#base'
import { sha256 } from '#crypto'
import { StorageError } from './errors.ts'
import { SOCKET_PATH_BYTES_MAX } from './limits.ts'

/**
 * The control socket's path for a data directory: for clients, which must not make anything.
 * @throws StorageError STORAGE_PERMISSIONS where someone else could have put a socket there
 */
export async function findSocket(dataDir: string): Promise<string> {
  const directory = await realpath(dataDir).catch(() => resolve(dataDir)) // Not there yet: then no node is either.
  const path = socketPathOf(directory)
  if (isElsewhere(directory, path)) await refuseForeign(dirname(path), { isMissingFine: true })
  return path
}

/** The same for the node itself: makes the private directory where one is needed. @param directory a real path */
export async function prepareSocket(directory: string): Promise<string> {
  const path = socketPathOf(directory)
  if (isElsewhere(directory, path)) {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    await refuseForeign(dirname(path), { isMissingFine: false })
  }
  return path
}

function socketPathOf(directory: string): string {
  const name = toHex(sha256(new TextEncoder().encode(directory))).slice(0, 20)
  if (process.platform === 'win32') return `\\\\.\\pipe\\koinon-${name}`
  const inside = join(directory, 'node.sock')
  if (Buffer.byteLength(inside) <= SOCKET_PATH_BYTES_MAX) return inside
  return join(tmpdir(), `koinon-${ownUser()}`, `${name}.sock`)
}

function isElsewhere(directory: string, path: string): boolean {
  return process.platform !== 'win32' && dirname(path) !== directory
}

/** The temporary directory belongs to everybody: a directory of our name may be another user's. */
async function refuseForeign(path: string, options: { readonly isMissingFine: boolean }): Promise<void> {
  const stat = await lstat(path).catch((error: unknown) => {
    if (options.isMissingFine) return undefined
    throw error
  })
  if (stat === undefined) return
  if (stat.isDirectory() && stat.uid === ownUser() && (stat.mode & 0o077) === 0) return
  throw new StorageError(
    { code: 'STORAGE_PERMISSIONS', path },
    `${path} is not a private directory of yours, so the control socket would not be safe there: remove it, or use a --data-dir with a shorter path`,
  )
}

/** 0 on Windows, where it is never asked for. */
function ownUser(): number {
  return process.getuid?.() ?? 0
}
