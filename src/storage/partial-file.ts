/**
 * One attachment that arrives in chunks: its file, the running digest, and from time to time a note beside the file that
 * says how far the file is good. Runs in a thread of its own (`transfer-worker.ts`), so everything is synchronous.
 *
 * Nothing is flushed to the disk: the note has the digest of the part that it vouches for, and who goes on from it reads
 * that part again. What a loss of power took is noticed then.
 */
import { closeSync, ftruncateSync, openSync, readSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { equalInConstantTime, Sha256 } from '#crypto'
import { TRANSFER_NOTE_BYTES } from './limits.ts'
import { encodeNote, type TransferNote } from './transfer-note.ts'

/** Bytes that are read at once when a part is read again. */
const REREAD_BYTES = 1024 * 1024

/** What became of a chunk. */
export type AppendResult = 'kept' | 'wrong' | 'full' | 'failed'

/** The calls that may fail for want of space; a test stands in for them to fill a disk. */
export type DiskCalls = {
  readonly write: (handle: number, bytes: Uint8Array, position: number) => number
}

export type PartialFileOptions = {
  readonly path: string
  /** Where to write the note. Undefined: nobody goes on with this file after its end. */
  readonly notePath: string | undefined
  readonly content: Pick<TransferNote, 'peer' | 'sha256' | 'sizeBytes'>
  /** What an earlier attempt has left. */
  readonly note: TransferNote | undefined
}

const DISK: DiskCalls = { write: (handle, bytes, position) => writeSync(handle, bytes, 0, bytes.byteLength, position) }

export class PartialFile {
  readonly #options: PartialFileOptions
  readonly #disk: DiskCalls
  readonly #handle: number
  #hash = new Sha256()
  #keptBytes = 0
  #notedBytes = 0
  #broken: Exclude<AppendResult, 'kept'> | undefined

  /** Opens or makes the file (0600). Throws what the file system throws. */
  constructor(options: PartialFileOptions, disk: DiskCalls = DISK) {
    this.#options = options
    this.#disk = disk
    const note = options.note
    // What has this name and no note is nobody's.
    if (note === undefined) rmSync(options.path, { force: true })
    this.#handle = openSync(options.path, note === undefined ? 'wx+' : 'r+', 0o600)
    if (note === undefined) return
    try {
      this.#reread(note)
    } catch (error) {
      closeSync(this.#handle)
      throw error
    }
  }

  get keptBytes(): number {
    return this.#keptBytes
  }

  /** @param check the first bytes of the digest of everything up to the end of this chunk @param at Clock.now() */
  append(chunk: Uint8Array, check: Uint8Array | undefined, at: number): AppendResult {
    if (this.#broken !== undefined) return this.#broken
    try {
      for (let done = 0; done < chunk.byteLength; ) {
        done += this.#disk.write(this.#handle, chunk.subarray(done), this.#keptBytes + done)
      }
    } catch (error) {
      return this.#break(isFull(error) ? 'full' : 'failed')
    }
    // After the writing: what could not be written must not be in the digest, so that the file can go on from here.
    this.#hash.update(chunk)
    if (check !== undefined && !equalInConstantTime(check, this.#hash.snapshot().subarray(0, check.byteLength))) {
      return this.#break('wrong')
    }
    this.#keptBytes += chunk.byteLength
    if (this.#keptBytes - this.#notedBytes >= TRANSFER_NOTE_BYTES) this.#note(at)
    return 'kept'
  }

  /** Ends the file. @returns the digest of everything */
  finish(): Uint8Array<ArrayBuffer> {
    closeSync(this.#handle)
    return this.#hash.digest()
  }

  /** Ends the file, and leaves it for the next time. @returns bytes that the next time can count on */
  suspend(at: number): number {
    if (this.#broken !== 'wrong') this.#note(at)
    closeSync(this.#handle)
    return this.#notedBytes
  }

  /** Ends the file and removes it. */
  discard(): void {
    closeSync(this.#handle)
    rmSync(this.#options.path, { force: true })
    if (this.#options.notePath !== undefined) rmSync(this.#options.notePath, { force: true })
  }

  /** Writes down how far the file is good. On a full disk the note before it stays, which is true too. */
  #note(at: number): void {
    const { notePath, content } = this.#options
    if (notePath === undefined || this.#keptBytes === this.#notedBytes) return
    const note = { ...content, keptBytes: this.#keptBytes, keptSha256: this.#hash.snapshot(), at }
    const temporary = `${notePath}.new`
    try {
      writeFileSync(temporary, encodeNote(note), { mode: 0o600 })
      renameSync(temporary, notePath)
      this.#notedBytes = this.#keptBytes
    } catch {
      // As said above.
    }
  }

  #break(how: Exclude<AppendResult, 'kept'>): AppendResult {
    this.#broken = how
    // Half a chunk may be behind what is good; on a full disk its space is needed for the note.
    if (how === 'full') ftruncateSync(this.#handle, this.#keptBytes)
    return how
  }

  /** Reads what an earlier attempt has left; keeps nothing where it is not what its note says. */
  #reread(note: TransferNote): void {
    const buffer = new Uint8Array(REREAD_BYTES)
    for (let done = 0; done < note.keptBytes; ) {
      const bytes = readSync(this.#handle, buffer, 0, Math.min(REREAD_BYTES, note.keptBytes - done), done)
      if (bytes === 0) break
      this.#hash.update(buffer.subarray(0, bytes))
      done += bytes
    }
    if (equalInConstantTime(this.#hash.snapshot(), note.keptSha256)) {
      this.#keptBytes = note.keptBytes
      this.#notedBytes = note.keptBytes
    } else this.#hash = new Sha256()
  }
}

function isFull(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return code === 'ENOSPC' || code === 'EDQUOT'
}
