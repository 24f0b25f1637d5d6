/** Files for tests of the blob store: random bytes, with all their hashes. */
import type { Random } from '#base'
import { HASH_BYTES, type HashedFile, hashSource, memorySource, PIECE_BYTES, PIECE_LEAVES, pieceBytes } from '#formats'
import type { Blob, BlobName } from '#storage'

export type BlobSample = {
  readonly name: BlobName
  readonly bytes: Uint8Array<ArrayBuffer>
  readonly hashed: HashedFile
  /** The hashes of a piece's blocks. */
  readonly leaves: (piece: number) => Uint8Array
  /** A copy of some blocks. */
  readonly blocks: (piece: number, first: number, count: number) => Uint8Array<ArrayBuffer>
}

const BLOCK = 16 * 1024

export async function blobSample(size: number, random: Random): Promise<BlobSample> {
  const bytes = new Uint8Array(size)
  const words = new Uint32Array(bytes.buffer, 0, Math.floor(size / 4))
  for (let at = 0; at < words.length; at += 1) words[at] = random.uint32()
  const hashed = await hashSource(memorySource(bytes))
  return {
    name: { root: hashed.tree.root, length: size },
    bytes,
    hashed,
    leaves: piece => hashed.leaves.slice(piece * PIECE_LEAVES * HASH_BYTES, (piece + 1) * PIECE_LEAVES * HASH_BYTES),
    blocks: (piece, first, count) => {
      const start = piece * PIECE_BYTES + first * BLOCK
      return bytes.slice(start, Math.min(start + count * BLOCK, piece * PIECE_BYTES + pieceBytes(size, piece)))
    },
  }
}

/** Tells a blob the hashes of all its pieces. */
export function putAllHashes(blob: Blob, { hashed }: BlobSample): void {
  blob.putHashes({ first: 0, hashes: hashed.tree.layer(0, hashed.tree.count), proof: new Uint8Array(0) })
}

/** Writes a whole piece at once. */
export function writePiece(blob: Blob, sample: BlobSample, piece: number): ReturnType<Blob['write']> {
  const blockCount = Math.ceil(pieceBytes(sample.name.length, piece) / BLOCK)
  return blob.write({ piece, firstBlock: 0, blockCount }, sample.blocks(piece, 0, blockCount))
}
