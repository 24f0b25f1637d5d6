/** Which layers of a model are there, as a little bar: one column for a layer, or for several where there are many. */
import { formatLayers, type LayerRange } from '#base'

const WHOLE = '█'
const PART = '▒'
const NONE = '·'

/** "··███···": whole, partly or not there. At most `width` columns, and no more than there are layers. */
export function renderLayerBar(ranges: readonly LayerRange[], layerCount: number, width: number): string {
  const columns = Math.max(1, Math.min(width, layerCount))
  return Array.from({ length: columns }, (_, column) => {
    const first = Math.floor((column * layerCount) / columns)
    const last = Math.max(first + 1, Math.floor(((column + 1) * layerCount) / columns))
    const held = layersWithin(ranges, { first, last })
    return held === 0 ? NONE : held < last - first ? PART : WHOLE
  }).join('')
}

/** Layers of a window that are in one of the ranges, which may overlap. */
function layersWithin(ranges: readonly LayerRange[], window: LayerRange): number {
  let count = 0
  let from = window.first
  for (const { first, last } of [...ranges].sort((a, b) => a.first - b.first)) {
    const begin = Math.max(from, first)
    const end = Math.min(window.last, last)
    if (begin >= end) continue
    count += end - begin
    from = end
  }
  return count
}

/** "8-16, 20-24", "all", or "none"; beside it whether embedding, norm and head are there. */
export function heldText(held: {
  readonly heldLayers: readonly LayerRange[]
  readonly layerCount: number
  readonly hasEdges: boolean
}): { readonly layers: string; readonly edges: string } {
  const { heldLayers, layerCount, hasEdges } = held
  const isWhole = layersWithin(heldLayers, { first: 0, last: layerCount }) === layerCount
  const layers = heldLayers.length === 0 ? 'none' : isWhole ? 'all' : heldLayers.map(formatLayers).join(', ')
  return { layers, edges: hasEdges ? 'edges' : 'no edges' }
}
