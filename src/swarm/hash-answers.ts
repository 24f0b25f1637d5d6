/** Answers to BEP 52 hash requests: hashes of pieces, and of the blocks of one piece. */
import { concatBytes } from '#base'
import { sha256 } from '#crypto'
import type { Torrent, TorrentFile } from '#formats'
import { BLOCK_BYTES, type PieceStore } from './types.ts'
import { HASH_BYTES, uncleCount } from './wire/protocol.ts'
import type { HashRange } from './wire/types.ts'

/** The layer of a tree whose hashes are those of pieces of 1 MiB. */
export const PIECE_LAYER = 6
/** That of blocks. */
const BLOCK_LAYER = 0
const PIECE_BLOCKS = 64

export type HashSource = { readonly torrent: Torrent; readonly store: PieceStore }

/** The file of a tree. */
function fileOfRoot(torrent: Torrent, root: Uint8Array): number {
  return torrent.files.findIndex(
    file => file.root.byteLength === root.byteLength && file.root.every((byte, at) => byte === root[at]),
  )
}

/** @returns the hashes, then the uncles; undefined: they are not here, or the request makes no sense */
export async function hashesFor(source: HashSource, range: HashRange): Promise<Uint8Array | undefined> {
  const file = fileOfRoot(source.torrent, range.root)
  const facts = source.torrent.files[file]
  if (facts === undefined) return undefined
  if (range.baseLayer === BLOCK_LAYER) return blockHashes(source, facts, range)
  if (range.baseLayer !== PIECE_LAYER) return undefined
  const { index: first, length: count, proofLayers } = range
  const found = source.store.hashesOf(file, { first, count, proofLayers })
  return found === undefined ? undefined : concatBytes([found.hashes, found.proof])
}

/** What is asked for to learn the hashes of all blocks of a piece. */
export function leavesRange(torrent: Torrent, piece: number): HashRange | undefined {
  const file = fileOfPiece(torrent, piece)
  if (file === undefined) return undefined
  const length = file.pieceCount > 1 ? PIECE_BLOCKS : Math.max(2, 2 ** Math.ceil(Math.log2(blocksIn(file, 0))))
  return {
    root: file.root,
    baseLayer: BLOCK_LAYER,
    index: (piece - file.firstPiece) * PIECE_BLOCKS,
    length,
    proofLayers: 0,
  }
}

/** The piece whose blocks' hashes were asked for. */
export function pieceOfLeaves(torrent: Torrent, range: HashRange): number {
  const firstPiece = torrent.files[fileOfRoot(torrent, range.root)]?.firstPiece ?? 0
  return firstPiece + Math.floor(range.index / PIECE_BLOCKS)
}

/** The piece whose blocks' hashes these are, and those hashes without what fills up the tree. */
export function leavesIn(
  torrent: Torrent,
  range: HashRange,
  hashes: Uint8Array,
): { readonly piece: number; readonly leaves: Uint8Array } | undefined {
  const file = torrent.files[fileOfRoot(torrent, range.root)]
  const piece = pieceOfLeaves(torrent, range)
  if (file === undefined || range.index % PIECE_BLOCKS !== 0 || piece >= file.firstPiece + file.pieceCount) {
    return undefined
  }
  return { piece, leaves: hashes.subarray(0, blocksIn(file, piece - file.firstPiece) * HASH_BYTES) }
}

function fileOfPiece(torrent: Torrent, piece: number): TorrentFile | undefined {
  return torrent.files.find(({ firstPiece, pieceCount }) => piece >= firstPiece && piece < firstPiece + pieceCount)
}

/** Hashes of blocks of one piece, with uncles that lie within the piece. */
async function blockHashes(
  { store }: HashSource,
  file: TorrentFile,
  range: HashRange,
): Promise<Uint8Array | undefined> {
  const own = Math.floor(range.index / PIECE_BLOCKS)
  const width = file.pieceCount > 1 ? PIECE_BLOCKS : 2 ** Math.ceil(Math.log2(blocksIn(file, 0)))
  const first = range.index % PIECE_BLOCKS
  if (own >= file.pieceCount || first + range.length > Math.max(2, width)) return undefined
  const known = await store.leavesOf(file.firstPiece + own)
  if (known === undefined) return undefined
  const leaves = new Uint8Array(Math.max(2, width) * HASH_BYTES)
  leaves.set(known)
  const uncles: Uint8Array[] = []
  let level: Uint8Array = leaves
  const bottom = Math.log2(range.length)
  for (let height = 0; uncles.length < uncleCount(range); height++, level = above(level)) {
    if (level.byteLength <= HASH_BYTES) return undefined
    // Below this the siblings are among the asked hashes, or follow from them.
    if (height < bottom) continue
    const sibling = Math.floor(first / 2 ** height) ^ 1
    uncles.push(level.subarray(sibling * HASH_BYTES, (sibling + 1) * HASH_BYTES))
  }
  return concatBytes([leaves.subarray(first * HASH_BYTES, (first + range.length) * HASH_BYTES), ...uncles])
}

function above(level: Uint8Array): Uint8Array {
  const parents = new Uint8Array(level.byteLength / 2)
  for (let at = 0; at < parents.byteLength; at += HASH_BYTES)
    parents.set(sha256(level.subarray(2 * at, 2 * at + 2 * HASH_BYTES)), at)
  return parents
}

function blocksIn(file: TorrentFile, own: number): number {
  const bytes = Math.min(PIECE_BLOCKS * BLOCK_BYTES, file.length - own * PIECE_BLOCKS * BLOCK_BYTES)
  return Math.ceil(bytes / BLOCK_BYTES)
}
