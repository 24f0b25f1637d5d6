/** Decoding graphs by shape, so that a token costs no building. The least recently used one is dropped. */
import { formatLayers } from '#base'
import type { GraphShape } from './graph-builder.ts'
import { GRAPHS_KEPT_MAX } from './limits.ts'
import { StageGraph, type StageParts } from './stage-graph.ts'

export class GraphCache {
  readonly #parts: StageParts
  /** In order of use: the first is the next to go. */
  readonly #graphs = new Map<string, StageGraph>()

  constructor(parts: StageParts) {
    this.#parts = parts
  }

  /** Lends a graph of the shape, allocated, for one run. */
  use<T>(shape: GraphShape, run: (graph: StageGraph) => T): T {
    if (shape.rows !== 1) {
      // Prefill shapes hardly repeat, and building takes a thousandth of computing.
      const graph = this.#make(shape)
      try {
        return run(graph)
      } finally {
        graph.free()
      }
    }
    const key = `${shape.slot}:${formatLayers(shape.layers)}:${shape.outputs}:${shape.kvRows}`
    const graph = this.#graphs.get(key) ?? this.#make(shape)
    this.#graphs.delete(key)
    this.#graphs.set(key, graph)
    if (this.#graphs.size > GRAPHS_KEPT_MAX) this.#dropOldest()
    return run(graph)
  }

  /** Forgets all graphs. */
  clear(): void {
    for (const graph of this.#graphs.values()) graph.free()
    this.#graphs.clear()
  }

  #make(shape: GraphShape): StageGraph {
    const graph = new StageGraph(this.#parts, shape)
    try {
      // The buffer moves only if a graph needs more than any before: the graphs that lived in the old one are lost.
      if (graph.allocate().hasMoved) this.clear()
      return graph
    } catch (error) {
      graph.free()
      throw error
    }
  }

  #dropOldest(): void {
    const oldest = this.#graphs.entries().next().value
    if (oldest === undefined) return
    this.#graphs.delete(oldest[0])
    oldest[1].free()
  }
}
