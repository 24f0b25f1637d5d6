/** The journal of one blob on the disk: read once, then appended to, and replaced where claims are to go. Synchronous. */
import {
  closeSync,
  constants,
  fdatasyncSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { concatBytes } from '#base'
import { JOURNAL_BYTES_MAX, JOURNAL_SLACK_BYTES } from '../limits.ts'
import type { BlockMap } from './block-map.ts'
import { type BlobDisk, isFull, writeAll } from './disk.ts'
import {
  BOOT_TAG_BYTES,
  decodeHead,
  decodeRecords,
  encodeHead,
  encodeRecord,
  JOURNAL_RECORD_BYTES,
  type JournalContext,
  type JournalRecord,
} from './journal.ts'
import type { BlobName } from './types.ts'

/** No run of the machine has this tag. */
const NO_BOOT = new Uint8Array(BOOT_TAG_BYTES)

export class BlobJournal {
  readonly #path: string
  readonly #name: BlobName
  readonly #context: JournalContext
  readonly #disk: BlobDisk
  #handle = -1
  #bytes = 0
  #replacedAtBytes = 0
  /** Counts replacements: a place in an earlier journal says nothing about this one. */
  #epoch = 0

  constructor(
    options: { readonly path: string; readonly name: BlobName; readonly bootTag: Uint8Array },
    disk: BlobDisk,
  ) {
    this.#path = options.path
    this.#name = options.name
    this.#context = { root: options.name.root, bootTag: options.bootTag }
    this.#disk = disk
  }

  get epoch(): number {
    return this.#epoch
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Whether replacing it would make it much shorter. */
  get isLong(): boolean {
    return this.#bytes > 2 * this.#replacedAtBytes + JOURNAL_SLACK_BYTES
  }

  /** Writes what is here now in the place of all that was claimed. Durable when it returns. Throws what the file system throws. */
  replace(blocks: BlockMap, unsynced: ReadonlySet<number>): void {
    const bytes = this.#encode(blocks, unsynced)
    const temporary = `${this.#path}.new`
    let handle: number
    try {
      handle = this.#writeNew(temporary, bytes)
    } catch (error) {
      rmSync(temporary, { force: true })
      if (!isFull(error)) throw error
      handle = this.#writeInPlace(bytes)
    }
    if (handle !== this.#handle && this.#handle >= 0) closeSync(this.#handle)
    this.#handle = handle
    this.#bytes = bytes.byteLength
    this.#replacedAtBytes = bytes.byteLength
    this.#epoch++
  }

  /** Throws what the file system throws; then nothing of it is in the journal. */
  append(record: JournalRecord): void {
    try {
      writeAll(this.#disk, { handle: this.#handle, position: this.#bytes }, encodeRecord(record, this.#context))
      this.#bytes += JOURNAL_RECORD_BYTES
    } catch (error) {
      ftruncateSync(this.#handle, this.#bytes)
      throw error
    }
  }

  get handle(): number {
    return this.#handle
  }

  close(): void {
    if (this.#handle >= 0) closeSync(this.#handle)
    this.#handle = -1
  }

  #writeNew(temporary: string, bytes: Uint8Array): number {
    rmSync(temporary, { force: true })
    const handle = openSync(temporary, 'wx+', 0o600)
    try {
      writeAll(this.#disk, { handle, position: 0 }, bytes)
      fdatasyncSync(handle)
      renameSync(temporary, this.#path)
      syncDirectory(dirname(this.#path))
      return handle
    } catch (error) {
      closeSync(handle)
      throw error
    }
  }

  /**
   * On a full disk there may be no space for a second journal, and pieces are dropped just to get some. Who is killed in
   * the middle of this loses claims; none is made that was not there before, because nothing is given back until it is done.
   */
  #writeInPlace(bytes: Uint8Array): number {
    // It is not open yet where a blob is opened while the disk is full.
    const handle = this.#handle >= 0 ? this.#handle : openSync(this.#path, 'r+')
    try {
      ftruncateSync(handle, 0)
      writeAll(this.#disk, { handle, position: 0 }, bytes)
      fdatasyncSync(handle)
      return handle
    } catch (error) {
      if (handle !== this.#handle) closeSync(handle)
      throw error
    }
  }

  #encode(blocks: BlockMap, unsynced: ReadonlySet<number>): Uint8Array {
    const parts: Uint8Array[] = [encodeHead(this.#name)]
    const synced = { ...this.#context, bootTag: NO_BOOT }
    for (const record of recordsOf(blocks, piece => !unsynced.has(piece))) parts.push(encodeRecord(record, synced))
    const offset = (parts.length - 1) * JOURNAL_RECORD_BYTES + (parts[0]?.byteLength ?? 0)
    parts.push(encodeRecord({ kind: 'synced', offset }, this.#context))
    for (const record of recordsOf(blocks, piece => unsynced.has(piece))) {
      parts.push(encodeRecord(record, this.#context))
    }
    return concatBytes(parts)
  }
}

/** What is claimed of the pieces that are chosen, in few records. */
function* recordsOf(blocks: BlockMap, isChosen: (piece: number) => boolean): Generator<JournalRecord, void> {
  let run: { readonly piece: number; count: number } | undefined
  for (const piece of blocks.whole.numbers()) {
    if (!isChosen(piece)) continue
    if (run !== undefined && run.piece + run.count === piece) run.count++
    else {
      if (run !== undefined) yield { kind: 'pieces', ...run }
      run = { piece, count: 1 }
    }
  }
  if (run !== undefined) yield { kind: 'pieces', ...run }
  for (const [piece, mask] of blocks.partial) if (isChosen(piece)) yield { kind: 'blocks', piece, mask }
}

/** Where directories cannot be synced (Windows, some network drives), the renaming is all there is. */
function syncDirectory(path: string): void {
  try {
    const handle = openSync(path, constants.O_RDONLY)
    try {
      fsyncSync(handle)
    } finally {
      closeSync(handle)
    }
  } catch {
    // As said above.
  }
}

/** What a journal says of a file, from reading it alone. */
export type ReadJournal = {
  readonly name: BlobName
  readonly claims: ReturnType<typeof decodeRecords>
  /** Time of its last change, in milliseconds since the epoch. */
  readonly changedAtMs: number
}

/** @returns undefined: there is none, or it is damaged */
export function readJournal(path: string, bootTag: Uint8Array): ReadJournal | undefined {
  try {
    const stats = statSync(path)
    if (!stats.isFile() || stats.size > JOURNAL_BYTES_MAX) return undefined
    const bytes = new Uint8Array(readFileSync(path))
    const name = decodeHead(bytes)
    if (name === undefined) return undefined
    return { name, claims: decodeRecords(bytes, { root: name.root, bootTag }), changedAtMs: stats.mtimeMs }
  } catch {
    // Not readable is as good as not there: what it claimed is fetched again.
    return undefined
  }
}
