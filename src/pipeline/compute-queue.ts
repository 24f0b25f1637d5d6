/**
 * What waits for the engine of this stage: one compute at a time, decoding steps before prefill chunks. Bounded by
 * itself: a generation has a slot and at most two steps.
 */
import { DECODE_STEPS_IN_ROW_MAX } from './limits.ts'
import type { Session } from './session.ts'
import type { PendingStep, StageGeneration } from './stage-generation.ts'

export type ComputeTask = {
  readonly generation: StageGeneration
  readonly step: PendingStep
  readonly rows: Uint8Array
  /** The stream that the step came on: its credit goes back there. */
  readonly session: Session
}

export class ComputeQueue {
  readonly #run: (task: ComputeTask) => Promise<void>
  #decode: ComputeTask[] = []
  #prefill: ComputeTask[] = []
  #running: ComputeTask | undefined
  /** Decoding steps that were computed since the last chunk. */
  #decodeInRow = 0

  /** @param run computes a task; called at once where the engine is free. Must not reject. */
  constructor(run: (task: ComputeTask) => Promise<void>) {
    this.#run = run
  }

  push(task: ComputeTask): void {
    ;(task.step.purpose === 'decode' ? this.#decode : this.#prefill).push(task)
    this.kick()
  }

  /** Forgets what waits of a generation; what runs goes on to its end. */
  drop(generation: StageGeneration): void {
    this.#decode = this.#decode.filter(task => task.generation !== generation)
    this.#prefill = this.#prefill.filter(task => task.generation !== generation)
  }

  isRunning(generation: StageGeneration): boolean {
    return this.#running?.generation === generation
  }

  /** Starts the next task if the engine is free. Call it when something may start that could not before. */
  kick(): void {
    if (this.#running !== undefined) return
    const task = this.#next()
    if (task === undefined) return
    this.#running = task
    // Owned by the queue: `run` never rejects, and the next task starts when it settles.
    void this.#run(task).then(() => {
      this.#running = undefined
      this.kick()
    })
  }

  #next(): ComputeTask | undefined {
    const chunk = this.#prefill.findIndex(task => task.generation.canStart('prefill'))
    if (chunk >= 0 && (this.#decode.length === 0 || this.#decodeInRow >= DECODE_STEPS_IN_ROW_MAX)) {
      this.#decodeInRow = 0
      return this.#prefill.splice(chunk, 1)[0]
    }
    this.#decodeInRow++
    return this.#decode.shift()
  }
}
