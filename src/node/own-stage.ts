/** The layers that this node serves: its stage engine, what is loaded in it, and how that is offered and shown. */
import type { LayerRange } from '#base'
import type { LoadOptions, StageEngine, StageReport } from '#engine'
import type { ServedStage } from '#pipeline'
import type { EngineStatus, StageOffer } from '#wire'
import type { LocalModel } from './model-library.ts'

export type OwnStageOptions = {
  readonly slots: number
  readonly contextMax: number
  /** Sees to it that the layers are on this machine, and are the model's. @default a file of the user's has them */
  readonly prepare?: (layers: LayerRange, options: LoadOptions) => Promise<void>
}

export class OwnStage {
  readonly engine: StageEngine
  readonly #model: LocalModel
  readonly #options: OwnStageOptions
  #loaded: { readonly layers: LayerRange; readonly report: StageReport } | undefined

  constructor(engine: StageEngine, model: LocalModel, options: OwnStageOptions) {
    this.engine = engine
    this.#model = model
    this.#options = options
  }

  /** What is loaded, whether its engine is ready or not. */
  get layers(): LayerRange | undefined {
    return this.#loaded?.layers
  }

  /** From now on nothing is served, until the next load. */
  withdraw(): void {
    this.#loaded = undefined
  }

  async load(layers: LayerRange, options: LoadOptions = {}): Promise<StageReport> {
    const { prepare, slots, contextMax } = this.#options
    await prepare?.(layers, options)
    const report = await this.engine.load({ file: this.#model.file, layers, slots, contextMax }, options)
    this.#loaded = { layers, report }
    return report
  }

  /** What generations may use now: nothing while the engine is not ready. */
  served(): ServedStage | undefined {
    const loaded = this.#loaded
    if (loaded === undefined || this.engine.status().state !== 'ready') return undefined
    const { layers, report } = loaded
    return {
      model: this.#model.id,
      layers,
      profile: report.profile,
      width: report.width,
      layerCount: report.layerCount,
      contextMax: report.contextMax,
      slots: report.slots,
    }
  }

  offer(slotsFree: number): StageOffer | undefined {
    return this.served() === undefined ? undefined : this.describe(slotsFree)
  }

  /** The stage as it is loaded, whether its engine is ready or not. */
  describe(slotsFree: number): StageOffer | undefined {
    if (this.#loaded === undefined) return undefined
    const { layers, report } = this.#loaded
    const { id, name, config } = this.#model
    return {
      model: id,
      name,
      architecture: config.architecture,
      layers,
      layerCount: report.layerCount,
      width: report.width,
      contextMax: report.contextMax,
      slots: report.slots,
      slotsFree,
      profile: report.profile,
      stepMs: report.stepMs,
    }
  }

  /** Undefined where no layers were ever asked of the engine. */
  status(): EngineStatus | undefined {
    return this.#loaded === undefined && this.engine.status().pid === undefined ? undefined : this.engine.status()
  }
}
