/** What a node that joins a running swarm should serve: what nobody serves yet, else what is served least. */
import type { LayerRange } from '#base'
import { isPlanFault, type PlanFault } from './errors.ts'
import { longestFit } from './place-layers.ts'
import type { PlacedStage, PlanModel, PlanNode, ServedRange } from './types.ts'

/** Maximal runs of layers that `isIn` holds for, in order. */
function runs(layerCount: number, isIn: (layer: number) => boolean): LayerRange[] {
  const found: LayerRange[] = []
  let first: number | undefined
  for (let layer = 0; layer <= layerCount; layer++) {
    if (layer < layerCount && isIn(layer)) first ??= layer
    else if (first !== undefined) {
      found.push({ first, last: layer })
      first = undefined
    }
  }
  return found
}

/** How many ranges serve each layer, and how fast the fastest of them is, in milliseconds for this layer. */
function coverage(layerCount: number, served: readonly ServedRange[]): { count: number; bestMs: number }[] {
  const layers = Array.from({ length: layerCount }, () => ({ count: 0, bestMs: Number.POSITIVE_INFINITY }))
  for (const { layers: range, stepMs } of served) {
    const perLayerMs = stepMs / (range.last - range.first)
    for (const layer of layers.slice(range.first, range.last)) {
      layer.count++
      layer.bestMs = Math.min(layer.bestMs, perLayerMs)
    }
  }
  return layers
}

/** The layers that nobody serves. */
export function uncoveredLayers(layerCount: number, served: readonly LayerRange[]): LayerRange[] {
  return runs(layerCount, layer => !served.some(range => range.first <= layer && layer < range.last))
}

/**
 * What `node` should serve, given what is served now: the first gap that it has room for (as much of it as fits); where
 * there is no gap, a second copy of the layers that the fewest nodes serve, the slowest of them first.
 */
export function placeMissing(
  model: PlanModel,
  served: readonly ServedRange[],
  node: PlanNode,
): PlacedStage | PlanFault {
  const layerCount = model.layers.length
  const layers = coverage(layerCount, served)
  const thinnest = layers.reduce((least, layer) => Math.min(least, layer.count), Number.POSITIVE_INFINITY)
  const wanted = runs(layerCount, layer => layers[layer]?.count === thinnest)
  if (thinnest > 0) {
    const slowness = (range: LayerRange): number =>
      layers.slice(range.first, range.last).reduce((sum, layer) => sum + layer.bestMs, 0)
    wanted.sort((a, b) => slowness(b) - slowness(a) || a.first - b.first)
  }
  let fault: PlanFault | undefined
  for (const range of wanted) {
    const stage = longestFit(model, range, node)
    if (!isPlanFault(stage)) return stage
    fault ??= stage
  }
  return fault ?? { code: 'PLAN_TOO_LARGE', layers: layerCount, nodes: 1 }
}
