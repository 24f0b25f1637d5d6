/** What makes a node of a network serve a model: the pipeline over its streams, and what it offers to its peers. */
import type { Clock, Logger, Random } from '#base'
import type { EdgeEngine } from '#engine'
import { createPipeline, type Pipeline } from '#pipeline'
import { PROTOCOLS } from '#wire'
import { COMPLETION_WAIT_MS_MAX, DRAIN_MS } from './limits.ts'
import type { LocalModel } from './model-library.ts'
import type { Network } from './network.ts'
import type { OwnStage } from './own-stage.ts'
import { holdStages } from './stage-holds.ts'
import type { Stopper } from './stopper.ts'
import type { NodeConfig } from './types.ts'

export type ServingDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly config: NodeConfig
  readonly stopper: Stopper
  readonly net: Network
  readonly model: LocalModel
  /** Undefined: prompts do not enter here. */
  readonly edge: EdgeEngine | undefined
  readonly stage: OwnStage | undefined
  readonly memoryBytes: number
}

/** From now on peers can open generations here, as soon as the stage has its layers. */
export function startServing(deps: ServingDeps): Pipeline {
  const { config, stopper, model, stage, net } = deps
  const { host, late, found, offers } = net
  const pipeline = createPipeline(
    {
      ...deps,
      log: deps.log.child('pipeline'),
      self: host.id,
      selfAddresses: () => host.addresses(),
      openStream: (peer, protocol, options) => host.open(peer, protocol, options),
      stage: stage === undefined ? undefined : { engine: stage.engine, served: () => stage.served() },
    },
    { openTimeoutMs: COMPLETION_WAIT_MS_MAX },
  )
  stopper.add('the pipeline', () => pipeline.stop())
  holdStages(host, model.id)
  // A connection that was cut is nothing to the pipeline as long as its streams may come back.
  host.onGone(peer => pipeline.peerLeft(peer))
  host.handle(PROTOCOLS.stage, stream => pipeline.accept(stream))
  const fixed = {
    // A node that serves no layers by its owner's will is not planned with.
    memoryBytes: config.layers.kind === 'none' ? 0 : deps.memoryBytes,
    kvPositions: config.slots * model.contextMax,
  }
  late.offered = { pipeline, stage, fixed }
  stopper.addDrain(() => {
    const drained = pipeline.drain({ timeoutMs: config.drainMs ?? DRAIN_MS })
    offers.announce()
    return drained
  })
  stage?.engine.onCrash(() => offers.announce())
  if (config.layers.kind === 'auto' && config.layers.nodes > 1) found.placing = model.id
  offers.announce()
  return pipeline
}
