/**
 * A file of the user's as a blob: whole, read in its place and never written. Every reading first looks whether the file
 * is still in the state in which it was hashed; one that was edited or swapped is refused, even where its time was put back.
 * Where only its ctime is another, nothing of it is given until it was hashed again.
 */
import { fstatSync } from 'node:fs'
import { type FileHandle, mkdir, open, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Bitfield, type Clock, type Logger, messageOf } from '#base'
import { equalInConstantTime } from '#crypto'
import {
  HASH_BYTES,
  type HashedFile,
  hashSource,
  LEAF_BYTES,
  leafHashes,
  PIECE_BYTES,
  PIECE_LEAVES,
  pieceBytes,
  PieceHashes,
  pieceHashOfLeaves,
  type ProvenHashes,
} from '#formats'
import { StorageError } from '../errors.ts'
import { type FileStamp, openFileSource, stampOf } from '../file-source.ts'
import { type Adoption, writeAdoption } from './adoption.ts'
import { missing, readFully, unreadable } from './blob-reader.ts'
import { Pins } from './pins.ts'
import { isSame, mayBeSame, recheck } from './recheck.ts'
import type { Blob, BlobWriteResult } from './types.ts'

const LEAVES_BYTES = PIECE_LEAVES * HASH_BYTES

export type AdoptedDeps = {
  readonly clock: Clock
  readonly log: Logger
  /** Files are read again one after another. */
  readonly inTurn: (action: () => Promise<void>) => Promise<void>
}

/** A file, its hashes, and where these are kept. */
type Parts = {
  readonly directory: string
  readonly hashes: PieceHashes
  readonly file: FileHandle
  readonly leaves: FileHandle
}

export class AdoptedBlob implements Blob {
  readonly root: Uint8Array
  readonly length: number
  readonly pieceCount: number
  readonly path: string
  readonly has: Bitfield
  readonly pins = new Pins()
  onHeldLost: Blob['onHeldLost']
  readonly #deps: AdoptedDeps
  readonly #directory: string
  #stamp: FileStamp
  readonly #hashes: PieceHashes
  readonly #file: FileHandle
  readonly #leaves: FileHandle
  readonly #closing = new AbortController()
  #rechecking: Promise<void> | undefined
  /** It was edited, swapped or taken away: what comes back there is for its owner to give again. */
  #isLost = false

  private constructor(deps: AdoptedDeps, adoption: Adoption, parts: Parts) {
    this.#deps = deps
    this.#directory = parts.directory
    this.root = adoption.name.root
    this.length = adoption.name.length
    this.path = adoption.stamp.path
    this.#stamp = adoption.stamp
    this.#hashes = parts.hashes
    this.#file = parts.file
    this.#leaves = parts.leaves
    this.pieceCount = parts.hashes.count
    this.has = Bitfield.full(this.pieceCount)
  }

  /**
   * @param directory where the hashes are kept, by `keepHashes`
   * @returns undefined: they are not there, or damaged @throws StorageError STORAGE_FILE_CHANGED, STORAGE_READ
   */
  static async open(deps: AdoptedDeps, directory: string, adoption: Adoption): Promise<AdoptedBlob | undefined> {
    const handles: FileHandle[] = []
    try {
      const file = await opened(handles, adoption.stamp.path)
      refuseChanged(file, adoption.stamp)
      const nodes = await opened(handles, join(directory, 'hashes'))
      const size = adoption.name.length
      const hashes = PieceHashes.decode({ root: adoption.name.root, size }, new Uint8Array(await nodes.readFile()))
      await nodes.close()
      const leaves = await opened(handles, join(directory, 'leaves'))
      if (hashes.knows(Bitfield.full(hashes.count)))
        return new AdoptedBlob(deps, adoption, { directory, hashes, file, leaves })
    } catch (error) {
      await closeAll(handles)
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
      throw error instanceof StorageError ? error : unreadable(adoption.stamp.path, error)
    }
    await closeAll(handles)
    return undefined
  }

