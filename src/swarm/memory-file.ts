/** A small file of a torrent that is whole and in memory, with its tree: the core of a model. */
import { assert, concatBytes } from '#base'
import { leafHashes, PIECE_BYTES, pieceCount, PieceHashes, pieceHashOfLeaves } from '#formats'

export class MemoryFile {
  readonly #bytes: Uint8Array<ArrayBuffer>
  readonly #hashes: PieceHashes

  /** @param root BEP 52 root, which has to be that of the bytes */
  constructor(bytes: Uint8Array<ArrayBuffer>, root: Uint8Array) {
    this.#bytes = bytes
    this.#hashes = new PieceHashes(root, bytes.byteLength)
    const hashes = pieceHashesOf(bytes)
    const isRoot = this.#hashes.put({ first: 0, hashes, proof: new Uint8Array(0) }) !== undefined
    assert(isRoot, 'the root of a file in memory is its own')
  }

  /** Hashes of a piece's blocks. */
  leavesOf(piece: number): Uint8Array<ArrayBuffer> {
    return leafHashes(this.#piece(piece))
  }

  hashesOf(range: { readonly first: number; readonly count: number; readonly proofLayers: number }) {
    return this.#hashes.get(range)
  }

  read(piece: number, offset: number, length: number): Uint8Array<ArrayBuffer> {
    return this.#piece(piece).slice(offset, offset + length)
  }

  #piece(piece: number): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(piece * PIECE_BYTES, (piece + 1) * PIECE_BYTES)
  }
}

/** Whether bytes are all of the file with this root. */
export function isWholeFile(
  bytes: Uint8Array<ArrayBuffer>,
  file: { readonly root: Uint8Array; readonly length: number },
): boolean {
  if (bytes.byteLength !== file.length || bytes.byteLength === 0) return false
  const tree = new PieceHashes(file.root, bytes.byteLength)
  return tree.put({ first: 0, hashes: pieceHashesOf(bytes), proof: new Uint8Array(0) }) !== undefined
}

function pieceHashesOf(bytes: Uint8Array<ArrayBuffer>): Uint8Array {
  const hashes = Array.from({ length: pieceCount(bytes.byteLength) }, (_, piece) => {
    const leaves = leafHashes(bytes.subarray(piece * PIECE_BYTES, (piece + 1) * PIECE_BYTES))
    return pieceHashOfLeaves(leaves, bytes.byteLength)
  })
  return concatBytes(hashes)
}
