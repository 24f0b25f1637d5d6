/**
 * `.torrent` files (BEP 3, BEP 52): the info dictionary, and beside it the hashes of all pieces, which lead to the roots
 * in it. The keys of "piece layers" are these roots, as bytes.
 */
import { assert, concatBytes, toHex } from '#base'
import { equalInConstantTime, SHA256_BYTES } from '#crypto'
import { splitDict, stringIn } from './binary-dict.ts'
import { caught, type DescriptionFault, refusal } from './errors.ts'
import { TORRENT_FILE_BYTES_MAX, TORRENT_FILES_MAX, TORRENT_KEYS_MAX } from './limits.ts'
import { PIECE_BYTES, PieceTree } from './pieces.ts'
import { parseTorrentInfo, rootKey, type Torrent, type TorrentFile } from './torrent.ts'

/** Hashes of a file's pieces, one after another, by the file's root in hexadecimal digits. */
export type PieceLayers = ReadonlyMap<string, Uint8Array>

export type TorrentFileContent = {
  readonly torrent: Torrent
  /** Those that are there, each checked against its root. None of files of one piece, and none where pieces are not of 1 MiB. */
  readonly pieceLayers: PieceLayers
}

/**
 * The bytes of a .torrent file.
 * @param pieceLayers of every file that has more than one piece, as `PieceTree.layer` gives them
 */
export function encodeTorrentFile(torrent: Torrent, pieceLayers: PieceLayers): Uint8Array<ArrayBuffer> {
  const keys = torrent.files.filter(file => file.pieceCount > 1).map(rootKey)
  // Sorted as bencode wants it: hexadecimal digits sort as the bytes do. Two files of the same content have one entry.
  const layers = [...new Set(keys)].sort().flatMap(key => {
    const layer = pieceLayers.get(key)
    const file = torrent.files.find(candidate => rootKey(candidate) === key)
    assert(layer !== undefined && layer.byteLength === (file?.pieceCount ?? 0) * SHA256_BYTES, 'hashes of every piece')
    return [ascii(`${SHA256_BYTES}:`), file?.root ?? layer, ascii(`${layer.byteLength}:`), layer]
  })
  return concatBytes([ascii('d4:info'), torrent.info, ascii('12:piece layersd'), ...layers, ascii('ee')])
}

/** Reads a .torrent file; what else is in it (trackers, comments, web seeds) is left where it is. */
export function decodeTorrentFile(bytes: Uint8Array): TorrentFileContent | DescriptionFault {
  return caught(() => parseTorrentFile(bytes))
}

/** As `decodeTorrentFile`. @throws FormatError FORMAT_TORRENT_… */
export function parseTorrentFile(bytes: Uint8Array): TorrentFileContent {
  if (bytes.byteLength > TORRENT_FILE_BYTES_MAX) {
    const what = `a torrent of ${bytes.byteLength} bytes; at most ${TORRENT_FILE_BYTES_MAX} are read`
    throw refusal('FORMAT_TORRENT_LIMIT', what)
  }
  const entries = entriesOf(bytes, TORRENT_KEYS_MAX, toText)
  const info = entries.get('info')
  if (info === undefined) throw malformed('it has no info')
  const torrent = parseTorrentInfo(info)
  const layers = entries.get('piece layers')
  return { torrent, pieceLayers: layers === undefined ? new Map() : readLayers(layers, torrent) }
}

function readLayers(bytes: Uint8Array, torrent: Torrent): PieceLayers {
  const found = entriesOf(bytes, TORRENT_FILES_MAX, toHex)
  const checked = new Map<string, Uint8Array>()
  if (torrent.pieceBytes !== PIECE_BYTES) return checked
  for (const file of torrent.files) {
    const value = found.get(rootKey(file))
    if (file.pieceCount < 2 || value === undefined || checked.has(rootKey(file))) continue
    const layer = stringIn(value)
    if (layer === undefined || !isLayerOf(layer, file)) {
      throw refusal('FORMAT_TORRENT_LAYERS', `the hashes of the pieces of "${file.name}" do not lead to its root`)
    }
    checked.set(rootKey(file), new Uint8Array(layer))
  }
  return checked
}

/** Whether hashes of pieces of 1 MiB are those of this file. */
function isLayerOf(layer: Uint8Array, file: Pick<TorrentFile, 'root' | 'length' | 'pieceCount'>): boolean {
  if (layer.byteLength !== file.pieceCount * SHA256_BYTES) return false
  return equalInConstantTime(new PieceTree(layer, file.length).root, file.root)
}

function entriesOf(
  bytes: Uint8Array,
  entriesMax: number,
  nameOf: (key: Uint8Array) => string,
): ReadonlyMap<string, Uint8Array> {
  const entries = splitDict(bytes, entriesMax)
  if (entries === undefined) throw malformed('it is not a bencoded dictionary')
  const named = new Map(entries.map(({ key, value }) => [nameOf(key), value]))
  if (named.size !== entries.length) throw malformed('a key of it is there twice')
  return named
}

/** One character for each byte, so that no two keys have one name. */
function toText(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}

function ascii(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

function malformed(what: string): Error {
  return refusal('FORMAT_TORRENT_MALFORMED', `not a torrent: ${what}`)
}
