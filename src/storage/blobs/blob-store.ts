/**
 * The blobs of a data directory: `<data-dir>/blobs/<root>/`, one directory each (`docs/reference/blobs.md`). Files of the
 * user's are listed here too, with their hashes, and stay where they are.
 */
import { mkdir, readdir, rm, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { type Clock, fromHex, type Logger, messageOf, type Random, silentLogger, toHex } from '#base'
import { equalInConstantTime } from '#crypto'
import { type HashedFile, hashSource } from '#formats'
import { StorageError } from '../errors.ts'
import { openFileSource } from '../file-source.ts'
import { BLOB_BYTES_MAX, BLOB_QUOTA_BYTES, BLOB_THREADS_MAX, BLOBS_MAX } from '../limits.ts'
import { AdoptedBlob, type AdoptedDeps, changed } from './adopted-blob.ts'
import { readAdoption } from './adoption.ts'
import { readJournal } from './blob-journal.ts'
import { BlobThread } from './blob-thread.ts'
import { BlockMap } from './block-map.ts'
import { bootTag } from './boot.ts'
import { BufferPool } from './buffer-pool.ts'
import { HeldBudget } from './held-blocks.ts'
import { claimsOf } from './journal-claims.ts'
import { Quota } from './quota.ts'
import { isSame } from './recheck.ts'
import { StoredBlob } from './stored-blob.ts'
import type { Blob, BlobFacts, BlobName, BlobStore } from './types.ts'

export type BlobStoreDeps = {
  readonly clock: Clock
  readonly random: Random
  /** @default silent */
  readonly log?: Logger
}

export type BlobStoreOptions = {
  /** Made (0700) where it is missing. Nobody else may use it meanwhile. */
  readonly directory: string
  /** @default BLOB_QUOTA_BYTES */
  readonly quotaBytes?: number
  /** Threads that verify and write, 1 to 4. @default 1 */
  readonly threads?: number
}

/** A blob that is on the disk and was not opened yet. */
type Closed = { readonly kind: 'closed'; readonly facts: BlobFacts; readonly usedAt: number }
type Entry =
  | Closed
  | { readonly kind: 'stored'; readonly blob: StoredBlob }
  | { readonly kind: 'adopted'; readonly blob: AdoptedBlob }

const DIRECTORY = /^[0-9a-f]{64}$/

/** Reads what is there; hashes nothing yet. @throws StorageError STORAGE_BLOB_DISK */
export async function openBlobStore(deps: BlobStoreDeps, options: BlobStoreOptions): Promise<BlobStore> {
  const directory = resolve(options.directory)
  const tag = bootTag(deps.random)
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 })
    const entries = new Map<string, Closed>()
    for (const name of (await readdir(directory)).filter(entry => DIRECTORY.test(entry))) {
      const found = await look(join(directory, name), tag)
      if (found !== undefined && found.facts.root === name) entries.set(name, found)
    }
    return new Store(deps, { ...options, directory, bootTag: tag, entries })
  } catch (error) {
    throw onDisk(directory, error)
  }
}

/** What a blob's directory says. @returns undefined: nothing that can be used */
async function look(directory: string, tag: Uint8Array): Promise<Closed | undefined> {
  const adoption = await readAdoption(directory)
  if (adoption !== undefined) {
    const { root, length } = adoption.name
    const path = adoption.stamp.path
    return { kind: 'closed', facts: { root: toHex(root), length, heldBytes: length, path, isAdopted: true }, usedAt: 0 }
  }
  const journal = readJournal(join(directory, 'journal'), tag)
  if (journal === undefined || journal.name.length > BLOB_BYTES_MAX) return undefined
  const { root, length } = journal.name
  const blocks = new BlockMap(length)
  for (const [piece, { claimed }] of claimsOf(journal.claims.records, blocks)) blocks.add(piece, claimed)
  const facts = { root: toHex(root), length, heldBytes: blocks.bytes, path: join(directory, 'data'), isAdopted: false }
  return { kind: 'closed', facts, usedAt: journal.changedAtMs }
}

