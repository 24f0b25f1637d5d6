/** A store without bytes: it knows of each block whether what came was the file's, and behaves like a `PieceStore`. */
import { Bitfield } from '#base'
import { BLOCK_BYTES, type BlockRun, type WriteResult } from '../../../src/swarm/types.ts'

export type ToyFile = { readonly pieceCount: number; readonly pieceBytes: number; readonly bytes: number }

export function pieceBytesOf({ pieceBytes, bytes }: ToyFile, piece: number): number {
  return Math.min(pieceBytes, bytes - piece * pieceBytes)
}

export class ToyStore {
  readonly file: ToyFile
  readonly has: Bitfield
  /** Of pieces whose blocks can be verified alone. */
  readonly leaves = new Set<number>()
  /** Pieces that it takes before the disk is full; set to more to make room. */
  writesLeft = Number.POSITIVE_INFINITY
  readonly #blocks = new Map<number, Bitfield>()
  /** Of each piece: blocks that wait to be verified, and whether they are bad. */
  readonly #held = new Map<number, Map<number, boolean>>()

  constructor(file: ToyFile, has: Bitfield) {
    this.file = file
    this.has = has.clone()
  }

  blocksOf(piece: number): Bitfield | undefined {
    return this.#blocks.get(piece)
  }

  hasBlock(piece: number, block: number): boolean {
    return this.has.has(piece) || this.#blocks.get(piece)?.has(block) === true
  }

  /** The process was killed: what was not verified is gone. */
  restart(): void {
    this.#held.clear()
    this.leaves.clear()
  }

  /** @returns held blocks that are bad */
  putLeaves(piece: number): number[] {
    this.leaves.add(piece)
    const held = [...(this.#held.get(piece) ?? [])]
    this.#held.delete(piece)
    for (const [block, isBad] of held) if (!isBad) this.#keep(piece, block)
    return held.filter(([, isBad]) => isBad).map(([block]) => block)
  }

  forgetHeld(piece: number): void {
    this.#held.delete(piece)
  }

  write(run: BlockRun, bad: ReadonlySet<number>): WriteResult {
    if (this.writesLeft-- <= 0) return { kind: 'full' }
    if (this.has.has(run.piece)) return { kind: 'kept', isPieceDone: true }
    return this.leaves.has(run.piece) ? this.#verify(run, bad) : this.#hold(run, bad)
  }

  #verify({ piece, firstBlock, blockCount }: BlockRun, bad: ReadonlySet<number>): WriteResult {
    const given = Array.from({ length: blockCount }, (_, index) => firstBlock + index)
    const wrong = given.filter(block => bad.has(block))
    if (wrong.length > 0) return { kind: 'bad', blocks: wrong }
    for (const block of given) this.#keep(piece, block)
    return { kind: 'kept', isPieceDone: this.has.has(piece) }
  }

  #hold({ piece, firstBlock, blockCount }: BlockRun, bad: ReadonlySet<number>): WriteResult {
    const held = this.#held.get(piece) ?? new Map<number, boolean>()
    this.#held.set(piece, held)
    for (let block = firstBlock; block < firstBlock + blockCount; block++) held.set(block, bad.has(block))
    const blocks = Math.ceil(pieceBytesOf(this.file, piece) / BLOCK_BYTES)
    for (let block = 0; block < blocks; block++)
      if (!held.has(block) && !this.hasBlock(piece, block)) return { kind: 'kept', isPieceDone: false }
    this.#held.delete(piece)
    if ([...held.values()].some(Boolean)) return { kind: 'bad', blocks: [...held.keys()] }
    for (const block of held.keys()) this.#keep(piece, block)
    return { kind: 'kept', isPieceDone: true }
  }

  #keep(piece: number, block: number): void {
    if (this.has.has(piece)) return
    const count = Math.ceil(pieceBytesOf(this.file, piece) / BLOCK_BYTES)
    const blocks = this.#blocks.get(piece) ?? new Bitfield(count)
    this.#blocks.set(piece, blocks)
    blocks.set(block)
    if (!blocks.isFull) return
    this.#blocks.delete(piece)
    this.#held.delete(piece)
    this.has.set(piece)
  }
}
