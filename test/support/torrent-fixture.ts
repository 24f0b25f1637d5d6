/**
 * A small model as a torrent, all of it in memory: `core.cbor` and `model.gguf`, their BEP 52 trees, the info dictionary, the
 * .torrent file and the magnet link. Built by the book, beside the program's own code.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { concatBytes, type Random, toHex } from '#base'
import { sha256 } from '#crypto'
import { encodeBencode } from '#formats'

export const BLOCK = 16 * 1024
export const PIECE = 1024 * 1024
const PIECE_LAYER = 6
const HASH = 32

export type FixtureFile = {
  readonly name: string
  readonly bytes: Uint8Array
  readonly root: Uint8Array
  /** From the leaves upwards, each filled up to a power of two. */
  readonly layers: readonly Uint8Array[]
  readonly firstPiece: number
  readonly pieceCount: number
}

export type TorrentFixture = {
  readonly name: string
  readonly files: readonly FixtureFile[]
  readonly info: Uint8Array
  /** Truncated. */
  readonly infoHash: Uint8Array
  readonly torrentFile: Uint8Array
  readonly magnet: string
  readonly pieceCount: number
  pieceBytes(piece: number): number
  read(piece: number, offset: number, length: number): Uint8Array
  fileOf(piece: number): FixtureFile
}

export function torrentFixture(
  random: Random,
  sizes: { readonly core: number; readonly model: number },
): TorrentFixture {
  let firstPiece = 0
  const file = (name: string, size: number): FixtureFile => {
    const bytes = fastBytes(random, size)
    const layers = layersOf(bytes)
    const pieceCount = Math.ceil(size / PIECE)
    const made = { name, bytes, layers, root: layers.at(-1) ?? new Uint8Array(HASH), firstPiece, pieceCount }
    firstPiece += pieceCount
    return made
  }
  const files = [file('core.cbor', sizes.core), file('model.gguf', sizes.model)]
  const name = `koinon-${toHex(random.bytes(8))}`
  const tree = Object.fromEntries(
    files.map(({ name: path, bytes, root }) => [path, { '': { length: bytes.byteLength, 'pieces root': root } }]),
  )
  const info =
    encodeBencode({
      'file tree': tree,
      'meta version': 2,
      name: new TextEncoder().encode(name),
      'piece length': PIECE,
    }) ?? new Uint8Array(0)
  const fileOf = (piece: number): FixtureFile => {
    const found = files.find(({ firstPiece: first, pieceCount }) => piece >= first && piece < first + pieceCount)
    if (found === undefined) throw new RangeError('no such piece')
    return found
  }
  const infoHash32 = sha256(info)
  return {
    name,
    files,
    info,
    infoHash: infoHash32.slice(0, 20),
    torrentFile: torrentFileOf(info, files),
    magnet: `magnet:?xt=urn:btmh:1220${toHex(infoHash32)}&dn=${name}`,
    pieceCount: firstPiece,
    fileOf,
    pieceBytes: piece => {
      const { bytes, firstPiece: first } = fileOf(piece)
      return Math.min(PIECE, bytes.byteLength - (piece - first) * PIECE)
    },
    read: (piece, offset, length) => {
      const { bytes, firstPiece: first } = fileOf(piece)
      const from = (piece - first) * PIECE + offset
      return bytes.subarray(from, from + length)
    },
  }
}

/** Writes the files as a client keeps them. @returns the .torrent file */
export function writeFixture(fixture: TorrentFixture, directory: string): string {
  mkdirSync(join(directory, fixture.name), { recursive: true })
  for (const { name, bytes } of fixture.files) writeFileSync(join(directory, fixture.name, name), bytes)
  const path = join(directory, 'model.torrent')
  writeFileSync(path, fixture.torrentFile)
  return path
}

/** Hashes of a layer with their uncles, as BEP 52 answers; undefined: the tree does not have them. */
export function hashesIn(
  file: FixtureFile,
  range: { readonly baseLayer: number; readonly index: number; readonly length: number; readonly proofLayers: number },
): Uint8Array | undefined {
  const { baseLayer, index, length, proofLayers } = range
  const layer = file.layers[baseLayer]
  if (layer === undefined || (index + length) * HASH > layer.byteLength) return undefined
  const parts = [layer.subarray(index * HASH, (index + length) * HASH)]
  let at = index
  for (let up = 1; up <= proofLayers; up++) {
    at >>= 1
    const above = file.layers[baseLayer + up]
    if (above === undefined || above.byteLength === HASH) break
    if (up >= Math.log2(length)) parts.push(above.subarray((at ^ 1) * HASH, ((at ^ 1) + 1) * HASH))
  }
  return concatBytes(parts)
}

/** The root that hashes and their uncles lead to. */
export function rootOf(range: { readonly index: number; readonly length: number }, hashes: Uint8Array): Uint8Array {
  let level = hashes.subarray(0, range.length * HASH)
  while (level.byteLength > HASH) level = parentsOf(level)
  let at = range.index / range.length
  for (let from = range.length * HASH; from < hashes.byteLength; from += HASH, at >>= 1) {
    const uncle = hashes.subarray(from, from + HASH)
    level = sha256(concatBytes((at & 1) === 1 ? [uncle, level] : [level, uncle]))
  }
  return level
}

function layersOf(bytes: Uint8Array): Uint8Array[] {
  const leafCount = 2 ** Math.ceil(Math.log2(Math.max(1, Math.ceil(bytes.byteLength / BLOCK))))
  const leaves = new Uint8Array(leafCount * HASH)
  for (let block = 0; block * BLOCK < bytes.byteLength; block++) {
    leaves.set(sha256(bytes.subarray(block * BLOCK, (block + 1) * BLOCK)), block * HASH)
  }
  const layers: Uint8Array[] = [leaves]
  for (let layer = leaves; layer.byteLength > HASH; ) {
    layer = parentsOf(layer)
    layers.push(layer)
  }
  return layers
}

function parentsOf(layer: Uint8Array): Uint8Array<ArrayBuffer> {
  const parents = new Uint8Array(layer.byteLength / 2)
  for (let at = 0; at < parents.byteLength; at += HASH) parents.set(sha256(layer.subarray(2 * at, 2 * (at + HASH))), at)
  return parents
}

/** "piece layers" has roots as keys, which are no text. */
function torrentFileOf(info: Uint8Array, files: readonly FixtureFile[]): Uint8Array {
  const text = (value: string): Uint8Array => new TextEncoder().encode(value)
  const string = (bytes: Uint8Array): Uint8Array => concatBytes([text(`${bytes.byteLength}:`), bytes])
  const layers = files
    .filter(({ pieceCount }) => pieceCount > 1)
    .sort((a, b) => Buffer.compare(a.root, b.root))
    .map(({ root, layers: all, pieceCount }) => {
      const layer = all[PIECE_LAYER] ?? new Uint8Array(0)
      return concatBytes([string(root), string(layer.subarray(0, pieceCount * HASH))])
    })
  return concatBytes([text('d4:info'), info, text('12:piece layersd'), ...layers, text('ee')])
}

function fastBytes(random: Random, size: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(size / 4))
  for (let at = 0; at < words.length; at++) words[at] = random.uint32()
  return new Uint8Array(words.buffer, 0, size)
}
