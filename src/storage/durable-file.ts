/**
 * Private files that are written whole or not at all, also where the power fails. Written in two steps, so that several
 * files can be ready before the first of them takes effect.
 */
import { constants, type FileHandle, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { StorageError } from './errors.ts'

/** Others' bits of a file mode. Windows has none: there the user's profile directory protects the file. */
const OTHERS = 0o077

/** Where a file lies until it takes effect. */
export function stagedPath(path: string): string {
  return `${path}.new`
}

/** Writes the text to the disk, beside the file that it is to replace. */
export async function stageFile(path: string, text: string): Promise<void> {
  const staged = stagedPath(path)
  // A process that was killed here leaves a file behind that nobody has used: the lock says that it is nobody's now.
  await rm(staged, { force: true })
  const handle = await open(staged, 'wx', 0o600)
  try {
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Makes the staged text the file. When this resolves, it is so for good; when it rejects, the file is as it was. */
export async function commitFile(path: string): Promise<void> {
  await rename(stagedPath(path), path)
  // The file is in its place. Where directories cannot be synced (Windows, some network drives), that is all there is.
  await syncDirectory(dirname(path)).catch(() => undefined)
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY)
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

export async function discardFile(path: string): Promise<void> {
  await rm(stagedPath(path), { force: true })
}

/**
 * Reads a private file; undefined: there is none.
 * @param options.what the file's content, as the subject of a sentence
 * @returns at most `bytesMax` bytes and one more, by which the caller sees that there are too many
 * @throws StorageError STORAGE_PERMISSIONS where others can read or change it
 */
export async function readPrivateFile(
  path: string,
  options: { readonly what: string; readonly bytesMax: number },
): Promise<string | undefined> {
  const handle = await openOrUndefined(path)
  if (handle === undefined) return undefined
  try {
    const stat = await handle.stat()
    if (process.platform !== 'win32' && (stat.mode & OTHERS) !== 0) {
      throw new StorageError(
        { code: 'STORAGE_PERMISSIONS', path },
        `${options.what} can be read or changed by other users: run "chmod 600 ${path}" if you trust them, or move the file away to start with a new identity`,
      )
    }
    const bytes = new Uint8Array(options.bytesMax + 1)
    const { bytesRead } = await handle.read(bytes, 0, bytes.byteLength, 0)
    return new TextDecoder().decode(bytes.subarray(0, bytesRead))
  } finally {
    await handle.close()
  }
}

async function openOrUndefined(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, constants.O_RDONLY)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}
