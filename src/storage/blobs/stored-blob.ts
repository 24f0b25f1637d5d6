/**
 * A blob as the node's thread sees it: what is there, who may read it, and which calls go to the thread that verifies and
 * writes (`blob-thread.ts`). The bits here follow that thread's answers, which come in the order of the calls.
 */
import { join } from 'node:path'
import { abortError, type Bitfield, type Clock, messageOf } from '#base'
import { equalInConstantTime } from '#crypto'
import {
  HASH_BYTES,
  LEAF_BYTES,
  PIECE_BYTES,
  pieceBytes,
  PieceHashes,
  pieceHashOfLeaves,
  type ProvenHashes,
} from '#formats'
import { StorageError } from '../errors.ts'
import { BLOB_QUEUE_BYTES_MAX } from '../limits.ts'
import type { BlobAnswers, BlobCall } from './blob-calls.ts'
import type { BlobState, PieceWrite } from './blob-file.ts'
import { BlobReader, missing } from './blob-reader.ts'
import { BlobSyncer } from './blob-syncer.ts'
import type { BlobThread } from './blob-thread.ts'
import { BlockMap, maskOf } from './block-map.ts'
import { type HeldBudget, HeldBlocks, type HeldPart } from './held-blocks.ts'
import { Pins } from './pins.ts'
import type { Quota } from './quota.ts'
import type { Blob, BlobName, BlobRun, BlobWriteResult } from './types.ts'

export type StoredBlobDeps = {
  readonly clock: Clock
  readonly thread: BlobThread
  readonly quota: Quota
  readonly held: HeldBudget
  /** A number that grows with each call: orders uses. */
  readonly tick: () => number
}

export type StoredBlobOptions = {
  readonly name: BlobName
  readonly directory: string
  /** Its number in the thread. */
  readonly number: number
  readonly state: BlobState
  /** When it was used last, as `tick` counts. */
  readonly usedAt: number
}

export class StoredBlob implements Blob {
  readonly root: Uint8Array
  readonly length: number
  readonly pieceCount: number
  readonly path: string
  readonly pins = new Pins()
  onHeldLost: Blob['onHeldLost']
  readonly #deps: StoredBlobDeps
  readonly #number: number
  readonly #blocks: BlockMap
  readonly #hashes: PieceHashes
  readonly #held: HeldBlocks
  /** Pieces, not whole, whose blocks can be verified alone. */
  readonly #leavesKnown = new Set<number>()
  readonly #usedAt: Float64Array
  readonly #reader: BlobReader
  readonly #syncer: BlobSyncer
  /** Counts what may have made bytes vanish under a reader. */
  #drops = 0
  #end: string | undefined

