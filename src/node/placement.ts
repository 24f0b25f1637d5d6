/**
 * Decides which layers this node serves. Nodes that share a model out wait until enough of them know each other, then
 * each computes the same plan from the same offers: there is no leader and no message to lose.
 */
import { containsLayers, formatLayers, type LayerRange } from '#base'
import type { PlanFault, PlanModel, PlanNode } from '#planner'
import { describePlanFault, isPlanFault, placeLayers, placeMissing, placeRange } from '#planner'
import { NodeError } from './errors.ts'
import { PLACEMENT_WAIT_MS_MAX, SWARM_QUIET_MS, SWARM_SETTLE_MS_MAX } from './limits.ts'
import type { PeerWatch } from './peer-watch.ts'
import { isSameRange, type SwarmView, toPlanNode } from './swarm-view.ts'
import type { LayerChoice, NodeProgress } from './types.ts'
import type { NodeOffer } from '#wire'

export type PlacementDeps = {
  readonly model: { readonly id: string; readonly plan: PlanModel }
  readonly self: string
  readonly ownOffer: () => NodeOffer
  readonly view: Pick<SwarmView, 'placing' | 'servedByPeers'>
  readonly watch: PeerWatch
  /** Resolves when every configured peer was tried once. Undefined: nobody is looked for. */
  readonly dialled: Promise<void> | undefined
  readonly onProgress: NodeProgress
}

/** What the planner must know of this node alone. */
type OwnPlace = Pick<PlacementDeps, 'model' | 'self' | 'ownOffer'>

/** What to serve (undefined: nothing), and why, for people. */
export type Choice = { readonly layers?: LayerRange; readonly text: string }

/** @throws NodeError where the layers do not exist, do not fit, or too few nodes came */
export async function chooseLayers(
  deps: PlacementDeps,
  choice: LayerChoice,
  options: { readonly signal: AbortSignal },
): Promise<Choice> {
  if (choice.kind === 'none') return { text: 'none: prompts may enter here' }
  if (choice.kind === 'range') {
    checkRange(deps, choice.layers)
    return { layers: choice.layers, text: `layers ${formatLayers(choice.layers)}, as asked` }
  }
  if (choice.nodes <= 1) {
    if (deps.dialled !== undefined) {
      await deps.dialled
      await settle(deps, options.signal)
    }
    return missing(deps)
  }
  await gather(deps, choice.nodes, options.signal)
  return share(deps, choice.nodes)
}

const selfNode = (deps: OwnPlace): PlanNode => toPlanNode(deps.self, deps.ownOffer(), deps.ownOffer())

/** @throws NodeError where this node cannot serve these layers: NODE_LAYERS_UNKNOWN, NODE_DOES_NOT_FIT */
export function checkRange(deps: OwnPlace, layers: LayerRange): void {
  const layerCount = deps.model.plan.layers.length
  if (!containsLayers({ first: 0, last: layerCount }, layers)) {
    throw new NodeError(
      { code: 'NODE_LAYERS_UNKNOWN', layers, layerCount },
      `the model has layers 0-${layerCount}; ${formatLayers(layers)} are not all among them`,
    )
  }
  const stage = placeRange(deps.model.plan, layers, selfNode(deps))
  if (isPlanFault(stage)) throw doesNotFit(stage)
}

/** Lets introductions and offers arrive, so that what others serve is not taken for missing. */
async function settle({ watch }: PlacementDeps, signal: AbortSignal): Promise<void> {
  const options = { what: 'the swarm coming to rest', timeoutMs: SWARM_SETTLE_MS_MAX, signal }
  // A swarm that never rests is judged as it is then; an abort is passed on.
  await watch.quiet(SWARM_QUIET_MS, options).catch(() => signal.throwIfAborted())
}

function missing(deps: PlacementDeps): Choice {
  const served = deps.view.servedByPeers(deps.model.id)
  const stage = placeMissing(deps.model.plan, served, selfNode(deps))
  if (isPlanFault(stage)) throw doesNotFit(stage)
  const { layers } = stage
  const isCopy = served.some(range => range.layers.first < layers.last && layers.first < range.layers.last)
  const why = isCopy
    ? 'a second copy of what the fewest serve'
    : served.length === 0
      ? 'nobody else serves the model'
      : 'they were missing'
  return { layers, text: `layers ${formatLayers(layers)}, automatic: ${why}` }
}

async function gather(deps: PlacementDeps, nodes: number, signal: AbortSignal): Promise<void> {
  const known = (): number => deps.view.placing(deps.model.id).length + 1
  let reported = 0
  const isEnough = (): boolean => {
    const count = known()
    if (count !== reported) deps.onProgress('waiting for nodes', { done: Math.min(count, nodes), total: nodes })
    reported = count
    return count >= nodes
  }
  const options = { what: `waiting for ${nodes} nodes`, timeoutMs: PLACEMENT_WAIT_MS_MAX, signal }
  try {
    await deps.watch.until(isEnough, options)
  } catch (error) {
    signal.throwIfAborted()
    const fault = { code: 'NODE_PLACEMENT_TIMEOUT', nodes, known: known() } as const
    const text = `${fault.known} of ${nodes} nodes came to share the layers out; start the others with the same model and connect them`
    throw new NodeError(fault, text, { cause: error })
  }
}

/**
 * This node's part of the common plan. Where more nodes came than were waited for, or a peer already serves something
 * else than the plan says (this node was restarted), the plan is history: what is missing now counts.
 */
function share(deps: PlacementDeps, nodes: number): Choice {
  const own = deps.ownOffer()
  const peers = deps.view.placing(deps.model.id)
  if (peers.length + 1 > nodes) return missing(deps)
  const plan = placeLayers(deps.model.plan, [
    toPlanNode(deps.self, own, own),
    ...peers.map(peer => toPlanNode(peer.id, peer.offer, own)),
  ])
  if (isPlanFault(plan)) throw doesNotFit(plan)
  const isHistory = deps.view
    .servedByPeers(deps.model.id)
    .some(({ peer, layers }) => !plan.stages.some(stage => stage.id === peer && isSameRange(stage.layers, layers)))
  if (isHistory) return missing(deps)
  const layers = plan.stages.find(stage => stage.id === deps.self)?.layers
  if (layers === undefined) return { text: `none: the other ${peers.length} nodes hold all layers` }
  return { layers, text: `layers ${formatLayers(layers)}, automatic: the share of one of ${nodes} nodes` }
}

function doesNotFit(fault: PlanFault): NodeError {
  const missingBytes = fault.code === 'PLAN_DOES_NOT_FIT' ? fault.missingBytes : 0
  return new NodeError({ code: 'NODE_DOES_NOT_FIT', missingBytes }, describePlanFault(fault))
}
