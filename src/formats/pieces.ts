/**
 * A file as BitTorrent v2 hashes it (BEP 52): a binary Merkle tree of SHA-256 over leaves of 16 KiB, the last one as
 * short as it is, filled up with zero hashes to a power of two. Its nodes over 1 MiB are the file's pieces: each can be
 * checked on its own against the root, and stock BitTorrent clients can serve them.
 */
import { assert, concatBytes } from '#base'
import { equalInConstantTime, SHA256_BYTES, sha256 } from '#crypto'

/** Bytes of a leaf of the tree; the last one of a file may be shorter. */
export const LEAF_BYTES = 16 * 1024

/** Leaves of a piece. */
export const PIECE_LEAVES = 64

/** Bytes of a piece; the last one of a file may be shorter. */
export const PIECE_BYTES = PIECE_LEAVES * LEAF_BYTES

/** Bytes of every hash in the tree. */
export const HASH_BYTES = SHA256_BYTES

/** The hashes of a file from its pieces up to its root. Takes 64 bytes of memory for each MiB of the file. */
export class PieceTree {
  /** Bytes of the file. */
  readonly size: number
  /** `#levels[0]` are the pieces' hashes, one after another; the last level is the root alone. */
  readonly #levels: readonly Uint8Array[]

  /** @param layer the hashes of all pieces, in order; at least one */
  constructor(layer: Uint8Array, size: number) {
    assert(layer.byteLength === pieceCount(size) * HASH_BYTES && size > 0, 'there is one hash for each piece')
    this.size = size
    const levels = [layer]
    for (let level = layer, height = 0; level.byteLength > HASH_BYTES; height++) {
      level = parentsOf(level, filler(height))
      levels.push(level)
    }
    this.#levels = levels
  }

  get count(): number {
    return pieceCount(this.size)
  }

  /** The BEP 52 root ("pieces root"), 32 bytes. */
  get root(): Uint8Array {
    return this.#levels.at(-1) ?? new Uint8Array(0)
  }

  /** The hashes of pieces `first` to `last` (exclusive), one after another: a part of BEP 52's piece layer. */
  layer(first: number, last: number): Uint8Array {
    return (this.#levels[0] ?? new Uint8Array(0)).slice(first * HASH_BYTES, last * HASH_BYTES)
  }

  /** The siblings on the way from a piece to the root, the lowest first: none where the piece is the whole file. */
  proof(piece: number): Uint8Array[] {
    return this.#levels.slice(0, -1).map((level, height) => {
      const sibling = (piece >> height) ^ 1
      const hash = level.slice(sibling * HASH_BYTES, (sibling + 1) * HASH_BYTES)
      return hash.byteLength === 0 ? filler(height) : hash
    })
  }
}

/** A file's hashes: the tree from its pieces up, and the leaves under it, one after another (2 KiB for each MiB). */
export type HashedFile = { readonly tree: PieceTree; readonly leaves: Uint8Array }

/** Takes a file from its start to its end. */
export class PieceTreeHasher {
  readonly #hashes: Uint8Array[] = []
  readonly #leaves: Uint8Array[] = []
  #size = 0
  readonly #fileSize: number

  /** @param size bytes of the whole file: a single piece is hashed in another way than one of several */
  constructor(size: number) {
    this.#fileSize = size
  }

  /** @param piece `PIECE_BYTES`, except for the last one */
  update(piece: Uint8Array): void {
    const leaves = leafHashes(piece)
    this.#size += piece.byteLength
    this.#leaves.push(leaves)
    this.#hashes.push(pieceHashOfLeaves(leaves, this.#fileSize))
  }