  constructor(deps: StoredBlobDeps, options: StoredBlobOptions) {
    const { name, state } = options
    this.#deps = deps
    this.#number = options.number
    this.root = name.root
    this.length = name.length
    this.path = join(options.directory, 'data')
    this.#reader = new BlobReader(this.path)
    this.#syncer = new BlobSyncer(deps.clock, () => this.#call({ kind: 'sync' }))
    this.#blocks = new BlockMap(name.length)
    this.pieceCount = this.#blocks.whole.size
    this.#hashes = PieceHashes.decode({ root: name.root, size: name.length }, state.nodes)
    this.#held = new HeldBlocks(deps.held)
    this.#usedAt = new Float64Array(this.pieceCount).fill(options.usedAt)
    for (const [piece, mask] of state.blocks) deps.quota.count(this.#blocks.add(piece, mask))
    // The thread keeps no blocks whose hashes it has not.
    for (const piece of this.#blocks.partial.keys()) this.#leavesKnown.add(piece)
  }

  get has(): Bitfield {
    return this.#blocks.whole
  }

  get heldBytes(): number {
    return this.#blocks.bytes
  }

  /** Bytes that are here of pieces that must stay. */
  get pinnedBytes(): number {
    if (this.pins.isEmpty) return 0
    let bytes = this.heldBytes
    for (const piece of this.droppable()) bytes -= piece.bytes
    return bytes
  }

  blocksOf(piece: number): Bitfield | undefined {
    return this.#blocks.blocksOf(piece)
  }

  knowsHashes(pieces: Bitfield): boolean {
    return this.#hashes.knows(pieces)
  }

  putHashes(hashes: ProvenHashes): boolean {
    const runs = this.#hashes.put(hashes)
    if (runs === undefined) return false
    // Where they cannot be kept they are asked for again after the next start.
    if (this.#end === undefined) this.#call({ kind: 'nodes', runs }).catch(() => undefined)
    return true
  }

  hashesOf(range: {
    readonly first: number
    readonly count: number
    readonly proofLayers: number
  }): Omit<ProvenHashes, 'first'> | undefined {
    return this.#hashes.get(range)
  }

  putLeaves(piece: number, leaves: Uint8Array): boolean {
    const pieceHash = this.#hashes.piece(piece)
    if (pieceHash === undefined || leaves.byteLength !== this.#blocks.blockCount(piece) * HASH_BYTES) return false
    if (!equalInConstantTime(pieceHashOfLeaves(leaves, this.length), pieceHash)) return false
    if (this.#end !== undefined || this.has.has(piece) || this.#leavesKnown.has(piece)) return true
    this.#leavesKnown.add(piece)
    const forget = (): void => void this.#leavesKnown.delete(piece)
    this.#call({ kind: 'leaves', piece, leaves: leaves.slice() }).then(isKept => isKept || forget(), forget)
    for (const part of this.#held.take(piece)) void this.#sendHeld(piece, part) // Never rejects.
    return true
  }

  async leavesOf(piece: number): Promise<Uint8Array | undefined> {
    const pieceHash = this.#hashes.piece(piece)
    if (pieceHash === undefined || this.#end !== undefined) return undefined
    if (!this.#blocks.has(piece) && !this.#leavesKnown.has(piece)) return undefined
    // What cannot be read is as good as not here.
    return this.#call({ kind: 'leaves-of', piece, pieceHash }).catch(() => undefined)
  }

  async write(run: BlobRun, bytes: Uint8Array<ArrayBuffer>): Promise<BlobWriteResult> {
    const refusal = this.#refusalOf(run, bytes)
    if (refusal !== undefined) return refusal
    const { piece, firstBlock } = run
    if (this.has.has(piece)) return { kind: 'kept', isPieceDone: true }
    // A view of a larger buffer: the rest of it is somebody else's.
    const isOwn = bytes.byteLength === bytes.buffer.byteLength
    const part = { firstBlock, bytes: isOwn ? bytes : bytes.slice() }
    if (this.#leavesKnown.has(piece)) return this.#send({ piece, parts: [part], pieceHash: undefined })
    const pieceHash = this.#hashes.piece(piece)
    if (pieceHash === undefined) return failed(`the hash of piece ${piece} is not known`)
    const blockCount = this.#blocks.blockCount(piece)
    if (run.blockCount === blockCount) {
      this.#held.take(piece)
      return this.#send({ piece, parts: [part], pieceHash })
    }
    const count = this.#held.add(piece, part)
    if (count === undefined) return failed('too many blocks wait for the hashes that they are checked against')
    if (count < blockCount) return { kind: 'kept', isPieceDone: false }
    return this.#sendWhole(piece, pieceHash, run)
  }

  async read(piece: number, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    for (;;) {
      this.#refuseMissing(piece, offset, length)
      const drops = this.#drops
      this.#usedAt[piece] = this.#deps.tick()
      const bytes = await this.#reader.read(piece * PIECE_BYTES + offset, length)
      // Otherwise holes may have been read.
      if (drops === this.#drops) return bytes
    }
  }

  forgetHeld(piece: number): void {
    this.#held.take(piece)
  }

  pin(pieces: Bitfield): () => void {
    return this.pins.add(pieces)
  }

  drop(pieces: Bitfield): Promise<number> {
    return this.dropAll([...pieces.numbers()].filter(piece => !this.pins.has(piece)))
  }

  async verify(options: {
    readonly signal?: AbortSignal
    readonly onProgress?: (doneBytes: number, totalBytes: number) => void
  }): Promise<{ readonly goodBytes: number; readonly badPieces: readonly number[] }> {
    const totalBytes = this.#blocks.bytes
    const badPieces: number[] = []
    let goodBytes = 0
    let doneBytes = 0
    for (let piece = 0; piece < this.pieceCount; piece++) {
      const pieceHash = this.#hashes.piece(piece)
      if (!this.#blocks.has(piece) || pieceHash === undefined) continue
      if (options.signal?.aborted === true) throw abortError(options.signal)
      doneBytes += this.#blocks.bytesOf(piece)
      const good = await this.#callOrThrow({ kind: 'check', piece, pieceHash })
      if (good === undefined) badPieces.push(piece)
      else goodBytes += good
      options.onProgress?.(Math.min(doneBytes, totalBytes), totalBytes)
    }
    // Whoever has pinned them is better off without them.
    await this.dropAll(badPieces)
    return { goodBytes, badPieces }
  }

  /** Unpinned pieces with anything in them, and when each was used last. */
  *droppable(): Generator<{ readonly piece: number; readonly usedAt: number; readonly bytes: number }, void> {
    for (let piece = 0; piece < this.pieceCount; piece++) {
      if (!this.#blocks.has(piece) || this.pins.has(piece)) continue
      yield { piece, usedAt: this.#usedAt[piece] ?? 0, bytes: this.#blocks.bytesOf(piece) }
    }
  }

  /** Forgets these, pinned or not. @throws StorageError STORAGE_BLOB_DISK */
  async dropAll(pieces: readonly number[]): Promise<number> {
    const here = pieces.filter(piece => this.#blocks.has(piece) || this.#leavesKnown.has(piece))
    if (here.length === 0) return 0
    this.#forget(here)
    // Blocks that were on their way when this began are gone too: their answers came before this one.
    const { freedBytes, isReplaced } = await this.#callOrThrow({ kind: 'drop', pieces: here }, () =>
      this.#countOut(here),
    )
    if (isReplaced) await this.#reader.close()
    return freedBytes
  }

  /** Ends the blob: everybody who still has it is told so. @returns bytes freed */
  async end(how: 'close' | 'remove'): Promise<number> {
    if (this.#end !== undefined) return 0
    this.#end = how === 'close' ? 'the store was closed' : 'the blob was removed'
    this.#held.clear()
    await this.#syncer.end()
    try {
      return (await this.#callOrThrow({ kind: how })) ?? 0
    } finally {
      await this.#reader.close()
      this.#forget([...this.has.numbers(), ...this.#blocks.partial.keys()])
    }
  }

  #call<C extends BlobCall>(call: C): Promise<BlobAnswers[C['kind']]> {
    return this.#deps.thread.call(this.#number, call)
  }

  async #callOrThrow<C extends BlobCall>(call: C, onAnswer?: () => void): Promise<BlobAnswers[C['kind']]> {
    try {
      const answer = await this.#call(call)
      onAnswer?.()
      return answer
    } catch (error) {
      throw new StorageError(
        { code: 'STORAGE_BLOB_DISK', path: this.path },
        `cannot ${call.kind} ${this.path}: ${messageOf(error)}`,
        { cause: error },
      )
    }
  }

  #forget(pieces: readonly number[]): void {
    this.#countOut(pieces)
    for (const piece of pieces) {
      this.#leavesKnown.delete(piece)
      this.#held.take(piece)
    }
  }

  #countOut(pieces: readonly number[]): void {
    this.#drops++
    for (const piece of pieces) this.#deps.quota.count(-this.#blocks.remove(piece))
  }

  #refusalOf({ piece, firstBlock, blockCount }: BlobRun, bytes: Uint8Array): BlobWriteResult | undefined {
    if (this.#end !== undefined) return failed(this.#end)
    const numbers = [piece, firstBlock, blockCount]
    if (!numbers.every(number => Number.isSafeInteger(number) && number >= 0)) return failed('not a run of blocks')
    if (piece >= this.pieceCount || blockCount < 1 || firstBlock + blockCount > this.#blocks.blockCount(piece)) {
      return failed('not a run of blocks of this file')
    }
    const start = firstBlock * LEAF_BYTES
    const length = Math.min(blockCount * LEAF_BYTES, pieceBytes(this.length, piece) - start)
    if (bytes.byteLength !== length) return failed(`${bytes.byteLength} bytes for blocks that have ${length}`)
    const isBusy = this.#deps.thread.queuedBytes + length > BLOB_QUEUE_BYTES_MAX
    return isBusy ? failed('too much waits to be written') : undefined
  }

  async #send(write: PieceWrite): Promise<BlobWriteResult> {
    const { quota, thread } = this.#deps
    const { piece, parts } = write
    const bytes = parts.reduce((sum, part) => sum + part.bytes.byteLength, 0)
    if (!quota.reserve(bytes)) return { kind: 'full' }
    try {
      const written = await thread.call(this.#number, { kind: 'write', write })
      if (written.kind !== 'kept') return written
      const added = this.#blocks.add(piece, written.added)
      quota.count(added)
      this.#usedAt[piece] = this.#deps.tick()
      this.#syncer.wrote(added)
      const isPieceDone = this.has.has(piece)
      if (isPieceDone) this.#leavesKnown.delete(piece)
      else if (added > 0) this.#leavesKnown.add(piece)
      return { kind: 'kept', isPieceDone }
    } catch (error) {
      return failed(messageOf(error))
    } finally {
      quota.release(bytes)
    }
  }

  /** All blocks of a piece have come. Where they are not stored, those that were said to be kept are lost. */
  async #sendWhole(piece: number, pieceHash: Uint8Array, last: BlobRun): Promise<BlobWriteResult> {
    const parts = this.#held.take(piece)
    const result = await this.#send({ piece, parts, pieceHash })
    if (result.kind === 'full' || result.kind === 'failed') {
      const lost = parts.map(part => part.firstBlock).filter(block => !isIn(last, block))
      if (lost.length > 0) this.onHeldLost?.(piece, lost, 'failed')
    }
    return result
  }

  async #sendHeld(piece: number, part: HeldPart): Promise<void> {
    const result = await this.#send({ piece, parts: [part], pieceHash: undefined })
    if (result.kind === 'kept') return
    this.onHeldLost?.(piece, [part.firstBlock], result.kind === 'bad' ? 'bad' : 'failed')
  }

  #refuseMissing(piece: number, offset: number, length: number): void {
    if (this.#end !== undefined) throw missing(this.path, this.#end)
    const isInside =
      [piece, offset, length].every(number => Number.isSafeInteger(number) && number >= 0) &&
      piece < this.pieceCount &&
      length > 0 &&
      offset + length <= pieceBytes(this.length, piece)
    if (!isInside) throw missing(this.path, 'there are no such bytes in the file')
    const first = Math.floor(offset / LEAF_BYTES)
    const wanted = maskOf(first, Math.floor((offset + length - 1) / LEAF_BYTES) - first + 1)
    if ((wanted & ~this.#blocks.mask(piece)) !== 0n) throw missing(this.path, `not all of piece ${piece} is here`)
  }
}

function failed(reason: string): BlobWriteResult {
  return { kind: 'failed', reason }
}

function isIn({ firstBlock, blockCount }: BlobRun, block: number): boolean {
  return block >= firstBlock && block < firstBlock + blockCount
}
