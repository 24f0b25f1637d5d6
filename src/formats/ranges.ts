/**
 * Which bytes of a model's file a node needs for what it does, and, the other way round, what a node with some pieces of
 * the file can do.
 *
 *   header [0, first tensor)   everybody: metadata, tensor index, vocabulary
 *   blk.N.*                    the stage that has layer N
 *   rope_*                     every stage: factors of rotary positions, which no layer owns
 *   token_embd.*, output*      the edges: embedding, final norm, head
 *
 * A tensor that is none of these goes to both: it is better to have a byte too many than a model that does not load.
 */
import type { Bitfield, LayerRange } from '#base'
import type { ModelCore } from './core.ts'
import { modelFileOf } from './core.ts'
import { layerOf } from './footprint.ts'
import type { GgufTensor } from './gguf.ts'
import { type ByteRange, piecesIn, type Torrent, TORRENT_MODEL_FILE } from './torrent.ts'

/** What a node does with a model. Neither layers nor edges: the header alone. */
export type WantedParts =
  | 'all'
  | {
      /** Layers of one stage. */
      readonly layers?: LayerRange
      /** Embedding, norm and head, for taking prompts. */
      readonly edges?: boolean
    }

/** What of a model is here whole. */
export type HeldParts = {
  /** Layers that can be served, in order; neighbours are one range. */
  readonly layers: readonly LayerRange[]
  readonly hasEdges: boolean
}

type Owner = 'edges' | 'stages' | 'both' | number

/** Layers of the model: one more than the highest number in a name. */
export function layerCountOf(core: ModelCore): number {
  return core.tensors.reduce((count, { name }) => Math.max(count, (layerOf(name) ?? -1) + 1), 0)
}

/** Bytes of the model's file that are needed: sorted, no two of them touch or overlap. */
export function wantedRanges(core: ModelCore, parts: WantedParts): ByteRange[] {
  if (parts === 'all') return [{ offset: 0, length: modelFileOf(core).length }]
  const { layers, edges = false } = parts
  const isWanted = (owner: Owner): boolean => {
    if (typeof owner === 'number') return layers !== undefined && owner >= layers.first && owner < layers.last
    if (owner === 'edges') return edges
    return layers !== undefined || (owner === 'both' && edges)
  }
  const tensors = core.tensors.filter(({ name }) => isWanted(ownerOf(name)))
  return merge([headerOf(core), ...tensors.map(rangeOf)])
}

/** Bytes of all ranges together. */
export function bytesInRanges(ranges: readonly ByteRange[]): number {
  return ranges.reduce((sum, { length }) => sum + length, 0)
}

/**
 * What can be done with these pieces.
 * @param pieces of the whole torrent, as `piecesOf` counts them
 */
export function heldParts(core: ModelCore, torrent: Torrent, pieces: Bitfield): HeldParts {
  const isHere = (range: ByteRange): boolean => {
    const { first, last } = piecesIn(torrent, TORRENT_MODEL_FILE, range)
    for (let piece = first; piece < last; piece++) if (!pieces.has(piece)) return false
    return true
  }
  if (!isHere(headerOf(core))) return { layers: [], hasEdges: false }
  const missing = new Set<Owner>()
  const layers = new Set<number>()
  for (const tensor of core.tensors) {
    const owner = ownerOf(tensor.name)
    if (typeof owner === 'number') layers.add(owner)
    if (!missing.has(owner) && !isHere(rangeOf(tensor))) missing.add(owner)
  }
  const hasStages = !missing.has('stages') && !missing.has('both')
  const whole = [...layers].filter(layer => hasStages && !missing.has(layer)).sort((a, b) => a - b)
  return { layers: joinLayers(whole), hasEdges: !missing.has('edges') && !missing.has('both') }
}

function ownerOf(name: string): Owner {
  const layer = layerOf(name)
  if (layer !== undefined) return layer
  if (name.startsWith('rope_')) return 'stages'
  return /^(?:token_embd|output_norm|output)\./.test(name) ? 'edges' : 'both'
}

function headerOf(core: ModelCore): ByteRange {
  return { offset: 0, length: core.tensors.reduce((first, { offset }) => Math.min(first, offset), Infinity) }
}

function rangeOf({ offset, size }: GgufTensor): ByteRange {
  return { offset, length: size }
}

function merge(ranges: readonly ByteRange[]): ByteRange[] {
  const merged: { offset: number; length: number }[] = []
  for (const range of [...ranges].sort((a, b) => a.offset - b.offset)) {
    const last = merged.at(-1)
    // Ranges of a core do not overlap, so one that does not begin where the last one ends lies behind it.
    if (last !== undefined && range.offset === last.offset + last.length) last.length += range.length
    else merged.push({ ...range })
  }
  return merged
}

function joinLayers(layers: readonly number[]): LayerRange[] {
  const joined: { first: number; last: number }[] = []
  for (const layer of layers) {
    const range = joined.at(-1)
    if (range?.last === layer) range.last++
    else joined.push({ first: layer, last: layer + 1 })
  }
  return joined
}
