/** A range of a model's layers in this process. */
import type { GgmlRuntime } from './ggml/runtime.ts'
import type { StageLoad, StageReport, StageStep } from './types.ts'

export declare class StageSession {
  constructor(runtime: GgmlRuntime)
  load(
    request: StageLoad,
    onProgress?: (doneBytes: number, totalBytes: number) => void,
  ): Promise<Omit<StageReport, 'pid'>>
  /** Synchronous, on the calling thread. @returns f32 rows [outputs, width] */
  step(step: StageStep): Uint8Array
  release(slot: number): void
  free(): void
}
