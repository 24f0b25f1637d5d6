/** Blocks that cannot be verified yet: held in memory until the hashes of their piece's blocks come, or the rest of it. */
import { LEAF_BYTES } from '#formats'
import { BLOB_HELD_BYTES_MAX } from '../limits.ts'

export type HeldPart = { readonly firstBlock: number; readonly bytes: Uint8Array<ArrayBuffer> }

/** How much all blobs of a store may hold together. */
export class HeldBudget {
  #bytes = 0

  /** @returns whether there was room */
  take(bytes: number): boolean {
    if (this.#bytes + bytes > BLOB_HELD_BYTES_MAX) return false
    this.#bytes += bytes
    return true
  }

  give(bytes: number): void {
    this.#bytes -= bytes
  }
}

export class HeldBlocks {
  readonly #budget: HeldBudget
  readonly #pieces = new Map<number, Map<number, Uint8Array<ArrayBuffer>>>()

  constructor(budget: HeldBudget) {
    this.#budget = budget
  }

  /** Takes blocks; those that are held already stay. @returns blocks of the piece that are held now; undefined: no room */
  add(piece: number, { firstBlock, bytes }: HeldPart): number | undefined {
    if (!this.#budget.take(bytes.byteLength)) return undefined
    const blocks = this.#pieces.get(piece) ?? new Map<number, Uint8Array<ArrayBuffer>>()
    this.#pieces.set(piece, blocks)
    const count = Math.ceil(bytes.byteLength / LEAF_BYTES)
    for (let at = 0; at < count; at++) {
      const part = bytes.subarray(at * LEAF_BYTES, (at + 1) * LEAF_BYTES)
      if (blocks.has(firstBlock + at)) this.#budget.give(part.byteLength)
      // Each is given on by itself, so each has a buffer of its own.
      else blocks.set(firstBlock + at, count === 1 ? part : part.slice())
    }
    return blocks.size
  }

  /** Gives up what is held of a piece. */
  take(piece: number): HeldPart[] {
    const blocks = this.#pieces.get(piece)
    this.#pieces.delete(piece)
    const parts = [...(blocks ?? [])].map(([firstBlock, bytes]) => ({ firstBlock, bytes }))
    for (const { bytes } of parts) this.#budget.give(bytes.byteLength)
    return parts
  }

  clear(): void {
    for (const piece of this.#pieces.keys()) this.take(piece)
  }
}
