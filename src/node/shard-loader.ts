/**
 * Loads other layers into this node's stage while the node runs. One load at a time; nothing is served meanwhile; where
 * the new layers cannot be loaded, those before come back.
 */
import { type Clock, formatLayers, type LayerRange, type Logger, messageOf } from '#base'
import type { StageServer } from '#pipeline'
import type { NodeOffer } from '#wire'
import { CommandError } from './commands/errors.ts'
import { NodeError } from './errors.ts'
import { Gate } from './gate.ts'
import { LOAD_WAIT_MS_MAX, LOADS_WAITING_MAX } from './limits.ts'
import type { LocalModel } from './model-library.ts'
import type { OwnStage } from './own-stage.ts'
import { checkRange } from './placement.ts'
import { isSameRange } from './swarm-view.ts'

export type ShardLoaderDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly self: string
  readonly model: Pick<LocalModel, 'id' | 'plan'>
  readonly ownOffer: () => NodeOffer
  /** Undefined: this node was started to serve nothing. */
  readonly stage: OwnStage | undefined
  readonly stages: Pick<StageServer, 'openCount' | 'evict'>
  /** Tells the peers what is offered now. */
  readonly announce: () => void
  /** For status: which layers, and why. */
  readonly placement: { text: string }
  /** Aborts when the node stops. */
  readonly stopping: AbortSignal
}

export type ShardRequest = {
  readonly layers: LayerRange
  /** End the generations that run on the stage instead of refusing. */
  readonly force: boolean
  /** Who wants it, for status. */
  readonly by: string
}

export class ShardLoader {
  readonly #deps: ShardLoaderDeps
  readonly #turns: Gate

  constructor(deps: ShardLoaderDeps) {
    this.#deps = deps
    const options = { runningMax: 1, waitingMax: LOADS_WAITING_MAX, waitMsMax: LOAD_WAIT_MS_MAX, what: 'loads' }
    this.#turns = new Gate(deps.clock, options)
  }

  /**
   * Resolves when the layers are served. The signal counts while the load waits for its turn: one that has begun goes
   * to its end, so that nobody who hangs up leaves a stage half loaded.
   * @throws CommandError, NodeError; EngineError where loading failed and the layers before serve again
   */
  async load(request: ShardRequest, options: { readonly signal: AbortSignal }): Promise<void> {
    const leave = await this.#turns.enter(options.signal)
    try {
      options.signal.throwIfAborted()
      await this.#load(request)
    } finally {
      leave()
    }
  }

  async #load({ layers, force, by }: ShardRequest): Promise<void> {
    const { stage, stages, announce, log, placement } = this.#deps
    if (stage === undefined) throw new CommandError({ code: 'NODE_STAGE_NONE' }, 'this node serves no layers')
    checkRange(this.#deps, layers)
    const before = stage.layers
    const { state } = stage.engine.status()
    if (before !== undefined && isSameRange(before, layers) && state === 'ready') return
    if (state === 'restarting' || state === 'starting') {
      const fault = { code: 'NODE_BUSY', running: 1, waiting: 0 } as const
      throw new NodeError(fault, `the stage engine is ${state}; try again later`)
    }
    const generations = stages.openCount()
    if (generations > 0 && !force) {
      const message = `${generations} generations run on this stage; wait for them, or ask with force`
      throw new CommandError({ code: 'NODE_STAGE_IN_USE', generations }, message)
    }
    log.info('other layers are loaded', { layers: formatLayers(layers), by, ended: generations })
    // In this order: no generation can be opened between the eviction and the load.
    stage.withdraw()
    announce()
    try {
      await stages.evict(`layers ${formatLayers(layers)} are being loaded here instead`)
      await this.#loadOr(stage, { layers, before })
      placement.text = `layers ${formatLayers(layers)}, by LOAD_SHARD of ${by}`
    } finally {
      announce()
    }
  }

  async #loadOr(
    stage: OwnStage,
    { layers, before }: { readonly layers: LayerRange; readonly before: LayerRange | undefined },
  ): Promise<void> {
    const { log, stopping } = this.#deps
    try {
      await stage.load(layers, { signal: stopping })
    } catch (error) {
      log.warn('the layers could not be loaded', { layers: formatLayers(layers), reason: messageOf(error) })
      if (before !== undefined && !stopping.aborted) {
        await stage.load(before, { signal: stopping }).catch((second: unknown) => {
          log.error('the layers before could not be loaded again', { reason: messageOf(second) })
        })
      }
      throw error
    }
  }
}
