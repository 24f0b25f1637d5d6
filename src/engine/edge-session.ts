/** A model's edges in this process: embedding table, final norm, output head. */
import type { GgmlRuntime } from './ggml/runtime.ts'

export type EdgeSessionReport = {
  readonly width: number
  readonly vocabularySize: number
  readonly weightBytes: number
  readonly device: string
  readonly profile: string
}

export declare class EdgeSession {
  constructor(runtime: GgmlRuntime)
  load(file: string, onProgress?: (doneBytes: number, totalBytes: number) => void): Promise<EdgeSessionReport>
  /** @returns f32 rows [tokens, width] */
  embed(tokens: Int32Array): Uint8Array
  /** @param row f32 [1, width] @returns [vocabulary] */
  logits(row: Uint8Array): Float32Array
  free(): void
}