class Store implements BlobStore {
  readonly #deps: BlobStoreDeps
  readonly #directory: string
  readonly #bootTag: Uint8Array
  readonly #quota: Quota
  readonly #held = new HeldBudget()
  readonly #pool = new BufferPool()
  readonly #threads: readonly BlobThread[]
  readonly #entries: Map<string, Entry>
  readonly #adopted: AdoptedDeps
  /** One user's file is read again at a time: the end of the last one. */
  #lastRecheck: Promise<void> = Promise.resolve()
  /** One change of the list at a time: the end of the last one. */
  #last: Promise<unknown> = Promise.resolve()
  #ticks: number
  #closing: Promise<void> | undefined

  constructor(
    deps: BlobStoreDeps,
    options: BlobStoreOptions & { readonly bootTag: Uint8Array; readonly entries: Map<string, Closed> },
  ) {
    this.#deps = deps
    const { clock, log = silentLogger } = deps
    this.#adopted = { clock, log, inTurn: action => (this.#lastRecheck = this.#lastRecheck.then(action)) }
    this.#directory = options.directory
    this.#bootTag = options.bootTag
    this.#quota = new Quota(options.quotaBytes ?? BLOB_QUOTA_BYTES)
    const threads = Math.max(1, Math.min(options.threads ?? 1, BLOB_THREADS_MAX))
    this.#threads = Array.from({ length: threads }, () => new BlobThread(this.#pool))
    this.#entries = new Map(options.entries)
    // Uses of an earlier run are known by the time of the journal's last change: those of this one come after.
    this.#ticks = Math.max(0, ...[...options.entries.values()].map(entry => entry.usedAt))
    for (const { facts } of options.entries.values()) if (!facts.isAdopted) this.#quota.count(facts.heldBytes)
  }

  open(file: BlobName): Promise<Blob> {
    return this.#alone(() => this.#open(file))
  }

  adopt(path: string, file: BlobName, hashed?: HashedFile): Promise<Blob> {
    return this.#alone(() => this.#adopt(resolve(path), file, hashed))
  }

