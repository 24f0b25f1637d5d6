/** A contiguous range of a model's layers, [first, last): the unit in which nodes serve a model. */

/** Layers `first` (inclusive, from 0) to `last` (exclusive). A valid range is not empty. */
export type LayerRange = {
  readonly first: number
  readonly last: number
}

/** "0-12": the form that people type and read; `last` is exclusive, as in `--layers A-B`. */
export function formatLayers(range: LayerRange): string {
  return `${range.first}-${range.last}`
}

/** Reads "A-B" with A < B; undefined where the text is anything else. */
export function decodeLayers(text: string): LayerRange | undefined {
  const match = /^(\d{1,5})-(\d{1,5})$/.exec(text)
  if (match === null) return undefined
  const range = { first: Number(match[1]), last: Number(match[2]) }
  return range.first < range.last ? range : undefined
}

export function layersIn(range: LayerRange): number {
  return range.last - range.first
}

/** Whether every layer of `inner` is in `outer`. */
export function containsLayers(outer: LayerRange, inner: LayerRange): boolean {
  return outer.first <= inner.first && inner.last <= outer.last
}