  /** Keeps what hashing a file has found, so that it is not hashed again. Rejects with what the file system says. */
  static async keepHashes(directory: string, adoption: Adoption, hashed: HashedFile): Promise<void> {
    const { root, length } = adoption.name
    const hashes = new PieceHashes(root, length)
    const layer = hashed.tree.layer(0, hashed.tree.count)
    const isFiles =
      hashed.tree.size === length && hashed.leaves.byteLength === Math.ceil(length / LEAF_BYTES) * HASH_BYTES
    if (!isFiles || hashes.put({ first: 0, hashes: layer, proof: new Uint8Array(0) }) === undefined) {
      throw changed(adoption.stamp.path)
    }
    await mkdir(directory, { recursive: true, mode: 0o700 })
    await writeFile(join(directory, 'hashes'), hashes.encode(), { mode: 0o600 })
    await writeFile(join(directory, 'leaves'), hashed.leaves, { mode: 0o600 })
    await writeAdoption(directory, adoption)
  }

  get heldBytes(): number {
    return this.has.isFull
      ? this.length
      : [...this.has.numbers()].reduce((sum, p) => sum + pieceBytes(this.length, p), 0)
  }

  blocksOf(): undefined {
    return undefined
  }

  knowsHashes(pieces: Bitfield): boolean {
    return this.#hashes.knows(pieces)
  }

  putHashes(hashes: ProvenHashes): boolean {
    return this.#hashes.put(hashes) !== undefined
  }

  hashesOf(range: {
    readonly first: number
    readonly count: number
    readonly proofLayers: number
  }): Omit<ProvenHashes, 'first'> | undefined {
    return this.#hashes.get(range)
  }

  putLeaves(piece: number, leaves: Uint8Array): boolean {
    return piece < this.pieceCount && this.#areLeavesOf(piece, leaves)
  }

