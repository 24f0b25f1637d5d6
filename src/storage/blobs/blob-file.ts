/**
 * One blob on the disk: verifies blocks, writes them, and says in the journal what is there. Runs in a thread of its own
 * (`blob-worker.ts`), so nearly everything is synchronous. `docs/reference/blobs.md` has the layout and the rules of recovery.
 */
import { fdatasync, fdatasyncSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { messageOf } from '#base'
import { equalInConstantTime, sha256 } from '#crypto'
import { HASH_BYTES, LEAF_BYTES, leafHashes, type NodeRun, PieceHashes, pieceHashOfLeaves } from '#formats'
import { BLOB_RECENT_LEAVES_MAX } from '../limits.ts'
import { BlobData, blocksIn, maskOfPart } from './blob-data.ts'
import { BlobJournal, readJournal } from './blob-journal.ts'
import { BlockMap, numbersIn } from './block-map.ts'
import { type BlobDisk, DISK, isFull } from './disk.ts'
import type { JournalClaims } from './journal.ts'
import { type Claim, claimsOf } from './journal-claims.ts'
import type { BlobName } from './types.ts'

export type BlobFileOptions = {
  /** Of this blob alone; made where it is missing. */
  readonly directory: string
  readonly name: BlobName
  /** Which run of the machine this is. */
  readonly bootTag: Uint8Array
}

/** What is here when a blob is opened. */
export type BlobState = {
  /** As `PieceHashes.encode`. */
  readonly nodes: Uint8Array<ArrayBuffer>
  /** Pieces, and masks of their blocks. */
  readonly blocks: ReadonlyArray<readonly [piece: number, mask: bigint]>
  /** Bytes that had to be hashed again. */
  readonly rehashedBytes: number
}

export type PieceWrite = {
  readonly piece: number
  /** Side by side or not; where the leaves are not known, all blocks of the piece. */
  readonly parts: ReadonlyArray<{ readonly firstBlock: number; readonly bytes: Uint8Array<ArrayBuffer> }>
  /** Given where the leaves are not known: what the whole piece must hash to. */
  readonly pieceHash: Uint8Array | undefined
}

type NotWritten = { readonly kind: 'full' } | { readonly kind: 'failed'; readonly reason: string }

export type PieceWritten =
  /** Bit n: block n is here now and was not before. */
  | { readonly kind: 'kept'; readonly added: bigint }
  | { readonly kind: 'bad'; readonly blocks: readonly number[] }
  | NotWritten

export type Dropped = {
  /** Bytes that the disk has again. */
  readonly freedBytes: number
  /** Whether the file is another one now, which must be opened again. */
  readonly isReplaced: boolean
}

const dataSync = promisify(fdatasync)

export class BlobFile {
  readonly #directory: string
  readonly #blocks: BlockMap
  readonly #data: BlobData
  readonly #journal: BlobJournal
  /** Pieces, not whole yet, whose leaves were checked and are in their file. */
  readonly #leavesKnown = new Set<number>()
  /** Why the leaves of others are not, the oldest first: writes of their blocks were sent along with them. */
  readonly #leavesLost = new Map<number, NotWritten>()
  /** The leaves of those that were written to last: reading them again for each block takes as long as writing it. */
  readonly #recentLeaves = new Map<number, Uint8Array>()
  /** Pieces with blocks that were written since the last sync began. */
  #unsynced = new Set<number>()
  /** Those that are being synced. */
  #syncing: ReadonlySet<number> = new Set()
  readonly #state: BlobState

  /** Reads what an earlier run has left; what cannot be trusted is hashed again. Throws what the file system throws. */
  constructor(options: BlobFileOptions, disk: BlobDisk = DISK) {
    const { name, bootTag, directory } = options
    this.#directory = directory
    this.#blocks = new BlockMap(name.length)
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    const path = join(directory, 'journal')
    this.#data = new BlobData({ directory, length: name.length }, disk)
    this.#journal = new BlobJournal({ path, name, bootTag }, disk)
    try {
      const read = readJournal(path, bootTag)
      this.#state = this.#restore(name, read !== undefined && isSame(read.name, name) ? read.claims : undefined)
    } catch (error) {
      this.#closeAll()
      throw error
    }
  }

  /** What was here when it was opened. */
  get state(): BlobState {
    return this.#state
  }

  /** Keeps hashes that were verified. Where the disk is full they are asked for again next time. */
  putNodes(runs: readonly NodeRun[]): void {
    for (const { offset, bytes } of runs) attempt(() => this.#data.writeNodes(offset, bytes))
  }

  /** Keeps the hashes of a piece's blocks, which were verified. @returns undefined: they are kept */
  putLeaves(piece: number, leaves: Uint8Array): NotWritten | undefined {
    const failure = attempt(() => this.#data.writeLeaves(piece, leaves))
    this.#leavesLost.delete(piece)
    if (failure === undefined) {
      this.#leavesKnown.add(piece)
      return undefined
    }
    dropOldest(this.#leavesLost)
    this.#leavesLost.set(piece, failure)
    return failure
  }

  /** The hashes of a piece's blocks, from their file, or from the piece itself where it is whole. */
  leavesOf(piece: number, pieceHash: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
    const leaves = this.#data.readLeaves(piece, this.#blocks.blockCount(piece))
    if (this.#areLeavesOf(pieceHash, leaves)) return leaves
    return this.#blocks.whole.has(piece) ? this.#computeLeaves(piece, pieceHash) : undefined
  }

  /** Verifies and writes. */
  write(write: PieceWrite): PieceWritten {
    const verdict = this.#verify(write)
    if (verdict !== undefined) return verdict
    const { piece, parts } = write
    const failure = attempt(() => {
      for (const { firstBlock, bytes } of parts) this.#data.write(piece, firstBlock, bytes)
    })
    return this.#keep(write, failure)
  }

  /**
   * Verifies, and lets another thread write, so that more can be verified meanwhile. Until it is done nothing else may be
   * written to the piece, nothing dropped, and the blob not closed (`blob-order.ts`).
   */
  async writeAside(write: PieceWrite): Promise<PieceWritten> {
    const verdict = this.#verify(write)
    if (verdict !== undefined) return verdict
    const { piece, parts } = write
    let failure: NotWritten | undefined
    try {
      for (const { firstBlock, bytes } of parts) await this.#data.writeAside(piece, firstBlock, bytes)
    } catch (error) {
      failure = notWritten(error)
    }
    return this.#keep(write, failure)
  }

  /** @returns undefined: it is the file's, and not all of it is here */
  #verify(write: PieceWrite): PieceWritten | undefined {
    const { pieceHash } = write
    const verdict = pieceHash === undefined ? this.#checkBlocks(write) : this.#checkPiece(write, pieceHash)
    return verdict ?? (this.#newIn(write) === 0n ? { kind: 'kept', added: 0n } : undefined)
  }

  /** Blocks that are not here. */
  #newIn({ piece, parts }: PieceWrite): bigint {
    return parts.reduce((all, part) => all | maskOfPart(part), 0n) & ~this.#blocks.mask(piece)
  }

  /** Says in the journal what has been written. */
  #keep(write: PieceWrite, unwritten: NotWritten | undefined): PieceWritten {
    const { piece } = write
    const added = this.#newIn(write)
    const failure = unwritten ?? attempt(() => this.#journal.append({ kind: 'blocks', piece, mask: added }))
    if (failure !== undefined) {
      this.#data.punch(piece, added)
      return failure
    }
    this.#blocks.add(piece, added)
    if (this.#blocks.whole.has(piece)) this.#forgetLeaves(piece)
    this.#unsynced.add(piece)
    // It stays as it is where there is no space for a shorter one.
    if (this.#journal.isLong) attempt(() => this.#replaceJournal())
    return { kind: 'kept', added }
  }

  /** Forgets pieces and gives their space back. Throws what the file system throws. */
  drop(pieces: readonly number[]): Dropped {
    const here = pieces.filter(piece => this.#blocks.has(piece))
    if (here.length === 0) return { freedBytes: 0, isReplaced: false }
    const before = this.#data.diskBytes
    for (const piece of here) {
      this.#blocks.remove(piece)
      this.#unsynced.delete(piece)
      this.#forgetLeaves(piece)
    }
    // The journal first: what it claims must be there, whenever the power fails.
    this.#replaceJournal()
    const isPunched = this.#data.punchPieces(here)
    if (!isPunched) this.#data.copy(this.#blocks)
    return { freedBytes: Math.max(0, before - this.#data.diskBytes), isReplaced: !isPunched }
  }

  /** Reads what is here of a piece again. @returns its bytes; undefined: they are not the file's */
  check(piece: number, pieceHash: Uint8Array): number | undefined {
    try {
      const leaves = this.#data.readLeaves(piece, this.#blocks.blockCount(piece))
      const isGood = this.#areLeavesOf(pieceHash, leaves)
        ? numbersIn(this.#blocks.mask(piece)).every(block => this.#isBlock(piece, block, leaves))
        : this.#blocks.whole.has(piece) && this.#computeLeaves(piece, pieceHash) !== undefined
      return isGood ? this.#blocks.bytesOf(piece) : undefined
    } catch {
      // What cannot be read, or was cut off, is not the file's.
      return undefined
    }
  }

  /**
   * Puts what was written on the disk itself, so that it needs not be hashed again after a loss of power. Others may write
   * meanwhile; there is one at a time. Rejects with what the file system says.
   */
  async sync(): Promise<void> {
    const { epoch, bytes } = this.#journal
    this.#syncing = this.#unsynced
    this.#unsynced = new Set()
    try {
      for (const handle of this.#data.handles) await dataSync(handle)
      if (epoch === this.#journal.epoch) this.#journal.append({ kind: 'synced', offset: bytes })
      fdatasyncSync(this.#journal.handle)
    } catch (error) {
      for (const piece of this.#syncing) if (this.#blocks.has(piece)) this.#unsynced.add(piece)
      throw error
    } finally {
      this.#syncing = new Set()
      this.#data.closeRetired()
    }
  }

  /** Syncs and closes; no sync may be running. What fails here costs hashing at the next start, no more. */
  close(): void {
    attempt(() => {
      for (const handle of this.#data.handles) fdatasyncSync(handle)
      this.#journal.append({ kind: 'synced', offset: this.#journal.bytes })
      this.#journal.append({ kind: 'closed', stamp: this.#data.stamp })
      fdatasyncSync(this.#journal.handle)
    })
    this.#closeAll()
  }

  /** Closes and deletes everything. @returns bytes that the disk has again */
  remove(): number {
    const freedBytes = this.#data.diskBytes
    this.#closeAll()
    rmSync(this.#directory, { recursive: true, force: true })
    return freedBytes
  }

  #closeAll(): void {
    this.#journal.close()
    this.#data.close()
  }

  #replaceJournal(): void {
    this.#journal.replace(this.#blocks, new Set([...this.#unsynced, ...this.#syncing]))
  }

  #restore(name: BlobName, journal: JournalClaims | undefined): BlobState {
    // Without a journal nobody knows what is in the files; their space is given back.
    if (journal === undefined) this.#data.clear()
    const isTouched = journal?.closedStamp !== undefined && journal.closedStamp !== this.#data.stamp
    const isToTrust = this.#data.setLength() && !isTouched
    const size = name.length
    const hashes = PieceHashes.decode({ root: name.root, size }, this.#data.readNodes(PieceHashes.bytesFor(size)))
    let rehashedBytes = 0
    for (const [piece, claim] of claimsOf(journal?.records ?? [], this.#blocks)) {
      const pieceHash = hashes.piece(piece)
      if (pieceHash === undefined) continue
      const trusted = isToTrust ? claim.trusted : 0n
      rehashedBytes += this.#restorePiece(piece, pieceHash, { ...claim, trusted })
    }
    this.#data.reclaim(this.#blocks)
    this.#replaceJournal()
    const { whole, partial } = this.#blocks
    const blocks = [...whole.numbers(), ...partial.keys()].map(piece => [piece, this.#blocks.mask(piece)] as const)
    return { nodes: hashes.encode(), blocks, rehashedBytes }
  }

  /** @returns bytes that were hashed */
  #restorePiece(piece: number, pieceHash: Uint8Array, { claimed, trusted, synced }: Claim): number {
    const full = this.#blocks.full(piece)
    if ((claimed & ~synced) !== 0n) this.#unsynced.add(piece)
    if (trusted === full) {
      this.#blocks.add(piece, full)
      return 0
    }
    const leaves = this.#data.readLeaves(piece, this.#blocks.blockCount(piece))
    if (!this.#areLeavesOf(pieceHash, leaves)) {
      if (claimed !== full) return 0
      if (this.#computeLeaves(piece, pieceHash) === undefined) return 0
      this.#blocks.add(piece, full)
      return this.#blocks.bytesOf(piece)
    }
    const doubtful = numbersIn(claimed & ~trusted)
    const good = doubtful.filter(block => this.#isBlock(piece, block, leaves))
    this.#blocks.add(
      piece,
      good.reduce((mask, block) => mask | (1n << BigInt(block)), trusted),
    )
    if (!this.#blocks.whole.has(piece)) this.#leavesKnown.add(piece)
    return doubtful.length * LEAF_BYTES
  }

  /** From the bytes of a whole piece. @returns undefined: they are not the piece's */
  #computeLeaves(piece: number, pieceHash: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
    const leaves = leafHashes(this.#data.read(piece, 0, this.#blocks.blockCount(piece)))
    if (!this.#areLeavesOf(pieceHash, leaves)) return undefined
    attempt(() => this.#data.writeLeaves(piece, leaves))
    return leaves
  }

  #leavesToCheck(piece: number): Uint8Array {
    const recent = this.#recentLeaves.get(piece)
    if (recent !== undefined) return recent
    const leaves = this.#data.readLeaves(piece, this.#blocks.blockCount(piece))
    dropOldest(this.#recentLeaves)
    this.#recentLeaves.set(piece, leaves)
    return leaves
  }

  #forgetLeaves(piece: number): void {
    this.#leavesKnown.delete(piece)
    this.#recentLeaves.delete(piece)
  }

  #areLeavesOf(pieceHash: Uint8Array, leaves: Uint8Array): boolean {
    if (leaves.byteLength === 0 || leaves.byteLength % HASH_BYTES !== 0) return false
    return equalInConstantTime(pieceHashOfLeaves(leaves, this.#blocks.size), pieceHash)
  }

  #isBlock(piece: number, block: number, leaves: Uint8Array): boolean {
    return isLeaf(this.#data.read(piece, block, 1), leaves, block)
  }

  /** @returns undefined: all of them are the file's */
  #checkBlocks({ piece, parts }: PieceWrite): PieceWritten | undefined {
    if (this.#blocks.whole.has(piece)) return { kind: 'kept', added: 0n }
    if (!this.#leavesKnown.has(piece)) {
      const reason = `the hashes of the blocks of piece ${piece} are not known`
      return this.#leavesLost.get(piece) ?? { kind: 'failed', reason }
    }
    const leaves = this.#leavesToCheck(piece)
    const bad: number[] = []
    for (const { firstBlock, bytes } of parts) {
      for (let at = 0; at < blocksIn(bytes); at++) {
        const block = bytes.subarray(at * LEAF_BYTES, (at + 1) * LEAF_BYTES)
        if (!isLeaf(block, leaves, firstBlock + at)) bad.push(firstBlock + at)
      }
    }
    return bad.length === 0 ? undefined : { kind: 'bad', blocks: bad }
  }

  /** @returns undefined: all of it is the file's */
  #checkPiece({ piece, parts }: PieceWrite, pieceHash: Uint8Array): PieceWritten | undefined {
    const blockCount = this.#blocks.blockCount(piece)
    const leaves = new Uint8Array(blockCount * HASH_BYTES)
    for (const { firstBlock, bytes } of parts) leaves.set(leafHashes(bytes), firstBlock * HASH_BYTES)
    if (this.#areLeavesOf(pieceHash, leaves)) return this.putLeaves(piece, leaves)
    return { kind: 'bad', blocks: Array.from({ length: blockCount }, (_, block) => block) }
  }
}

/** For one more piece: the oldest goes. */
function dropOldest(pieces: Map<number, unknown>): void {
  const [oldest] = pieces.keys()
  if (oldest !== undefined && pieces.size >= BLOB_RECENT_LEAVES_MAX) pieces.delete(oldest)
}

function isLeaf(bytes: Uint8Array, leaves: Uint8Array, block: number): boolean {
  return equalInConstantTime(sha256(bytes), leaves.subarray(block * HASH_BYTES, (block + 1) * HASH_BYTES))
}

function isSame(a: BlobName, b: BlobName): boolean {
  return a.length === b.length && equalInConstantTime(a.root, b.root)
}

/** @returns undefined: it was done */
function attempt(action: () => void): NotWritten | undefined {
  try {
    action()
    return undefined
  } catch (error) {
    return notWritten(error)
  }
}

function notWritten(error: unknown): NotWritten {
  return isFull(error) ? { kind: 'full' } : { kind: 'failed', reason: messageOf(error) }
}
