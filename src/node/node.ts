/** The node that the surfaces see: every method over the parts that `create-node` has put together. */
import type { Reach } from '#reach'
import type { CompletionRequest } from '#wire'
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

export type NodeParts = StatusDeps &
  Pick<CompletionDeps, 'log' | 'gate' | 'report' | 'renderChat'> & {
    readonly socket: string
    /** Which layers are served, and why. LOAD_SHARD writes it anew. */
    readonly placement: { text: string }
    readonly stopper: Stopper
    readonly reach: Pick<Reach, 'status'>
    readonly ask: KoinonNode['ask']
    readonly listCommands: KoinonNode['commands']
    readonly rotateKey: KoinonNode['rotateKey']
    /** Absent where the node runs without discovery. */
    readonly discovery?: Pick<Discovery, 'find'>
  }

export function toNode(parts: NodeParts): KoinonNode {
  const { clock, host, model, placement, pipeline, stopper, view } = parts
  let api: string | undefined
  const answering: CompletionDeps = {
    ...parts,
    entry: pipeline.entry,
    routeOffers: id => view.routeOffers(id),
  }
  return {
    peer: host.id,
    socket: parts.socket,
    models: () => describeModels(parts),
    peers: () => view.summaries(clock.monotonic(), host.relay.status()),
    network: () => describeNetwork(parts),
    plan: name => {
      findModel([model], name)
      return describePlan(parts)
    },
    status: () => describeStatus(parts, { placement: placement.text, api }),
    reachability: () => parts.reach.status(),
    complete: async function* (request: CompletionRequest, options: { readonly signal: AbortSignal }) {
      stopper.signal.throwIfAborted()
      const asked = { model: findModel([model], request.model), request }
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
    commands: () => parts.listCommands(),
    rotateKey: request => parts.rotateKey(request),
    ask: (peer, asked, options) => parts.ask(peer, asked, options),
    health: () => (stopper.isDraining ? { ok: false, reason: 'the node is stopping' } : describeHealth(parts)),
    setApi: address => {
      api = address
    },
    drain: () => stopper.drain(),
    stop: () => stopper.stop(),
  }
}
