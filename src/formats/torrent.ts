/**
 * The BitTorrent v2 torrent of a model (BEP 52). It follows from the core alone, so whoever has the core makes the same
 * one, and all of them meet under one info-hash:
 *
 *   info = { "file tree": { "core.cbor": { "": { length, "pieces root" } }, "model.gguf": { "": { ... } } },
 *            "meta version": 2, "name": "koinon-" and 16 digits of the model id, "piece length": 1 MiB }
 *
 * Two files, because libtorrent 2.0.8 stalls on torrents with a directory of one. Pieces are counted over both files, in
 * order; each file begins with a new one.
 */
import { assert, Bitfield, toHex } from '#base'
import { equalInConstantTime, SHA256_BYTES, sha256 } from '#crypto'
import { type BencodeValue, decodeBencode, encodeBencode, isDict } from './bencode.ts'
import { modelFileOf, parseCore } from './core.ts'
import { caught, type DescriptionFault, refusal } from './errors.ts'
import {
  CORE_BYTES_MAX,
  MODEL_FILE_BYTES_MAX,
  TORRENT_FILES_MAX,
  TORRENT_INFO_BYTES_MAX,
  TORRENT_PATH_CHARS_MAX,
  TORRENT_PIECES_MAX,
} from './limits.ts'
import { PIECE_BYTES, pieceTreeOf } from './pieces.ts'
import { printable } from './printable.ts'

/** Bytes of a file. */
export type ByteRange = { readonly offset: number; readonly length: number }

export type TorrentFile = {
  /** Where it lies in the torrent, its parts joined by "/": a label to show, never a path to open. */
  readonly name: string
  /** BEP 52 pieces root, 32 bytes; none of a file that is empty. */
  readonly root: Uint8Array
  /** Bytes. */
  readonly length: number
  /** Counted over all files of the torrent. */
  readonly firstPiece: number
  readonly pieceCount: number
}

export type Torrent = {
  /** SHA-256 of `info`, 32 bytes. DHTs and handshakes take the first 20. */
  readonly infoHash: Uint8Array
  /** The info dictionary, bencoded. */
  readonly info: Uint8Array
  readonly name: string
  /** Bytes of a piece; the last one of a file may be shorter. */
  readonly pieceBytes: number
  readonly files: readonly TorrentFile[]
  readonly pieceCount: number
  /** Whether it has the form of a model's torrent. Whether it is that of a model shows its core, once that is here. */
  readonly isCanonical: boolean
}

/** Where in a model's torrent its files are. */
export const TORRENT_CORE_FILE = 0
export const TORRENT_MODEL_FILE = 1

const CORE_NAME = 'core.cbor'
const MODEL_NAME = 'model.gguf'
const META_VERSION = 2
const ID_DIGITS_SHOWN = 16
const BLOCK_BYTES = 16 * 1024
const TREE_DEPTH_MAX = 8

type TreeFile = Pick<TorrentFile, 'name' | 'root' | 'length'>

/**
 * The torrent of a model.
 * @param core its canonical core @throws FormatError FORMAT_CORE_… for bytes that are none
 */
export function torrentOf(core: Uint8Array): Torrent {
  const parsed = parseCore(core)
  const coreFile: TreeFile = { name: CORE_NAME, root: pieceTreeOf(core).root, length: core.byteLength }
  const modelFile: TreeFile = { name: MODEL_NAME, ...modelFileOf(parsed) }
  const name = `koinon-${parsed.id.slice(0, ID_DIGITS_SHOWN)}`
  const info = canonicalInfo(name, [coreFile, modelFile])
  return assemble(info, { name, pieceBytes: PIECE_BYTES, files: [coreFile, modelFile], isCanonical: true })
}

/** Reads an info dictionary: what a client gives of a torrent of which only the link is known (BEP 9). */
export function decodeTorrentInfo(info: Uint8Array): Torrent | DescriptionFault {
  return caught(() => parseTorrentInfo(info))
}

/** As `decodeTorrentInfo`. @throws FormatError FORMAT_TORRENT_… */
export function parseTorrentInfo(info: Uint8Array): Torrent {
  if (info.byteLength > TORRENT_INFO_BYTES_MAX) {
    const what = `an info dictionary of ${info.byteLength} bytes; at most ${TORRENT_INFO_BYTES_MAX} are read`
    throw refusal('FORMAT_TORRENT_LIMIT', what)
  }
  const value = decodeBencode(info)
  if (!isDict(value)) throw malformed('its info is not a bencoded dictionary')
  const version = value['meta version']
  if (version !== META_VERSION) {
    const seen = typeof version === 'number' ? String(version) : '1'
    throw refusal('FORMAT_TORRENT_VERSION', `a torrent of version ${seen}; BitTorrent v2 is needed`)
  }
  const pieceBytes = value['piece length']
  if (typeof pieceBytes !== 'number' || pieceBytes < BLOCK_BYTES || !Number.isInteger(Math.log2(pieceBytes))) {
    throw malformed('its piece length is not a power of two from 16 KiB up')
  }
  const name = textOf(value['name'])
  if (name === undefined) throw malformed('it has no name')
  const files: TreeFile[] = []
  readTree(value['file tree'], { path: [], files, pieceBytes })
  const isCanonical = hasCanonicalForm({ info, name, pieceBytes, files })
  return assemble(new Uint8Array(info), {
    name: printable(name, TORRENT_PATH_CHARS_MAX),
    pieceBytes,
    files,
    isCanonical,
  })
}

/** Bytes of a piece; 0 for one that the torrent does not have. */
export function pieceBytesIn(torrent: Torrent, piece: number): number {
  const file = torrent.files.find(
    ({ firstPiece, pieceCount }) => piece >= firstPiece && piece < firstPiece + pieceCount,
  )
  if (file === undefined || !Number.isInteger(piece)) return 0
  return Math.min(torrent.pieceBytes, file.length - (piece - file.firstPiece) * torrent.pieceBytes)
}

