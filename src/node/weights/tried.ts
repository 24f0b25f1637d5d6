/** Which parts of a model were run once before they are used, and which still have to be. */
import type { LayerRange } from '#base'
import type { TrialParts } from '#engine'
import type { TriedParts } from '#storage'

const NOTHING: TriedParts = { layers: [], edges: false }

/** What of the wanted parts was not tried; undefined: all was. Layers are tried again where some between were not. */
export function untriedOf(tried: TriedParts = NOTHING, { layers, edges = false }: TrialParts): TrialParts | undefined {
  const left = layers === undefined ? undefined : uncovered(tried.layers, layers)
  const hasEdges = edges && !tried.edges
  if (left === undefined && !hasEdges) return undefined
  return { ...(left === undefined ? {} : { layers: left }), edges: hasEdges }
}

export function withTried(tried: TriedParts = NOTHING, { layers, edges = false }: TrialParts): TriedParts {
  return {
    layers: layers === undefined ? tried.layers : joined([...tried.layers, layers]),
    edges: tried.edges || edges,
  }
}

/** From the first layer that no range covers to the last one. */
function uncovered(ranges: readonly LayerRange[], { first, last }: LayerRange): LayerRange | undefined {
  const isCovered = (layer: number): boolean => ranges.some(range => range.first <= layer && layer < range.last)
  let [from, to] = [first, last]
  while (from < to && isCovered(from)) from++
  while (to > from && isCovered(to - 1)) to--
  return from < to ? { first: from, last: to } : undefined
}

function joined(ranges: readonly LayerRange[]): LayerRange[] {
  const merged: { first: number; last: number }[] = []
  for (const range of [...ranges].sort((a, b) => a.first - b.first)) {
    const before = merged.at(-1)
    if (before !== undefined && range.first <= before.last) before.last = Math.max(before.last, range.last)
    else merged.push({ ...range })
  }
  return merged
}
