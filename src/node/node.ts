/** The node that the surfaces see: every method over the parts that `create-node` has put together. */
import type { EdgeEngine } from '#engine'
import type { Reach } from '#reach'
import type { CompletionRequest, WeightsService } from '#wire'
import type { Discovery } from '#discovery'
import { complete, type CompletionDeps } from './completion.ts'
import { NodeError } from './errors.ts'
import { findModel } from './model-library.ts'
import {
  describeHealth,
  describeModels,
  describeNetwork,
  describePlan,
  describeStatus,
  type StatusDeps,
} from './status.ts'
import type { Stopper } from './stopper.ts'
import type { KoinonNode } from './types.ts'

/** What prompts need that enter here. */
export type Prompts = Pick<CompletionDeps, 'gate' | 'report' | 'renderChat'> & { readonly edge: EdgeEngine }

export type NodeParts = Omit<StatusDeps, 'edge'> &
  Pick<CompletionDeps, 'log'> & {
    /** Undefined: this node serves layers alone. */
    readonly prompts: Prompts | undefined
    readonly socket: string
    /** Which layers are served, and why. LOAD_SHARD writes it anew. */
    readonly placement: { text: string }
    readonly stopper: Stopper
    readonly weights: WeightsService
    readonly reach: Pick<Reach, 'status'>
    readonly ask: KoinonNode['ask']
    readonly listCommands: KoinonNode['commands']
    readonly rotateKey: KoinonNode['rotateKey']
    /** Absent where the node runs without discovery. */
    readonly discovery?: Pick<Discovery, 'find'>
  }

export function toNode(parts: NodeParts): KoinonNode {
  const { clock, host, model, placement, pipeline, stopper, view, prompts } = parts
  let api: string | undefined
  const status: StatusDeps = { ...parts, edge: prompts?.edge }
  return {
    peer: host.id,
    socket: parts.socket,
    models: () => describeModels(status),
    peers: () => view.summaries(clock.monotonic(), host.relay.status()),
    network: () => describeNetwork(status),
    plan: name => {
      findModel([model], name)
      return describePlan(status)
    },
    status: () => describeStatus(status, { placement: placement.text, api }),
    reachability: () => parts.reach.status(),
    complete: async function* (request: CompletionRequest, options: { readonly signal: AbortSignal }) {
      stopper.signal.throwIfAborted()
      const asked = { model: findModel([model], request.model), request }
      if (prompts === undefined) throw stageOnly()
      const answering = {
        ...prompts,
        log: parts.log,
        entry: pipeline.entry,
        routeOffers: (id: string) => view.routeOffers(id),
      }
      yield* complete(answering, asked, { signal: AbortSignal.any([options.signal, stopper.signal]) })
    },
    find: ({ timeoutMs, ...query }, { signal }) => {
      stopper.signal.throwIfAborted()
      const { discovery } = parts
      if (discovery === undefined)
        throw new NodeError({ code: 'NODE_DISCOVERY_OFF' }, 'this node runs without discovery')
      return discovery.find(query, {
        signal: AbortSignal.any([signal, stopper.signal]),
        ...(timeoutMs === undefined ? {} : { timeoutMs }),
      })
    },
    weights: parts.weights,
    commands: () => parts.listCommands(),
    rotateKey: request => parts.rotateKey(request),
    ask: (peer, asked, options) => parts.ask(peer, asked, options),
    health: () => (stopper.isDraining ? { ok: false, reason: 'the node is stopping' } : describeHealth(status)),
    setApi: address => {
      api = address
    },
    drain: () => stopper.drain(),
    stop: () => stopper.stop(),
  }
}

function stageOnly(): NodeError {
  return new NodeError(
    { code: 'NODE_STAGE_ONLY' },
    'this node serves layers and takes no prompts (--stage-only); ask another node of the swarm',
  )
}