/**
 * The pieces that hold these bytes, as a set over the whole torrent.
 * @param file its place in `torrent.files`: `TORRENT_MODEL_FILE` for a model's weights
 */
export function piecesOf(torrent: Torrent, file: number, ranges: readonly ByteRange[]): Bitfield {
  const pieces = new Bitfield(torrent.pieceCount)
  for (const range of ranges) {
    const { first, last } = piecesIn(torrent, file, range)
    for (let piece = first; piece < last; piece++) pieces.set(piece)
  }
  return pieces
}

/** Pieces `first` to `last` (exclusive) hold a range of a file. */
export function piecesIn(
  torrent: Torrent,
  file: number,
  { offset, length }: ByteRange,
): { readonly first: number; readonly last: number } {
  const { firstPiece = 0, length: fileBytes = 0 } = torrent.files[file] ?? {}
  assert(offset >= 0 && length >= 0 && offset + length <= fileBytes, 'a range that the file does not have')
  if (length === 0) return { first: firstPiece, last: firstPiece }
  return {
    first: firstPiece + Math.floor(offset / torrent.pieceBytes),
    last: firstPiece + Math.ceil((offset + length) / torrent.pieceBytes),
  }
}

function canonicalInfo(name: string, files: readonly TreeFile[]): Uint8Array<ArrayBuffer> {
  const leaves = files.map(file => [file.name, { '': { length: file.length, 'pieces root': file.root } }] as const)
  const info = encodeBencode({
    'file tree': Object.fromEntries(leaves),
    'meta version': META_VERSION,
    name: new TextEncoder().encode(name),
    'piece length': PIECE_BYTES,
  })
  assert(info !== undefined, 'the info dictionary of a model can be written')
  return info
}

/** Whether making the torrent anew from its files gives the same bytes. */
function hasCanonicalForm({
  info,
  name,
  pieceBytes,
  files,
}: {
  readonly info: Uint8Array
  readonly name: string
  readonly pieceBytes: number
  readonly files: readonly TreeFile[]
}): boolean {
  const [core, model] = files
  if (core === undefined || model === undefined || files.length !== 2 || pieceBytes !== PIECE_BYTES) return false
  if (core.name !== CORE_NAME || model.name !== MODEL_NAME || !/^koinon-[0-9a-f]{16}$/.test(name)) return false
  if (core.length < 1 || core.length > CORE_BYTES_MAX || model.length < 1 || model.length > MODEL_FILE_BYTES_MAX) {
    return false
  }
  return equalInConstantTime(canonicalInfo(name, files), info)
}

type Walk = { readonly path: readonly string[]; readonly files: TreeFile[]; readonly pieceBytes: number }

/** Files in BEP 52's order: that of the names' bytes, at each level. */
function readTree(tree: BencodeValue | undefined, { path, files, pieceBytes }: Walk): void {
  if (!isDict(tree)) throw malformed('its file tree is not one')
  if (path.length > TREE_DEPTH_MAX)
    throw refusal('FORMAT_TORRENT_LIMIT', 'a torrent with too many levels of directories')
  const names = Object.keys(tree).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
  for (const name of names) {
    const entry = tree[name]
    if (name === '') {
      if (names.length > 1 || path.length === 0) throw malformed('a file of it is a directory too')
      files.push(readLeaf(entry, path))
      if (files.length > TORRENT_FILES_MAX) {
        throw refusal('FORMAT_TORRENT_LIMIT', `a torrent of more than ${TORRENT_FILES_MAX} files`)
      }
    } else readTree(entry, { path: [...path, name], files, pieceBytes })
  }
}

function readLeaf(leaf: BencodeValue | undefined, path: readonly string[]): TreeFile {
  if (!isDict(leaf)) throw malformed('a file of it has no length')
  const { length, 'pieces root': root } = leaf
  if (typeof length !== 'number' || length < 0) throw malformed('a file of it has no length')
  const name = printable(path.join('/'), TORRENT_PATH_CHARS_MAX)
  if (length === 0) return { name, root: new Uint8Array(0), length }
  if (!(root instanceof Uint8Array) || root.byteLength !== SHA256_BYTES) throw malformed('a file of it has no root')
  return { name, root: new Uint8Array(root), length }
}

function assemble(
  info: Uint8Array,
  facts: Pick<Torrent, 'name' | 'pieceBytes' | 'isCanonical'> & { readonly files: readonly TreeFile[] },
): Torrent {
  let pieceCount = 0
  const files = facts.files.map(file => {
    const placed = { ...file, firstPiece: pieceCount, pieceCount: Math.ceil(file.length / facts.pieceBytes) }
    pieceCount += placed.pieceCount
    return placed
  })
  if (pieceCount > TORRENT_PIECES_MAX) {
    throw refusal('FORMAT_TORRENT_LIMIT', `a torrent of ${pieceCount} pieces; at most ${TORRENT_PIECES_MAX} are taken`)
  }
  return { infoHash: sha256(info), info, ...facts, files, pieceCount }
}

function textOf(value: BencodeValue | undefined): string | undefined {
  if (!(value instanceof Uint8Array) || value.byteLength > 4 * TORRENT_PATH_CHARS_MAX) return undefined
  return new TextDecoder().decode(value)
}

function malformed(what: string): Error {
  return refusal('FORMAT_TORRENT_MALFORMED', `not a torrent: ${what}`)
}

/** The key of a file's hashes wherever maps hold them. */
export function rootKey(file: Pick<TorrentFile, 'root'>): string {
  return toHex(file.root)
}
