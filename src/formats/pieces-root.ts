/**
 * The root hash of a file as BitTorrent v2 has it (BEP 52, "pieces root"): a binary Merkle tree of SHA-256 over leaves
 * of 16 KiB, the last one as short as it is, filled up with zero hashes to a power of two. So any part of a model can
 * be checked on its own, and stock BitTorrent clients can serve it.
 */
import { concatBytes } from '#base'
import { SHA256_BYTES, sha256 } from '#crypto'

/** Bytes of a leaf. */
const LEAF_BYTES = 16 * 1024

/** Takes a file from its start to its end, in memory that grows with the logarithm of its size. */
export class PiecesRootHasher {
  /** `#open[level]` is the root of a complete subtree of 2^level leaves that waits for its right sibling. */
  readonly #open: (Uint8Array | undefined)[] = []
  #leaves = 0

  /** @param bytes a multiple of `LEAF_BYTES`, except for the last call */
  update(bytes: Uint8Array): void {
    for (let offset = 0; offset < bytes.byteLength; offset += LEAF_BYTES) {
      this.#add(sha256(bytes.subarray(offset, offset + LEAF_BYTES)))
    }
  }

  /** The root. The file must not have been empty: BEP 52 gives empty files none. */
  root(): Uint8Array {
    if (this.#leaves === 0) throw new RangeError('an empty file has no root')
    let filler: Uint8Array = new Uint8Array(SHA256_BYTES)
    let root: Uint8Array | undefined
    const height = Math.ceil(Math.log2(this.#leaves))
    for (let level = 0; level < height; level++) {
      const left = this.#open[level]
      if (left !== undefined) root = parent(left, root ?? filler)
      else if (root !== undefined) root = parent(root, filler)
      filler = parent(filler, filler)
    }
    return root ?? this.#open[height] ?? filler
  }

  #add(leaf: Uint8Array): void {
    let node = leaf
    let level = 0
    for (let left = this.#open[level]; left !== undefined; left = this.#open[level]) {
      node = parent(left, node)
      this.#open[level++] = undefined
    }
    this.#open[level] = node
    this.#leaves++
  }
}

function parent(left: Uint8Array, right: Uint8Array): Uint8Array {
  return sha256(concatBytes([left, right]))
}
