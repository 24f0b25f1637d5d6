/** The files of a blob beside its journal: its bytes, the hashes of its blocks, the tree over its pieces. Synchronous. */
import { closeSync, fdatasyncSync, fstatSync, ftruncateSync, openSync, readSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { sha256 } from '#crypto'
import { HASH_BYTES, LEAF_BYTES, PIECE_BYTES, PIECE_LEAVES, pieceBytes } from '#formats'
import { type BlockMap, maskOf, numbersIn } from './block-map.ts'
import { type BlobDisk, writeAll, writeAllAside } from './disk.ts'

const LEAVES_BYTES = PIECE_LEAVES * HASH_BYTES

/** Bytes that a file may take beyond what is claimed before it is looked for leftovers. */
const LEFTOVER_BYTES = PIECE_BYTES

export class BlobData {
  readonly #directory: string
  readonly #disk: BlobDisk
  readonly #length: number
  #data: number
  readonly #leaves: number
  readonly #nodes: number
  /** Files that were replaced while others may still sync them. */
  readonly #retired: number[] = []

  /** Opens or makes the files (0600). Throws what the file system throws. */
  constructor(options: { readonly directory: string; readonly length: number }, disk: BlobDisk) {
    this.#directory = options.directory
    this.#length = options.length
    this.#disk = disk
    this.#data = openOrMake(join(options.directory, 'data'))
    this.#leaves = openOrMake(join(options.directory, 'leaves'))
    this.#nodes = openOrMake(join(options.directory, 'hashes'))
  }

  /** What must be on the disk for the journal's claims to be true. */
  get handles(): readonly number[] {
    return [this.#data, this.#leaves, this.#nodes]
  }

  /** Bytes that the disk spends on the file. */
  get diskBytes(): number {
    return fstatSync(this.#data).blocks * 512
  }

  /** The first 8 bytes of a hash over what tells one state of the file from another. */
  get stamp(): bigint {
    const { size, mtimeNs, ctimeNs, ino } = fstatSync(this.#data, { bigint: true })
    const digest = sha256(new TextEncoder().encode([size, mtimeNs, ctimeNs, ino].join(' ')))
    return new DataView(digest.buffer, digest.byteOffset).getBigUint64(0)
  }

  /** Empties all files. */
  clear(): void {
    for (const handle of this.handles) ftruncateSync(handle, 0)
  }

  /** Gives the file its full length, without spending anything on it. @returns whether it had it */
  setLength(): boolean {
    if (fstatSync(this.#data).size === this.#length) return true
    ftruncateSync(this.#data, this.#length)
    return false
  }

  /** Blocks of a piece. Throws where they are not there. */
  read(piece: number, firstBlock: number, blockCount: number): Uint8Array<ArrayBuffer> {
    const start = firstBlock * LEAF_BYTES
    const length = Math.min(blockCount * LEAF_BYTES, pieceBytes(this.#length, piece) - start)
    return readAt(this.#data, { position: piece * PIECE_BYTES + start, length })
  }

  write(piece: number, firstBlock: number, bytes: Uint8Array): void {
    writeAll(this.#disk, this.#placeOf(piece, firstBlock), bytes)
  }

  /** The same, by another thread. */
  writeAside(piece: number, firstBlock: number, bytes: Uint8Array): Promise<void> {
    return writeAllAside(this.#disk, this.#placeOf(piece, firstBlock), bytes)
  }

  /** What lies where the hashes of a piece's blocks belong: anything. */
  readLeaves(piece: number, blockCount: number): Uint8Array<ArrayBuffer> {
    return readAt(this.#leaves, { position: piece * LEAVES_BYTES, length: blockCount * HASH_BYTES, isShortFine: true })
  }

  writeLeaves(piece: number, leaves: Uint8Array): void {
    writeAll(this.#disk, { handle: this.#leaves, position: piece * LEAVES_BYTES }, leaves)
  }

  /** What lies where the tree belongs: anything. */
  readNodes(length: number): Uint8Array<ArrayBuffer> {
    return readAt(this.#nodes, { position: 0, length, isShortFine: true })
  }

  writeNodes(offset: number, bytes: Uint8Array): void {
    writeAll(this.#disk, { handle: this.#nodes, position: offset }, bytes)
  }

  /** Gives the space of some blocks back. @returns false: this file system cannot */
  punch(piece: number, mask: bigint): boolean {
    return runsOf(numbersIn(mask)).every(([first, count]) =>
      this.#disk.punch(this.#data, piece * PIECE_BYTES + first * LEAF_BYTES, count * LEAF_BYTES),
    )
  }

  /** Gives the space of whole pieces back. @returns false: this file system cannot */
  punchPieces(pieces: readonly number[]): boolean {
    // A range may go beyond the end of the file, so that the last page goes as a whole.
    return runsOf(pieces).every(([first, count]) =>
      this.#disk.punch(this.#data, first * PIECE_BYTES, count * PIECE_BYTES),
    )
  }

  /** Gives back what a process that was killed had written, or not yet given back. */
  reclaim(blocks: BlockMap): void {
    if (this.diskBytes <= blocks.bytes + LEFTOVER_BYTES) return
    const empty: number[] = []
    for (let piece = 0; piece < blocks.whole.size; piece++) {
      const mask = blocks.mask(piece)
      if (mask === 0n) empty.push(piece)
      else if (!this.punch(piece, blocks.full(piece) & ~mask)) return
    }
    this.punchPieces(empty)
  }

  /** Copies what is kept into a new sparse file, which takes the place of the old one. Throws what the file system throws. */
  copy(blocks: BlockMap): void {
    const path = join(this.#directory, 'data')
    const temporary = `${path}.new`
    rmSync(temporary, { force: true })
    const copy = openSync(temporary, 'wx+', 0o600)
    try {
      ftruncateSync(copy, this.#length)
      for (const piece of [...blocks.whole.numbers(), ...blocks.partial.keys()]) {
        for (const [first, count] of runsOf(numbersIn(blocks.mask(piece)))) {
          const bytes = this.read(piece, first, count)
          writeAll(this.#disk, { handle: copy, position: piece * PIECE_BYTES + first * LEAF_BYTES }, bytes)
        }
      }
      fdatasyncSync(copy)
      renameSync(temporary, path)
    } catch (error) {
      closeSync(copy)
      rmSync(temporary, { force: true })
      throw error
    }
    this.#retired.push(this.#data)
    this.#data = copy
  }

  /** Closes what was replaced: nobody syncs it any more. */
  closeRetired(): void {
    for (const handle of this.#retired.splice(0)) closeSync(handle)
  }

  close(): void {
    this.closeRetired()
    for (const handle of this.handles) closeSync(handle)
  }

  #placeOf(piece: number, firstBlock: number): { readonly handle: number; readonly position: number } {
    return { handle: this.#data, position: piece * PIECE_BYTES + firstBlock * LEAF_BYTES }
  }
}

function openOrMake(path: string): number {
  try {
    return openSync(path, 'r+')
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
    return openSync(path, 'wx+', 0o600)
  }
}

type Range = { readonly position: number; readonly length: number; readonly isShortFine?: boolean }

/** @throws Error where the file ends before and that is not fine */
function readAt(handle: number, { position, length, isShortFine = false }: Range): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length)
  for (let done = 0; done < length; ) {
    const read = readSync(handle, bytes, done, length - done, position + done)
    if (read === 0 && isShortFine) return bytes.subarray(0, done)
    if (read === 0) throw new Error('the file of a blob became shorter')
    done += read
  }
  return bytes
}

/** Neighbouring numbers, in order, as runs. */
function runsOf(numbers: readonly number[]): Array<readonly [first: number, count: number]> {
  const runs: Array<[number, number]> = []
  for (const number of numbers.toSorted((a, b) => a - b)) {
    const last = runs.at(-1)
    if (last !== undefined && last[0] + last[1] === number) last[1]++
    else runs.push([number, 1])
  }
  return runs
}

/** Blocks in a run of bytes. */
export function blocksIn(bytes: Uint8Array): number {
  return Math.ceil(bytes.byteLength / LEAF_BYTES)
}

/** The blocks that a run of bytes is. */
export function maskOfPart(part: { readonly firstBlock: number; readonly bytes: Uint8Array }): bigint {
  return maskOf(part.firstBlock, blocksIn(part.bytes))
}
