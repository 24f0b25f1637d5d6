/**
 * Attachments that arrive and are too large for memory: `<data-dir>/transfers/`, one file for each and a note beside it
 * (0600). An unfinished one is kept for a day, so that asking again goes on where it ended, after a restart too; the
 * name is made from the peer and the content, so that no peer can spoil or read what another has sent.
 */
import { mkdir, readdir, readFile, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { type Clock, formatBytes, type Logger, messageOf, toHex } from '#base'
import { equalInConstantTime, sha256 } from '#crypto'
import {
  type DigestedAttachment,
  type TransferContent,
  TransferError,
  type TransferSink,
  type TransferStore,
} from '#protocol'
import { attachmentOfFile } from './file-attachment.ts'
import { openFileSource } from './file-source.ts'
import { TRANSFER_KEPT_MS_MAX, TRANSFER_NOTE_TEXT_BYTES_MAX } from './limits.ts'
import { decodeNote, type TransferNote } from './transfer-note.ts'
import { TransferThread, TransferThreadError } from './transfer-thread.ts'

export type TransferFilesDeps = { readonly clock: Clock; readonly log: Logger }

export type TransferFilesOptions = {
  /** Bytes that arriving, unfinished and unreleased attachments may take together, each with its full size. */
  readonly quotaBytes: number
}

export interface TransferFiles extends TransferStore {
  /** Bytes that are taken of the quota. */
  readonly takenBytes: number
  /** Ends the thread that writes. End all sinks before. Idempotent. */
  close(): Promise<void>
}

type Entry = {
  readonly name: string
  /** What it takes of the quota. */
  bytes: number
  /** Undefined: in use. */
  note: TransferNote | undefined
}

const NOTE = '.json'
const PART = '.part'

/**
 * Opens the directory (made where it is missing, 0700) and removes what nobody can go on with.
 * @throws TransferError TRANSFER_STORE
 */
export async function openTransferFiles(
  directory: string,
  deps: TransferFilesDeps,
  options: TransferFilesOptions,
): Promise<TransferFiles> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 })
    const files = new Files(directory, deps, options)
    await files.load()
    return files
  } catch (error) {
    throw storeError(`cannot use ${directory}`, error)
  }
}

class Files implements TransferFiles {
  readonly #directory: string
  readonly #deps: TransferFilesDeps
  readonly #options: TransferFilesOptions
  readonly #thread: TransferThread
  readonly #entries = new Map<string, Entry>()
  #copies = 0

  constructor(directory: string, deps: TransferFilesDeps, options: TransferFilesOptions) {
    this.#directory = directory
    this.#deps = deps
    this.#options = options
    this.#thread = new TransferThread(deps.clock)
  }

  get takenBytes(): number {
    return [...this.#entries.values()].reduce((sum, entry) => sum + entry.bytes, 0)
  }

  /** Takes stock of what earlier runs have left. */
  async load(): Promise<void> {
    const names = new Set(await readdir(this.#directory))
    for (const file of names) {
      const name = file.endsWith(PART) ? file.slice(0, -PART.length) : undefined
      const note = name === undefined ? undefined : await this.#readNote(name)
      if (name !== undefined && note !== undefined && name === nameOf(note)) {
        this.#entries.set(name, { name, bytes: note.keptBytes, note })
      }
    }
    for (const file of names) {
      const isKept = [PART, NOTE].some(end => file.endsWith(end) && this.#entries.has(file.slice(0, -end.length)))
      if (!isKept) await rm(join(this.#directory, file), { recursive: true, force: true })
    }
    await this.#makeRoom(0, undefined)
  }

  async open(content: TransferContent): Promise<TransferSink> {
    const usual = nameOf(content)
    const existing = this.#entries.get(usual)
    // Somebody fetches the same from the same peer at this moment: a second copy, which nobody goes on with.
    const isCopy = existing !== undefined && existing.note === undefined
    const name = isCopy ? `${usual}-${this.#copies++}` : usual
    const note = isCopy ? undefined : existing?.note
    // Taken before the first wait, so that nobody else takes it meanwhile.
    const entry: Entry = { name, bytes: content.sizeBytes, note: undefined }
    this.#entries.set(name, entry)
    try {
      await this.#makeRoom(content.sizeBytes - (note?.keptBytes ?? 0), content.sizeBytes)
    } catch (error) {
      if (note === undefined) this.#entries.delete(name)
      else this.#entries.set(name, { name, bytes: note.keptBytes, note })
      throw error
    }
    try {
      return await this.#openSink(entry, { content, note, isResumable: !isCopy })
    } catch (error) {
      await this.#remove(entry)
      throw storeError('an attachment cannot be written', error)
    }
  }

  close(): Promise<void> {
    return this.#thread.close()
  }

  async #openSink(
    entry: Entry,
    options: {
      readonly content: TransferContent
      readonly note: TransferNote | undefined
      readonly isResumable: boolean
    },
  ): Promise<TransferSink> {
    const { content, note, isResumable } = options
    const { clock } = this.#deps
    const file = this.#thread.newFile()
    const path = this.#path(entry.name, PART)
    const notePath = isResumable ? this.#path(entry.name, NOTE) : undefined
    const { peer, sizeBytes } = content
    const announced = { peer, sizeBytes, sha256: content.sha256 }
    let keptBytes = await this.#thread.call(file, {
      kind: 'open',
      options: { path, notePath, content: announced, note },
    })
    let isOver = false
    const end = async (action: () => Promise<void>): Promise<void> => {
      if (isOver) return
      isOver = true
      try {
        await action()
      } catch (error) {
        this.#deps.log.warn('an unfinished attachment could not be put away', { reason: messageOf(error) })
        await this.#remove(entry)
      }
    }
    const discard = async (): Promise<void> => {
      await this.#thread.call(file, { kind: 'discard' })
      this.#entries.delete(entry.name)
    }
    return {
      get keptBytes() {
        return keptBytes
      },
      append: async (chunk, check) => {
        const size = chunk.byteLength
        const result = await this.#append(file, chunk, check)
        if (result) keptBytes += size
        return result
      },
      finish: async () => {
        if (isOver) return undefined
        isOver = true
        const digest = await this.#thread.call(file, { kind: 'finish' }).catch((error: unknown) => {
          throw storeError('an attachment cannot be finished', error)
        })
        if (keptBytes === sizeBytes && equalInConstantTime(digest, content.sha256))
          return this.#toAttachment(entry, digest)
        await this.#remove(entry)
        return undefined
      },
      suspend: () =>
        end(async () => {
          if (!isResumable || keptBytes === 0) return discard()
          const suspended = await this.#thread.call(file, { kind: 'suspend', at: clock.now() })
          const left = suspended === 0 ? undefined : await this.#readNote(entry.name)
          if (left === undefined) await this.#remove(entry)
          else Object.assign(entry, { bytes: left.keptBytes, note: left })
        }),
      discard: () => end(discard),
    }
  }

  async #append(file: number, chunk: Uint8Array<ArrayBuffer>, check: Uint8Array | undefined): Promise<boolean> {
    const neededBytes = chunk.byteLength
    let result: 'kept' | 'wrong' | 'full' | 'failed'
    try {
      result = await this.#thread.call(file, { kind: 'append', chunk, check, at: this.#deps.clock.now() })
    } catch (error) {
      throw storeError('an attachment cannot be written', error)
    }
    if (result === 'full') throw diskFull(neededBytes)
    if (result === 'failed') throw storeError('an attachment cannot be written', undefined)
    return result === 'kept'
  }

