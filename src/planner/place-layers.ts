/**
 * Shares a model's layers out over nodes: contiguous ranges, each within its node's memory, so that the slowest stage
 * is as fast as it can be. Nodes take ranges in the order of their ids: the same facts give the same plan everywhere,
 * so nodes that wait for each other agree without a message.
 */
import type { LayerRange } from '#base'
import type { PlanFault } from './errors.ts'
import { PLAN_LAYERS_MAX, PLAN_NODES_MAX } from './limits.ts'
import type { PlacedStage, Placement, PlanModel, PlanNode } from './types.ts'

/** Prefix sums over the layers, so that a range's cost is two subtractions. */
class LayerCosts {
  readonly #weights: number[] = [0]
  readonly #kv: number[] = [0]

  constructor(model: PlanModel) {
    for (const [i, layer] of model.layers.entries()) {
      this.#weights.push((this.#weights[i] ?? 0) + layer.weightBytes)
      this.#kv.push((this.#kv[i] ?? 0) + layer.kvBytesPerPosition)
    }
  }

  weightBytes(range: LayerRange): number {
    return (this.#weights[range.last] ?? 0) - (this.#weights[range.first] ?? 0)
  }

  kvBytes(range: LayerRange, node: PlanNode): number {
    return ((this.#kv[range.last] ?? 0) - (this.#kv[range.first] ?? 0)) * node.kvPositions
  }

  /** Bytes that the node must have for this range. */
  bytes(range: LayerRange, node: PlanNode): number {
    return this.weightBytes(range) + this.kvBytes(range, node)
  }

  stepMs(range: LayerRange, node: PlanNode): number {
    // A node that could not measure itself offers 0: slow, but not infinitely so.
    return (this.weightBytes(range) / Math.max(1, node.weightBytesPerSecond)) * 1000
  }

  stage(range: LayerRange, node: PlanNode): PlacedStage {
    return {
      id: node.id,
      layers: range,
      weightBytes: this.weightBytes(range),
      kvBytes: this.kvBytes(range, node),
      stepMs: this.stepMs(range, node),
    }
  }
}

type Search = {
  readonly costs: LayerCosts
  readonly nodes: readonly PlanNode[]
  readonly layerCount: number
}

/** The best way to give the first layers to the first nodes. `from` is where the last node's range begins. */
type Cell = { readonly unused: number; readonly cost: number; readonly from: number }

/** How costs of stages join: the slowest one, or their sum. */
type Join = (soFarMs: number, stageMs: number) => number

const isBetter = (a: Cell, b: Cell | undefined): boolean =>
  b === undefined || a.unused < b.unused || (a.unused === b.unused && a.cost < b.cost)

/**
 * Dynamic programming over (nodes used up, layers placed). Fewest idle nodes first, then the least joined cost, among
 * plans whose every stage takes at most `stageMsMax`. Both parts of the order keep the property that the best whole
 * has best parts: a count adds up, and both joins never fall.
 */
function search({ costs, nodes, layerCount }: Search, join: Join, stageMsMax: number): Cell[][] {
  let row: (Cell | undefined)[] = [{ unused: 0, cost: 0, from: 0 }]
  const table: Cell[][] = []
  for (const node of nodes) {
    const next: (Cell | undefined)[] = []
    for (let from = 0; from <= layerCount; from++) {
      const cell = row[from]
      if (cell === undefined) continue
      const idle = { unused: cell.unused + 1, cost: cell.cost, from }
      if (isBetter(idle, next[from])) next[from] = idle
      for (let last = from + 1; last <= layerCount; last++) {
        const range = { first: from, last }
        const stageMs = costs.stepMs(range, node)
        if (costs.bytes(range, node) > node.memoryBytes || stageMs > stageMsMax) break
        const taken = { unused: cell.unused, cost: join(cell.cost, stageMs), from }
        if (isBetter(taken, next[last])) next[last] = taken
      }
    }
    table.push(next as Cell[])
    row = next
  }
  return table
}

/** Reads the plan out of a filled table, from the last node back to the first. */
function trace({ costs, nodes, layerCount }: Search, table: readonly (readonly Cell[])[]): Placement {
  const stages: PlacedStage[] = []
  const unused: string[] = []
  let last = layerCount
  for (let n = nodes.length - 1; n >= 0; n--) {
    const cell = table[n]?.[last]
    const node = nodes[n]
    if (cell === undefined || node === undefined) break
    if (cell.from === last) unused.unshift(node.id)
    else stages.unshift(costs.stage({ first: cell.from, last }, node))
    last = cell.from
  }
  return { stages, unused }
}

/** Fills the nodes one by one; what is left over then has no place. Its KV is counted as the last node would need it. */
function missing({ costs, nodes, layerCount }: Search): PlanFault {
  let placed = 0
  for (const node of nodes) {
    const first = placed
    while (placed < layerCount && costs.bytes({ first, last: placed + 1 }, node) <= node.memoryBytes) placed++
  }
  const layers = { first: Math.min(placed, layerCount - 1), last: layerCount }
  const node = nodes.at(-1)
  const missingBytes = node === undefined ? costs.weightBytes(layers) : costs.bytes(layers, node)
  return { code: 'PLAN_DOES_NOT_FIT', missingBytes, layers }
}

const byId = (a: PlanNode, b: PlanNode): number => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)

/**
 * Shares the layers out over as many of the nodes as have room (all of them, where there are at least as many layers),
 * so that the slowest stage is as fast as possible and, among those plans, the sum of all stages too.
 */
export function placeLayers(model: PlanModel, nodes: readonly PlanNode[]): Placement | PlanFault {
  const layerCount = model.layers.length
  if (layerCount < 1 || layerCount > PLAN_LAYERS_MAX || nodes.length > PLAN_NODES_MAX) {
    return { code: 'PLAN_TOO_LARGE', layers: layerCount, nodes: nodes.length }
  }
  const plan: Search = { costs: new LayerCosts(model), nodes: nodes.toSorted(byId), layerCount }
  const slowest = search(plan, Math.max, Number.POSITIVE_INFINITY).at(-1)?.[layerCount]
  if (slowest === undefined) return missing(plan)
  const table = search(plan, (soFarMs, stageMs) => soFarMs + stageMs, slowest.cost)
  return trace(plan, table)
}

/** One node with exactly these layers: what a fixed range costs and how fast it should be. */
export function placeRange(model: PlanModel, layers: LayerRange, node: PlanNode): PlacedStage | PlanFault {
  const costs = new LayerCosts(model)
  const missingBytes = costs.bytes(layers, node) - node.memoryBytes
  if (missingBytes > 0) return { code: 'PLAN_DOES_NOT_FIT', missingBytes, layers }
  return costs.stage(layers, node)
}

/** The longest range from `layers.first` on, within `layers`, that the node can hold. */
export function longestFit(model: PlanModel, layers: LayerRange, node: PlanNode): PlacedStage | PlanFault {
  const costs = new LayerCosts(model)
  let last = layers.first + 1
  while (last < layers.last && costs.bytes({ first: layers.first, last: last + 1 }, node) <= node.memoryBytes) last++
  return placeRange(model, { first: layers.first, last }, node)
}