  async leavesOf(piece: number): Promise<Uint8Array | undefined> {
    if (!this.has.has(piece) || this.#closing.signal.aborted) return undefined
    const length = Math.ceil(pieceBytes(this.length, piece) / LEAF_BYTES) * HASH_BYTES
    const kept = await readFully(this.#leaves, { position: piece * LEAVES_BYTES, length }).catch(() => undefined)
    if (kept !== undefined && this.#areLeavesOf(piece, kept)) return kept
    const bytes = await this.read(piece, 0, pieceBytes(this.length, piece)).catch(() => undefined)
    const computed = bytes === undefined ? undefined : leafHashes(bytes)
    return computed !== undefined && this.#areLeavesOf(piece, computed) ? computed : undefined
  }

  /** Nothing is ever written: all of it is there, or the file is not to be trusted. */
  write(run: { readonly piece: number }): Promise<BlobWriteResult> {
    const isHere = this.has.has(run.piece)
    return Promise.resolve(
      isHere ? { kind: 'kept', isPieceDone: true } : { kind: 'failed', reason: "the user's own file is not written" },
    )
  }

  async read(piece: number, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#closing.signal.aborted) throw missing(this.path, 'the file is not open any more')
    this.#refuse()
    const isInside = [offset, length].every(number => Number.isSafeInteger(number) && number >= 0) && length > 0
    if (!this.has.has(piece) || !isInside || offset + length > pieceBytes(this.length, piece)) {
      throw missing(this.path, `not all of piece ${piece} is here`)
    }
    try {
      return await readFully(this.#file, { position: piece * PIECE_BYTES + offset, length })
    } catch (error) {
      throw unreadable(this.path, error)
    }
  }

  forgetHeld(): void {} // Nothing is ever held: all of it is here.

  pin(pieces: Bitfield): () => void {
    return this.pins.add(pieces)
  }

  drop(): Promise<number> {
    return Promise.resolve(0)
  }

  async verify(options: {
    readonly signal?: AbortSignal
    readonly onProgress?: (doneBytes: number, totalBytes: number) => void
  }): Promise<{ readonly goodBytes: number; readonly badPieces: readonly number[] }> {
    if (!(await this.isUnchanged())) throw changed(this.path)
    this.#refuse()
    const source = await openFileSource(this.path)
    try {
      const { tree } = await hashSource(source, options)
      const badPieces: number[] = []
      for (let piece = 0; piece < this.pieceCount; piece++) {
        const expected = this.#hashes.piece(piece)
        if (expected === undefined || !equalInConstantTime(tree.layer(piece, piece + 1), expected))
          badPieces.push(piece)
      }
      for (const piece of badPieces) this.has.clear(piece)
      this.#refuse()
      return { goodBytes: this.heldBytes, badPieces }
    } finally {
      await source.close()
    }
  }

  /** Whether the file at its path is still the one that was hashed. Where only reading it tells, it is read first. */
  async isUnchanged(): Promise<boolean> {
    try {
      const now = stampOf(this.path, await stat(this.path, { bigint: true }))
      if (!isSame(now, this.#stamp)) this.#doubt(now)
      await this.#rechecking
      return !this.#isLost
    } catch {
      return false // It is gone, or not to be read any more.
    }
  }

  async close(): Promise<void> {
    this.#closing.abort(missing(this.path, 'the file is not open any more'))
    await this.#rechecking
    await closeAll([this.#file, this.#leaves])
  }

  #refuse(): void {
    const now = stampOf(this.path, fstatSync(this.#file.fd, { bigint: true }))
    if (!this.#isLost && isSame(now, this.#stamp)) return
    this.#doubt(now)
    throw changed(this.path)
  }

  /** Nothing of it is here until it is known to be the file that it was. */
  #doubt(now: FileStamp): void {
    for (const piece of this.has.numbers()) this.has.clear(piece)
    if (this.#isLost || this.#rechecking !== undefined || this.#closing.signal.aborted) return
    const { log, inTurn } = this.#deps
    if (!mayBeSame(now, this.#stamp)) {
      this.#lose('it was edited or swapped')
      return
    }
    log.warn('a file that is shared may have been edited: nothing of it is given until it was read again', {
      file: this.path,
    })
    this.#rechecking = inTurn(() => this.#recheck()).finally(() => (this.#rechecking = undefined))
  }

  /** Never rejects. */
  async #recheck(): Promise<void> {
    const { signal } = this.#closing
    try {
      signal.throwIfAborted()
      const stamp = await recheck(this.#deps, { stamp: this.#stamp, root: this.root, signal })
      if (stamp === undefined) {
        this.#lose('it was edited')
        return
      }
      await writeAdoption(this.#directory, { name: { root: this.root, length: this.length }, stamp })
      this.#stamp = stamp
      for (let piece = 0; piece < this.pieceCount; piece++) this.has.set(piece)
      this.#deps.log.info('a file that is shared is what it was: only a link, its name or its rights have changed', {
        file: this.path,
      })
    } catch (error) {
      if (!signal.aborted) this.#lose(messageOf(error))
    }
  }

  #lose(reason: string): void {
    this.#isLost = true
    this.#deps.log.warn('a file is not the model any more, and is shared no longer', { file: this.path, reason })
  }

  #areLeavesOf(piece: number, leaves: Uint8Array): boolean {
    const expected = this.#hashes.piece(piece)
    const length = Math.ceil(pieceBytes(this.length, piece) / LEAF_BYTES) * HASH_BYTES
    if (expected === undefined || leaves.byteLength !== length) return false
    return equalInConstantTime(pieceHashOfLeaves(leaves, this.length), expected)
  }
}

async function opened(handles: FileHandle[], path: string): Promise<FileHandle> {
  const handle = await open(path, 'r')
  handles.push(handle)
  return handle
}

async function closeAll(handles: readonly FileHandle[]): Promise<void> {
  for (const handle of handles) await handle.close().catch(() => undefined) // It may be closed already.
}

/** About 2 µs: less than a turn of the thread pool takes. @throws StorageError STORAGE_FILE_CHANGED */
function refuseChanged(file: FileHandle, stamp: FileStamp): void {
  if (!isSame(stampOf(stamp.path, fstatSync(file.fd, { bigint: true })), stamp)) throw changed(stamp.path)
}

export function changed(path: string): StorageError {
  return new StorageError(
    { code: 'STORAGE_FILE_CHANGED', path },
    `${path} is not the file that was hashed: it was edited or swapped since`,
  )
}