  async #toAttachment(entry: Entry, digest: Uint8Array): Promise<DigestedAttachment> {
    // Nobody goes on with what is finished: a node that is killed now removes the file at its next start.
    await rm(this.#path(entry.name, NOTE), { force: true })
    try {
      const source = await openFileSource(this.#path(entry.name, PART))
      return attachmentOfFile(source, {
        sha256: digest,
        onRelease: async () => {
          await source.close()
          await this.#remove(entry)
        },
      })
    } catch (error) {
      await this.#remove(entry)
      throw storeError('an attachment that has arrived cannot be read', error)
    }
  }

  /**
   * Forgets what is too old, and what is oldest where there is not enough room. What is about to be used is in the
   * count already.
   * @param diskBytes what has to be free on the disk @param sizeBytes what the new attachment takes of the quota
   */
  async #makeRoom(diskBytes: number, sizeBytes: number | undefined): Promise<void> {
    const { quotaBytes } = this.#options
    const now = this.#deps.clock.now()
    const kept = [...this.#entries.values()].flatMap(entry =>
      entry.note === undefined ? [] : [{ entry, at: entry.note.at }],
    )
    for (const { entry, at } of kept.sort((a, b) => a.at - b.at)) {
      // A time in the future is a clock that was wrong: it would stay for ever.
      const isOld = now - at > TRANSFER_KEPT_MS_MAX || at > now + TRANSFER_KEPT_MS_MAX
      if ((isOld || this.takenBytes > quotaBytes) && entry.note !== undefined) await this.#remove(entry)
    }
    if (sizeBytes === undefined) return
    if (this.takenBytes > quotaBytes) {
      throw new TransferError(
        { code: 'TRANSFER_QUOTA', neededBytes: sizeBytes, quotaBytes },
        `no room for an attachment of ${formatBytes(sizeBytes)}: others take what is left of ${formatBytes(quotaBytes)}`,
      )
    }
    const { bavail, bsize } = await statfs(this.#directory)
    if (bavail * bsize < diskBytes) throw diskFull(diskBytes)
  }

  async #remove(entry: Entry): Promise<void> {
    for (const end of [NOTE, PART]) await rm(this.#path(entry.name, end), { force: true }).catch(() => undefined)
    // A new attempt may have taken the name since.
    if (this.#entries.get(entry.name) === entry) this.#entries.delete(entry.name)
  }

  async #readNote(name: string): Promise<TransferNote | undefined> {
    try {
      const text = await readFile(this.#path(name, NOTE))
      return text.byteLength > TRANSFER_NOTE_TEXT_BYTES_MAX ? undefined : decodeNote(text.toString())
    } catch {
      // No note: killed before the first, or after the last byte. Either way nobody goes on with the file.
      return undefined
    }
  }

  #path(name: string, end: string): string {
    return join(this.#directory, `${name}${end}`)
  }
}

/** Fixed for a peer and a content: 32 hexadecimal digits. */
function nameOf({ peer, sha256: digest, sizeBytes }: TransferContent): string {
  return toHex(sha256(new TextEncoder().encode(`${peer} ${toHex(digest)} ${sizeBytes}`))).slice(0, 32)
}

function diskFull(neededBytes: number): TransferError {
  return new TransferError(
    { code: 'TRANSFER_DISK_FULL', neededBytes },
    `the disk of the data directory is full: ${formatBytes(neededBytes)} more are needed`,
  )
}

function storeError(what: string, cause: unknown): TransferError {
  if (cause instanceof TransferError) return cause
  const isFull =
    cause instanceof TransferThreadError && (cause.fault.errno === 'ENOSPC' || cause.fault.errno === 'EDQUOT')
  if (isFull) return diskFull(0)
  return new TransferError({ code: 'TRANSFER_STORE' }, cause === undefined ? what : `${what}: ${messageOf(cause)}`, {
    cause,
  })
}
