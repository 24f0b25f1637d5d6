/**
 * Real `koinon up` processes on loopback for parity and benchmarks: stages with given layer ranges, and an entry that
 * holds no layers, so that no hop is to the entry itself.
 */
import { formatLayers, type LayerRange } from '#base'
import { startSwarm, type SwarmNode } from '../../tools/swarm.ts'

export type ChainOptions = {
  readonly model: string
  readonly layers: readonly LayerRange[]
  readonly threads: number
  readonly contextMax: number
}

export interface NodeChain {
  readonly entry: SwarmNode
  readonly stages: readonly SwarmNode[]
  stop(): Promise<void>
}

/** Contiguous ranges of equal size, the larger ones first. */
export function equalRanges(layerCount: number, stages: number): LayerRange[] {
  const bounds = Array.from({ length: stages + 1 }, (_, i) => Math.ceil((layerCount * i) / stages))
  return bounds.slice(1).map((last, i) => ({ first: bounds[i] ?? 0, last }))
}

/** Resolves when the entry can answer. @throws where a node ends before it is ready; the others are stopped then */
export async function startChain(options: ChainOptions): Promise<NodeChain> {
  const { model, threads, contextMax, layers } = options
  const nodes = [{ layers: 'none' }, ...layers.map(range => ({ layers: formatLayers(range) }))]
  const swarm = await startSwarm({ nodes, model, threads, ctx: contextMax, slots: 1, startMsMax: 600_000 })
  const [entry, ...stages] = swarm.nodes
  if (entry === undefined) throw new TypeError('a swarm has at least one node')
  return { entry, stages, stop: () => swarm.stop() }
}
