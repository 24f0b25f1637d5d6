/** What a node says of itself: its models, its peers, its state. Plain data for the surfaces. */
import type { Clock } from '#base'
import type { EdgeEngine } from '#engine'
import type { Host } from '#net'
import type { Pipeline } from '#pipeline'
import { describePlanFault, findRoute, isPlanFault, uncoveredLayers } from '#planner'
import {
  AGENT,
  type ModelSummary,
  type NetworkFacts,
  type NetworkStatus,
  type NodeStatus,
  type PlanReport,
} from '#wire'
import type { LocalModel } from './model-library.ts'
import type { OwnStage } from './own-stage.ts'
import { planReport } from './plan-report.ts'
import { type SwarmView, toStageStatus } from './swarm-view.ts'

export type StatusDeps = {
  readonly clock: Clock
  readonly dataDir: string
  readonly host: Host
  readonly pipeline: Pipeline
  readonly view: SwarmView
  readonly model: LocalModel
  /** Undefined: prompts do not enter here. */
  readonly edge: EdgeEngine | undefined
  readonly stage: OwnStage | undefined
  /** Clock.monotonic() when the node started. */
  readonly startedAt: number
  /** What parts beside the host know of the network. @default nothing */
  readonly networkFacts?: () => NetworkFacts
}

export function describeModels({ view, model }: StatusDeps): ModelSummary[] {
  const served = view.served(model.id)
  const { config } = model
  return [
    {
      id: model.id,
      name: model.name,
      architecture: config.architecture,
      file: model.file,
      fileBytes: model.fileBytes,
      createdAt: model.createdAt,
      layerCount: config.layerCount,
      width: config.width,
      contextTrain: config.contextTrain,
      served,
      isComplete:
        uncoveredLayers(
          config.layerCount,
          served.map(hop => hop.layers),
        ).length === 0,
    },
  ]
}

export function describeStatus(
  deps: StatusDeps,
  { placement, api }: { readonly placement: string; readonly api: string | undefined },
): NodeStatus {
  const { clock, host, pipeline, stage } = deps
  const served = pipeline.stages.generations()
  const kvRows = served.reduce((sum, generation) => sum + generation.positions, 0)
  const described = stage?.describe(pipeline.stages.slotsFree())
  const stageEngine = stage?.status()
  return {
    peer: host.id,
    pid: process.pid,
    agent: AGENT,
    uptimeMs: clock.monotonic() - deps.startedAt,
    addresses: host.addresses(),
    ...(api === undefined ? {} : { api }),
    dataDir: deps.dataDir,
    placement,
    stages: described === undefined ? [] : [toStageStatus(described, kvRows)],
    engines: [deps.edge?.status(), stageEngine].filter(status => status !== undefined),
    generations: [...pipeline.entry.generations(), ...served],
    kvRows,
    peers: host.peers().length,
    relay: host.relay.status(),
  }
}

export function describeNetwork({ host, networkFacts }: StatusDeps): NetworkStatus {
  return { peer: host.id, ...host.network(), ...networkFacts?.() }
}

export function describePlan({ host, view, model }: StatusDeps): PlanReport {
  const rttMs = new Map(host.peers().flatMap(({ id, rttMs }) => (rttMs === undefined ? [] : [[id, rttMs] as const])))
  return planReport({ model, self: host.id, nodes: view.planNodes(), rttMs, offers: view.routeOffers(model.id) })
}

export function describeHealth({ edge, view, model }: StatusDeps): { readonly ok: boolean; readonly reason?: string } {
  if (edge === undefined) return { ok: false, reason: 'this node serves layers and takes no prompts' }
  const { state } = edge.status()
  if (state !== 'ready') return { ok: false, reason: `the edge engine is ${state}` }
  const route = findRoute(view.routeOffers(model.id), { model: model.id, layerCount: model.config.layerCount })
  return isPlanFault(route) ? { ok: false, reason: `${model.name}: ${describePlanFault(route)}` } : { ok: true }
}
