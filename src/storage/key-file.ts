/** The node's key on disk: made once, written whole or not at all, and never read where others could have read it. */
import { constants, type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf, type Random } from '#base'
import { createNodeIdentity, encodeKeyFile, type NodeIdentity, parseKeyFile } from '#identity'
import { StorageError } from './errors.ts'
import { KEY_FILE_BYTES_MAX } from './limits.ts'

/** Others' bits of a file mode. Windows has none: there the user's profile directory protects the file. */
const OTHERS = 0o077

/**
 * Loads the node key of a data directory, or makes one. The data directory must be locked.
 * @throws StorageError STORAGE_PERMISSIONS, STORAGE_UNUSABLE; IdentityError where the file is damaged
 */
export async function loadOrCreateKey(directory: string, random: Random): Promise<NodeIdentity> {
  const keys = join(directory, 'keys')
  const path = join(keys, 'node.key')
  try {
    await mkdir(keys, { recursive: true, mode: 0o700 })
    const text = await readKeyFile(path)
    if (text !== undefined) return parseKeyFile(text)
    const identity = await createNodeIdentity(random)
    await writeKeyFile(path, encodeKeyFile(identity))
    return identity
  } catch (error) {
    if (error instanceof Error && 'fault' in error) throw error
    throw new StorageError({ code: 'STORAGE_UNUSABLE', path }, `cannot use the key file ${path}: ${messageOf(error)}`, {
      cause: error,
    })
  }
}

async function readKeyFile(path: string): Promise<string | undefined> {
  const handle = await openOrUndefined(path)
  if (handle === undefined) return undefined
  try {
    const stat = await handle.stat()
    if (process.platform !== 'win32' && (stat.mode & OTHERS) !== 0) {
      throw new StorageError(
        { code: 'STORAGE_PERMISSIONS', path },
        `the node key can be read or changed by other users: run "chmod 600 ${path}" if you trust them, or move the file away to start with a new identity`,
      )
    }
    const bytes = new Uint8Array(KEY_FILE_BYTES_MAX)
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

async function writeKeyFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.new`
  // A process that was killed here leaves a file behind that nobody has used: the lock says that it is nobody's now.
  await rm(temporary, { force: true })
  const handle = await open(temporary, 'wx', 0o600)
  try {
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(temporary, path)
}
