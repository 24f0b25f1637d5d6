/**
 * What waits for the engine of this stage: one compute at a time, short steps (decoding, short prompts) before long
 * prefill chunks. Bounded by itself: a generation has a slot and at most two steps.
 */
import { STAGE_DECODE_ROWS_MAX } from '#wire'
import { SHORT_STEPS_IN_ROW_MAX } from './limits.ts'
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
  #short: ComputeTask[] = []
  #long: ComputeTask[] = []
  #running: ComputeTask | undefined
  /** Short steps that were computed since the last long one. */
  #shortInRow = 0

  /** @param run computes a task; called at once where the engine is free. Must not reject. */
  constructor(run: (task: ComputeTask) => Promise<void>) {
    this.#run = run
  }

  push(task: ComputeTask): void {
    const { generation, step } = task
    // The short end of a long prompt stays behind the chunks before it.
    const isBehind = this.#long.some(other => other.generation === generation)
    const isShort = step.header.count <= STAGE_DECODE_ROWS_MAX && !isBehind
    ;(isShort ? this.#short : this.#long).push(task)
    this.kick()
  }

  /** Forgets what waits of a generation; what runs goes on to its end. */
  drop(generation: StageGeneration): void {
    this.#short = this.#short.filter(task => task.generation !== generation)
    this.#long = this.#long.filter(task => task.generation !== generation)
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
    const short = this.#short.findIndex(canStart)
    const long = this.#long.findIndex(canStart)
    if (long >= 0 && (short < 0 || this.#shortInRow >= SHORT_STEPS_IN_ROW_MAX)) {
      this.#shortInRow = 0
      return this.#long.splice(long, 1)[0]
    }
    if (short < 0) return undefined
    this.#shortInRow = long < 0 ? 0 : this.#shortInRow + 1
    return this.#short.splice(short, 1)[0]
  }
}

const canStart = ({ generation, step }: ComputeTask): boolean => generation.canStart(step.purpose)
