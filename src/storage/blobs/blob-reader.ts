/** Reads a blob's file, which is opened when somebody first reads and may be replaced by another one. */
import { type FileHandle, open } from 'node:fs/promises'
import { messageOf } from '#base'
import { StorageError } from '../errors.ts'

export class BlobReader {
  readonly #path: string
  #handle: Promise<FileHandle> | undefined

  constructor(path: string) {
    this.#path = path
  }

  /** @throws StorageError STORAGE_READ, also where the file ends before */
  async read(position: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    try {
      this.#handle ??= open(this.#path, 'r')
      return await readFully(await this.#handle, { position, length })
    } catch (error) {
      throw unreadable(this.#path, error)
    }
  }

  /** The next reading opens the file anew. What is being read ends first. */
  async close(): Promise<void> {
    const handle = this.#handle
    this.#handle = undefined
    await handle?.then(
      opened => opened.close(),
      () => undefined, // It was not opened: its reader was told.
    )
  }
}

/** Throws what the file system throws, and where the file ends before. */
export async function readFully(
  handle: FileHandle,
  { position, length }: { readonly position: number; readonly length: number },
): Promise<Uint8Array<ArrayBuffer>> {
  // Not cleared first (that costs more than the reading): only what was read is handed out.
  const bytes = new Uint8Array(Buffer.allocUnsafeSlow(length).buffer)
  for (let done = 0; done < length; ) {
    const { bytesRead } = await handle.read(bytes, done, length - done, position + done)
    if (bytesRead === 0) throw new Error('the file became shorter')
    done += bytesRead
  }
  return bytes
}

export function unreadable(path: string, cause: unknown): StorageError {
  return new StorageError({ code: 'STORAGE_READ', path }, `cannot read ${path}: ${messageOf(cause)}`, { cause })
}

/** What is asked for is not here, or not verified. */
export function missing(path: string, why: string): StorageError {
  return new StorageError({ code: 'STORAGE_BLOB_MISSING', path }, `cannot read ${path}: ${why}`)
}
