/**
 * Trials of what came here: each part of a model is run once, in a process of its own, before anything of it is served. One
 * trial at a time, of all models together: each takes its share of the memory that is free.
 */
import type { Clock } from '#base'
import { layerCountOf, type WantedParts } from '#formats'
import type { ManifestStore } from '#storage'
import type { TransferProgress, WeightsOptions } from '#wire'
import { Gate } from '../gate.ts'
import { TRIAL_WAIT_MS_MAX, TRIALS_WAITING_MAX } from '../limits.ts'
import type { ShelvedModel } from './shelf.ts'
import type { TrialTask, tryModel } from './test-vector.ts'
import { untriedOf, withTried } from './tried.ts'

export type TrialsDeps = {
  readonly clock: Clock
  readonly models: Pick<ManifestStore, 'find' | 'setTried'>
  /** As `tryModel`, with its engines. */
  readonly tryModel: (task: Parameters<typeof tryModel>[2]) => Promise<void>
}

export class Trials {
  readonly #deps: TrialsDeps
  readonly #turns: Gate

  constructor(deps: TrialsDeps) {
    this.#deps = deps
    const options = { runningMax: 1, waitingMax: TRIALS_WAITING_MAX, waitMsMax: TRIAL_WAIT_MS_MAX }
    this.#turns = new Gate(deps.clock, { ...options, what: 'trials of models' })
  }

  /**
   * Tries what of these parts has not been tried. Where somebody has lost patience, or the node was killed, they are tried
   * the next time.
   * @param options.onBad the model has failed: nothing of it may stay
   * @throws EngineError ENGINE_TRIAL_FAILED, ENGINE_TRIAL_MISMATCH; NodeError NODE_BUSY; the signal's reason
   */
  async run(
    model: ShelvedModel,
    parts: WantedParts,
    { signal, onProgress, onBad }: WeightsOptions & { readonly onBad: () => Promise<void> },
  ): Promise<void> {
    const { blob, known, core } = model
    // The file of the node's owner is the owner's business.
    if (known.file !== undefined) return
    const all = { layers: { first: 0, last: layerCountOf(core) }, edges: true }
    const wanted = parts === 'all' ? all : parts
    if (this.#untried(known.id, wanted) === undefined) return
    onProgress(checking(blob.length))
    const leave = await this.#turns.enter(signal)
    try {
      // Who came first may have tried the same.
      const untried = this.#untried(known.id, wanted)
      if (untried === undefined) return
      await this.#try(model, { file: blob.path, parts: untried, signal }).catch(async (error: unknown) => {
        if (!signal.aborted) await onBad()
        throw error
      })
    } finally {
      leave()
    }
  }

  async #try({ known }: ShelvedModel, task: TrialTask): Promise<void> {
    const { models, tryModel } = this.#deps
    await tryModel({ ...task, vector: known.manifest?.manifest.card.testVector })
    models.setTried(known.id, withTried(models.find(known.id)?.tried, task.parts))
  }

  #untried(model: string, wanted: Exclude<WantedParts, 'all'>): ReturnType<typeof untriedOf> {
    return untriedOf(this.#deps.models.find(model)?.tried, wanted)
  }
}

/** Nothing is counted: a process loads the model and runs it once. */
export function checking(totalBytes: number): TransferProgress {
  return { phase: 'checking', doneBytes: 0, totalBytes, rate: 0, sources: 0, peers: 0 }
}