  list(): readonly BlobFacts[] {
    return [...this.#entries.values()].map(entry => {
      if (entry.kind === 'closed') return entry.facts
      const { root, length, heldBytes, path } = entry.blob
      return { root: toHex(root), length, heldBytes, path, isAdopted: entry.kind === 'adopted' }
    })
  }

  usage(): { readonly bytes: number; readonly pinnedBytes: number; readonly quotaBytes: number } {
    const { bytes, limitBytes: quotaBytes } = this.#quota
    return { bytes, pinnedBytes: this.#pinnedBytes(), quotaBytes }
  }

  makeRoom(bytes: number): Promise<boolean> {
    return this.#alone(async () => {
      const hasRoom = (): boolean => this.#quota.freeBytes >= bytes
      if (hasRoom()) return true
      if (this.#quota.freeBytes + this.#quota.bytes - this.#pinnedBytes() < bytes) return false
      for (const entry of this.#entries.values()) {
        if (entry.kind === 'closed' && !entry.facts.isAdopted) await this.#open(nameOf(entry.facts))
      }
      for (const [blob, pieces] of this.#leastUsed(bytes - this.#quota.freeBytes)) await blob.dropAll(pieces)
      return hasRoom()
    })
  }

  remove(root: string): Promise<number> {
    return this.#alone(() => this.#remove(root))
  }

  takeBuffer(length: number): Uint8Array<ArrayBuffer> {
    return this.#pool.take(length)
  }

  close(): Promise<void> {
    this.#closing ??= this.#alone(async () => {
      for (const entry of this.#entries.values()) {
        // What could not be synced is hashed again at the next start.
        if (entry.kind === 'stored') await entry.blob.end('close').catch(() => 0)
        else if (entry.kind === 'adopted') await entry.blob.close()
      }
      await Promise.all(this.#threads.map(thread => thread.close()))
    })
    return this.#closing
  }

  #alone<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#last.then(action)
    this.#last = result.catch(() => undefined) // Its caller is told; the next one does not care.
    return result
  }

  async #open(file: BlobName): Promise<Blob> {
    const root = toHex(file.root)
    this.#refuseClosed()
    this.#refuseTooLarge(file, root)
    const entry = this.#entries.get(root)
    if (entry?.kind === 'stored' && entry.blob.length === file.length) return entry.blob
    if (entry?.kind === 'adopted' && entry.blob.length === file.length && (await entry.blob.isUnchanged()))
      return entry.blob
    if (entry?.kind === 'closed' && entry.facts.isAdopted) {
      const adopted = await this.#reopen(root, file)
      if (adopted !== undefined) return adopted
    }
    // Another length, or a file of the user's that is another one now: what is known of it is of no use.
    if (entry !== undefined && (entry.kind !== 'closed' || entry.facts.isAdopted)) await this.#remove(root)
    return this.#openStored(root, file)
  }

  /** A file that was adopted in an earlier run. @returns undefined: it has changed, or its hashes are gone */
  async #reopen(root: string, file: BlobName): Promise<AdoptedBlob | undefined> {
    const directory = join(this.#directory, root)
    const adoption = await readAdoption(directory)
    if (adoption === undefined || adoption.name.length !== file.length) return undefined
    const blob = await AdoptedBlob.open(this.#adopted, directory, adoption).catch(() => undefined) // As the first line says.
    if (blob === undefined) return undefined
    if (await blob.isUnchanged()) return this.#keep(root, { kind: 'adopted', blob })
    await blob.close()
    return undefined
  }

  async #openStored(root: string, name: BlobName): Promise<StoredBlob> {
    const before = this.#entries.get(root)
    const directory = join(this.#directory, root)
    const thread = this.#threads[this.#entries.size % this.#threads.length] ?? new BlobThread(this.#pool)
    const number = thread.newBlob()
    try {
      const state = await thread.call(number, { kind: 'open', options: { directory, name, bootTag: this.#bootTag } })
      if (before?.kind === 'closed') this.#quota.count(-before.facts.heldBytes)
      const { clock } = this.#deps
      const deps = { clock, thread, quota: this.#quota, held: this.#held, tick: () => ++this.#ticks }
      const usedAt = before?.kind === 'closed' ? before.usedAt : 0
      return this.#keep(root, {
        kind: 'stored',
        blob: new StoredBlob(deps, { name, directory, number, state, usedAt }),
      })
    } catch (error) {
      throw onDisk(directory, error)
    }
  }

  async #adopt(path: string, file: BlobName, hashed: HashedFile | undefined): Promise<Blob> {
    const root = toHex(file.root)
    this.#refuseClosed()
    this.#refuseTooLarge(file, root)
    const source = await openFileSource(path)
    try {
      const { stamp } = source
      if (stamp.size !== file.length) throw changed(path)
      const directory = join(this.#directory, root)
      const earlier = await readAdoption(directory)
      if (earlier?.stamp.path === path && isSame(earlier.stamp, stamp)) {
        const blob = await this.#open(file)
        if (blob.path === path) return blob
      }
      const entry = this.#entries.get(root)
      // It may be that it has to be read again: then that is under way.
      const isHere = hashed === undefined && entry?.kind === 'adopted' && entry.blob.path === path
      if (isHere && (await entry.blob.isUnchanged())) return entry.blob
      const found = hashed ?? (await hashSource(source))
      if (!equalInConstantTime(found.tree.root, file.root)) throw changed(path)
      await this.#remove(root)
      const adoption = { name: file, stamp }
      await AdoptedBlob.keepHashes(directory, adoption, found)
      const blob = await AdoptedBlob.open(this.#adopted, directory, adoption)
      if (blob === undefined) throw new Error('its hashes were not kept')
      return this.#keep(root, { kind: 'adopted', blob })
    } catch (error) {
      throw error instanceof StorageError ? error : onDisk(path, error)
    } finally {
      await source.close()
    }
  }

  async #remove(root: string): Promise<number> {
    this.#refuseClosed()
    if (!DIRECTORY.test(root)) return 0
    const directory = join(this.#directory, root)
    const entry = this.#entries.get(root)
    if (entry !== undefined && entry.kind !== 'closed' && !entry.blob.pins.isEmpty) {
      throw new StorageError({ code: 'STORAGE_BLOB_PINNED', path: entry.blob.path }, `${entry.blob.path} is in use`)
    }
    try {
      let freedBytes = 0
      if (entry?.kind === 'stored') freedBytes = await entry.blob.end('remove')
      else if (entry?.kind === 'adopted') await entry.blob.close()
      else
        freedBytes = await stat(join(directory, 'data')).then(
          ({ blocks }) => blocks * 512,
          () => 0,
        )
      if (entry?.kind === 'closed' && !entry.facts.isAdopted) this.#quota.count(-entry.facts.heldBytes)
      this.#entries.delete(root)
      await rm(directory, { recursive: true, force: true })
      return freedBytes
    } catch (error) {
      throw onDisk(directory, error)
    }
  }

  #keep<B extends StoredBlob | AdoptedBlob>(
    root: string,
    entry: { readonly kind: 'stored' | 'adopted'; readonly blob: B },
  ): B {
    this.#entries.set(root, entry as Entry)
    return entry.blob
  }

  #pinnedBytes(): number {
    let bytes = 0
    for (const entry of this.#entries.values()) if (entry.kind === 'stored') bytes += entry.blob.pinnedBytes
    return bytes
  }

  /** Pieces that may go, of each blob, those used the longest time ago first, until so many bytes are together. */
  #leastUsed(bytes: number): Map<StoredBlob, number[]> {
    const all = [...this.#entries.values()].flatMap(entry =>
      entry.kind === 'stored' ? [...entry.blob.droppable()].map(piece => ({ ...piece, blob: entry.blob })) : [],
    )
    const chosen = new Map<StoredBlob, number[]>()
    let sum = 0
    for (const { blob, piece, bytes: size } of all.toSorted((a, b) => a.usedAt - b.usedAt)) {
      if (sum >= bytes) break
      sum += size
      const pieces = chosen.get(blob)
      if (pieces === undefined) chosen.set(blob, [piece])
      else pieces.push(piece)
    }
    return chosen
  }

  #refuseTooLarge({ root, length }: BlobName, hex: string): void {
    const isFile = Number.isSafeInteger(length) && length >= 1 && root.byteLength === 32
    if (!isFile || length > BLOB_BYTES_MAX) {
      throw new StorageError(
        { code: 'STORAGE_BLOB_LIMIT', limit: BLOB_BYTES_MAX },
        `a file of ${length} bytes is not kept`,
      )
    }
    if (this.#entries.has(hex) || this.#entries.size < BLOBS_MAX) return
    throw new StorageError(
      { code: 'STORAGE_BLOB_LIMIT', limit: BLOBS_MAX },
      `there are ${BLOBS_MAX} files here already`,
    )
  }

  #refuseClosed(): void {
    if (this.#closing === undefined) return
    const fault = { code: 'STORAGE_BLOB_MISSING', path: this.#directory } as const
    throw new StorageError(fault, 'the store was closed')
  }
}

function nameOf({ root, length }: BlobFacts): BlobName {
  return { root: fromHex(root), length }
}

function onDisk(path: string, cause: unknown): StorageError {
  if (cause instanceof StorageError) return cause
  return new StorageError({ code: 'STORAGE_BLOB_DISK', path }, `cannot use ${path}: ${messageOf(cause)}`, { cause })
}