  /** The file must not have been empty: BEP 52 gives empty files no root. */
  finish(): HashedFile {
    return { tree: new PieceTree(concatBytes(this.#hashes), this.#size), leaves: concatBytes(this.#leaves) }
  }
}

/** The tree of bytes in memory; at least one. */
export function pieceTreeOf(bytes: Uint8Array): PieceTree {
  const hasher = new PieceTreeHasher(bytes.byteLength)
  for (let at = 0; at < bytes.byteLength; at += PIECE_BYTES) hasher.update(bytes.subarray(at, at + PIECE_BYTES))
  return hasher.finish().tree
}

/** Pieces of a file of this size. */
export function pieceCount(size: number): number {
  return Math.ceil(size / PIECE_BYTES)
}

/** What somebody says is a piece of a file. */
export type ClaimedPiece = {
  /** From 0. */
  readonly piece: number
  readonly bytes: Uint8Array
  /** As `PieceTree.proof` gives it. */
  readonly proof: readonly Uint8Array[]
}

/** Whether bytes are that piece of the file with this root and size. Needs nothing else of the file. */
export function isPieceOf(
  file: { readonly root: Uint8Array; readonly size: number },
  { piece, bytes, proof }: ClaimedPiece,
): boolean {
  const count = pieceCount(file.size)
  if (!Number.isInteger(piece) || piece < 0 || piece >= count) return false
  if (bytes.byteLength !== Math.min(PIECE_BYTES, file.size - piece * PIECE_BYTES)) return false
  if (proof.length !== Math.ceil(Math.log2(count)) || proof.some(hash => hash.byteLength !== HASH_BYTES)) return false
  let hash = pieceHashOfLeaves(leafHashes(bytes), file.size)
  for (const [height, sibling] of proof.entries()) {
    hash = (piece >> height) & 1 ? parent(sibling, hash) : parent(hash, sibling)
  }
  return equalInConstantTime(hash, file.root)
}

/** The hashes of a run of leaves, one after another. Only the last leaf of a file may be short. */
export function leafHashes(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const count = Math.ceil(bytes.byteLength / LEAF_BYTES)
  const hashes = new Uint8Array(count * HASH_BYTES)
  for (let leaf = 0; leaf < count; leaf++) {
    hashes.set(sha256(bytes.subarray(leaf * LEAF_BYTES, (leaf + 1) * LEAF_BYTES)), leaf * HASH_BYTES)
  }
  return hashes
}

/**
 * The hash of a piece from those of all its leaves. The only piece of a file is filled up to the next power of two, one of
 * several to its full number of leaves.
 * @param fileSize bytes of the file that the piece is of
 */
export function pieceHashOfLeaves(leaves: Uint8Array, fileSize: number): Uint8Array {
  const height = Math.ceil(Math.log2(fileSize <= PIECE_BYTES ? leaves.byteLength / HASH_BYTES : PIECE_LEAVES))
  let level = leaves
  for (let at = 0, zero = new Uint8Array(HASH_BYTES); at < height; at++, zero = parent(zero, zero)) {
    level = parentsOf(level, zero)
  }
  return level
}

/** Bytes of a piece of a file of this size. */
export function pieceBytes(size: number, piece: number): number {
  return Math.min(PIECE_BYTES, size - piece * PIECE_BYTES)
}

/** The hash of pieces that a file does not have: zero leaves, 2^height pieces of them. */
export function filler(height: number): Uint8Array {
  let hash = new Uint8Array(HASH_BYTES)
  for (let at = 0; at < Math.log2(PIECE_LEAVES) + height; at++) hash = parent(hash, hash)
  return hash
}

/** @param zero the right sibling of a last hash that has none */
export function parentsOf(level: Uint8Array, zero: Uint8Array): Uint8Array {
  const count = Math.ceil(level.byteLength / (2 * HASH_BYTES))
  const parents = new Uint8Array(count * HASH_BYTES)
  for (let i = 0; i < count; i++) {
    const pair = level.subarray(2 * i * HASH_BYTES, 2 * (i + 1) * HASH_BYTES)
    parents.set(pair.byteLength === HASH_BYTES ? parent(pair, zero) : sha256(pair), i * HASH_BYTES)
  }
  return parents
}

export function parent(left: Uint8Array, right: Uint8Array): Uint8Array<ArrayBuffer> {
  return sha256(concatBytes([left, right]))
}
