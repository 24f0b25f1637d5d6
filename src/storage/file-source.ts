/** A file as a `ByteSource`: what `formats` reads models through. */
import type { BigIntStats } from 'node:fs'
import { constants, type FileHandle, open } from 'node:fs/promises'
import { resolve } from 'node:path'
import { KoinonError, messageOf } from '#base'
import { type ByteSource, type HashedFile, hashOpenFile, type HashOptions } from '#formats'
import { StorageError } from './errors.ts'

/** What tells one state of a file from another without reading it. */
export type FileStamp = {
  /** Absolute path. */
  readonly path: string
  /** Bytes. */
  readonly size: number
  /** Time of the last change, in nanoseconds since the epoch. Whoever changes the file can put it back. */
  readonly modifiedNs: bigint
  /** Time of the last change of the file or of what is known of it, in nanoseconds: nobody can put it back. */
  readonly changedNs: bigint
  /** Number of the file on its disk: another one that took its place has another. */
  readonly inode: bigint
}

export interface FileSource extends ByteSource {
  readonly stamp: FileStamp
  /** The source must stay open meanwhile. */
  hash(options?: HashOptions): Promise<HashedFile>
  /** Idempotent. Reads after it fail. */
  close(): Promise<void>
}

/**
 * Opens a regular file for reading.
 * @throws StorageError STORAGE_FILE; reads throw STORAGE_READ
 */
export async function openFileSource(path: string): Promise<FileSource> {
  const absolute = resolve(path)
  const handle = await openRegular(absolute)
  try {
    return toSource(handle, stampOf(absolute, await handle.stat({ bigint: true })))
  } catch (error) {
    await handle.close()
    throw error
  }
}

export function stampOf(path: string, stats: Pick<BigIntStats, 'size' | 'mtimeNs' | 'ctimeNs' | 'ino'>): FileStamp {
  const { size, mtimeNs, ctimeNs, ino } = stats
  return { path, size: Number(size), modifiedNs: mtimeNs, changedNs: ctimeNs, inode: ino }
}

async function openRegular(path: string): Promise<FileHandle> {
  let handle: FileHandle | undefined
  try {
    // Without O_NONBLOCK (which Windows lacks and does not need) opening a named pipe would wait for its writer.
    handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
    if ((await handle.stat()).isFile()) return handle
  } catch (error) {
    await handle?.close()
    throw new StorageError({ code: 'STORAGE_FILE', path }, `cannot open ${path}: ${reasonOf(error)}`, { cause: error })
  }
  await handle.close()
  throw new StorageError({ code: 'STORAGE_FILE', path }, `cannot open ${path}: it is not a regular file`)
}

function toSource(handle: FileHandle, stamp: FileStamp): FileSource {
  const { path, size } = stamp
  return {
    size,
    stamp,
    read: async (offset, length) => {
      // Not cleared first (that costs more than the reading): only what was read is handed out.
      const bytes = new Uint8Array(Buffer.allocUnsafeSlow(Math.max(0, Math.min(length, size - offset))).buffer)
      try {
        let done = 0
        while (done < bytes.byteLength) {
          const { bytesRead } = await handle.read(bytes, done, bytes.byteLength - done, offset + done)
          if (bytesRead === 0) break // The file became shorter since it was opened.
          done += bytesRead
        }
        return bytes.subarray(0, done)
      } catch (error) {
        throw unreadable(path, error)
      }
    },
    hash: async (options = {}) => {
      try {
        return await hashOpenFile({ descriptor: handle.fd, size }, options)
      } catch (error) {
        throw error instanceof KoinonError || error === options.signal?.reason ? error : unreadable(path, error)
      }
    },
    close: () => handle.close(),
  }
}

function unreadable(path: string, cause: unknown): StorageError {
  return new StorageError({ code: 'STORAGE_READ', path }, `cannot read ${path}: ${messageOf(cause)}`, { cause })
}

function reasonOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'ENOENT') return 'there is no such file'
  if (code === 'EACCES' || code === 'EPERM') return 'you may not read it'
  return messageOf(error)
}
