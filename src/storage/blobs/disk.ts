/** What a blob asks of the file system that may fail for want of space, or that a platform may lack. Tests stand in for it. */
import { write, writeSync } from 'node:fs'
import { promisify } from 'node:util'
import koffi from 'koffi'

export type BlobDisk = {
  /** @returns bytes written */
  readonly write: (handle: number, bytes: Uint8Array, position: number) => number
  /** The same, by another thread. */
  readonly writeAside: (handle: number, bytes: Uint8Array, position: number) => Promise<number>
  /** Gives the space of a range back, which reads as zeros then. @returns false: this file system cannot */
  readonly punch: (handle: number, offset: number, length: number) => boolean
}

/** FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE of linux/falloc.h. */
const PUNCH_HOLE = 0x01 | 0x02

type Fallocate = (...numbers: [handle: number, mode: number, offset: number, length: number]) => number

let fallocate: Fallocate | undefined

/** Node has no call for this. The function is taken from the libc that Node itself runs on, whichever that is. */
function loadFallocate(): Fallocate {
  fallocate ??= koffi.load(null).func('int fallocate(int, int, int64_t, int64_t)')
  return fallocate
}

function punch(handle: number, offset: number, length: number): boolean {
  if (process.platform !== 'linux' || process.arch === 'arm' || process.arch === 'ia32') return false
  try {
    return loadFallocate()(handle, PUNCH_HOLE, offset, length) === 0
  } catch {
    // A libc without it: then what is kept is copied to a new file.
    return false
  }
}

const writeSoon = promisify(write)

export const DISK: BlobDisk = {
  write: (handle, bytes, position) => writeSync(handle, bytes, 0, bytes.byteLength, position),
  writeAside: async (handle, bytes, position) =>
    (await writeSoon(handle, bytes, 0, bytes.byteLength, position)).bytesWritten,
  punch,
}

/** Writes all of it. Throws what the file system throws. */
export function writeAll(
  disk: BlobDisk,
  { handle, position }: { readonly handle: number; readonly position: number },
  bytes: Uint8Array,
): void {
  for (let done = 0; done < bytes.byteLength; ) {
    done += disk.write(handle, bytes.subarray(done), position + done)
  }
}

/** The same, by another thread. Rejects with what the file system says. */
export async function writeAllAside(
  disk: BlobDisk,
  { handle, position }: { readonly handle: number; readonly position: number },
  bytes: Uint8Array,
): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    done += await disk.writeAside(handle, bytes.subarray(done), position + done)
  }
}

/** Whether the disk, or what this user may have of it, is full. */
export function isFull(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return code === 'ENOSPC' || code === 'EDQUOT'
}
