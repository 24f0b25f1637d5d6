/** "Who would run what, does it fit, how fast and why": the answer of `koinon plan`, from facts that are at hand. */
import { formatBytes, layersIn } from '#base'
import {
  describePlanFault,
  type EstimateStage,
  estimateTokensPerSecond,
  findRoute,
  isPlanFault,
  type PlanFault,
  type Placement,
  type PlanNode,
  placeLayers,
  type RouteOffer,
} from '#planner'
import type { PlanReport } from '#wire'
import type { LocalModel } from './model-library.ts'

export type PlanFacts = {
  readonly model: LocalModel
  readonly self: string
  /** Those that give memory: this node first, then its peers. */
  readonly nodes: readonly PlanNode[]
  /** Round trips by peer, in milliseconds. */
  readonly rttMs: ReadonlyMap<string, number>
  /** What serves the model now. */
  readonly offers: readonly RouteOffer[]
}

export function planReport(facts: PlanFacts): PlanReport {
  const { model, nodes } = facts
  const placement = placeLayers(model.plan, nodes)
  const estimate = isPlanFault(placement)
    ? undefined
    : estimateTokensPerSecond(estimateStages(facts, placement), edgeMs(facts))
  const current = currentRoute(facts)
  return {
    model: model.id,
    name: model.name,
    layerCount: model.config.layerCount,
    weightBytes: model.plan.layers.reduce((sum, layer) => sum + layer.weightBytes, 0),
    edgeBytes: model.edgeBytes,
    kvBytesPerGeneration:
      model.plan.layers.reduce((sum, layer) => sum + layer.kvBytesPerPosition, 0) * model.contextMax,
    fits: !isPlanFault(placement),
    summary: summarise(facts, placement),
    stages: isPlanFault(placement) ? [] : reportStages(facts, placement),
    tokensPerSecond: estimate?.tokensPerSecond ?? 0,
    why: estimate?.why ?? [],
    ...(current === undefined ? {} : { current }),
  }
}

function estimateStages(facts: PlanFacts, placement: Placement): EstimateStage[] {
  return placement.stages.map(({ id, layers, stepMs }) => {
    const rttMs = facts.rttMs.get(id)
    return { peer: id, isSelf: id === facts.self, layers, computeMs: stepMs, ...(rttMs === undefined ? {} : { rttMs }) }
  })
}

/**
 * The head is read whole for every token; of the embedding only a row. A node that serves no layers has not measured
 * itself: it is taken to be as fast as the fastest one.
 */
function edgeMs({ model, nodes, self }: PlanFacts): number {
  const own = nodes.find(({ id }) => id === self)?.weightBytesPerSecond ?? 0
  const speed = own > 0 ? own : Math.max(...nodes.map(node => node.weightBytesPerSecond))
  return speed > 0 ? (model.headBytes / speed) * 1000 : 0
}

function reportStages({ nodes, self }: PlanFacts, { stages }: Placement): PlanReport['stages'] {
  return stages.map(({ id, layers, weightBytes, kvBytes, stepMs }) => ({
    peer: id,
    isSelf: id === self,
    layers,
    weightBytes,
    kvBytes,
    memoryBytes: nodes.find(node => node.id === id)?.memoryBytes ?? 0,
    stepMs,
  }))
}

function summarise({ model, nodes }: PlanFacts, placement: Placement | PlanFault): string {
  const memoryBytes = nodes.reduce((sum, node) => sum + node.memoryBytes, 0)
  const machines = nodes.length === 1 ? 'this machine gives' : `${nodes.length} machines give`
  const given = `${machines} ${formatBytes(memoryBytes)}`
  if (isPlanFault(placement)) return `${given}; ${describePlanFault(placement)}`
  const needed = placement.stages.reduce((sum, stage) => sum + stage.weightBytes + stage.kvBytes, 0)
  const counts = placement.stages.map(stage => layersIn(stage.layers))
  const shares = counts.length === 1 ? '' : ` (${counts.join(' + ')})`
  return `it fits: ${given}, the ${model.config.layerCount} layers${shares} with their KV cache need ${formatBytes(needed)}`
}

/** The route that a prompt would take now, and its speed by measured steps. */
function currentRoute(facts: PlanFacts): PlanReport['current'] {
  const { model, offers } = facts
  const route = findRoute(offers, { model: model.id, layerCount: model.config.layerCount })
  if (isPlanFault(route)) return undefined
  return {
    route: route.hops.map(({ peer, layers }) => ({ peer, layers })),
    tokensPerSecond: estimateTokensPerSecond(route.hops, edgeMs(facts)).tokensPerSecond,
  }
}
