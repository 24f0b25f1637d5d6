/** Which blocks of a file are verified and stored: whole pieces as bits, the others by a mask of 64 bits each. */
import { Bitfield } from '#base'
import { LEAF_BYTES, pieceBytes, pieceCount } from '#formats'

export class BlockMap {
  readonly size: number
  /** Pieces that are whole. */
  readonly whole: Bitfield
  readonly #partial = new Map<number, bigint>()
  #bytes = 0

  /** @param size bytes of the file */
  constructor(size: number) {
    this.size = size
    this.whole = new Bitfield(pieceCount(size))
  }

  /** Bytes of all blocks in it. */
  get bytes(): number {
    return this.#bytes
  }

  /** Pieces of which some blocks are in it, not all. */
  get partial(): ReadonlyMap<number, bigint> {
    return this.#partial
  }

  /** Blocks of a piece. */
  blockCount(piece: number): number {
    return Math.ceil(pieceBytes(this.size, piece) / LEAF_BYTES)
  }

  /** All blocks of a piece. */
  full(piece: number): bigint {
    return maskOf(0, this.blockCount(piece))
  }

  mask(piece: number): bigint {
    return this.whole.has(piece) ? this.full(piece) : (this.#partial.get(piece) ?? 0n)
  }

  has(piece: number): boolean {
    return this.whole.has(piece) || this.#partial.has(piece)
  }

  /** @returns bytes that were not in it before */
  add(piece: number, mask: bigint): number {
    const before = this.mask(piece)
    const full = this.full(piece)
    const after = before | (mask & full)
    if (after === before) return 0
    if (after === full) {
      this.whole.set(piece)
      this.#partial.delete(piece)
    } else this.#partial.set(piece, after)
    const added = this.#bytesIn(piece, after & ~before)
    this.#bytes += added
    return added
  }

  /** @returns bytes that were in it */
  remove(piece: number): number {
    const removed = this.bytesOf(piece)
    this.whole.clear(piece)
    this.#partial.delete(piece)
    this.#bytes -= removed
    return removed
  }

  /** Bytes of a piece's blocks that are in it. */
  bytesOf(piece: number): number {
    return this.#bytesIn(piece, this.mask(piece))
  }

  /** As a set of blocks; undefined: none, or all. */
  blocksOf(piece: number): Bitfield | undefined {
    const mask = this.#partial.get(piece)
    return mask === undefined ? undefined : Bitfield.of(this.blockCount(piece), numbersIn(mask))
  }

  #bytesIn(piece: number, mask: bigint): number {
    const count = numbersIn(mask).length
    const last = this.blockCount(piece) - 1
    const short = (mask & maskOf(last, 1)) === 0n ? 0 : (last + 1) * LEAF_BYTES - pieceBytes(this.size, piece)
    return count * LEAF_BYTES - short
  }
}

/** `count` blocks from `first` on. */
export function maskOf(first: number, count: number): bigint {
  return ((1n << BigInt(count)) - 1n) << BigInt(first)
}

/** The blocks of a mask, in order. */
export function numbersIn(mask: bigint): number[] {
  const numbers: number[] = []
  for (const [half, base] of [
    [Number(mask & 0xffff_ffffn), 0],
    [Number(mask >> 32n), 32],
  ] as const) {
    for (let bit = 0; bit < 32; bit++) if (((half >>> bit) & 1) !== 0) numbers.push(base + bit)
  }
  return numbers
}
