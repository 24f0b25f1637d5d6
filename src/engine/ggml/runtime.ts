/** Opens ggml on this machine: finds the libraries, checks their version, picks a device. */
import type { EngineOptions } from '../types.ts'

export interface GgmlRuntime {
  /** Where the shared libraries lie. */
  readonly libraryDir: string
  /** "0.4.0" */
  readonly version: string
  /** For people: "CPU (zen4)". */
  readonly device: string
  /** "zen4", "haswell", "apple_m1"; the GPU's name where there is one. */
  readonly cpuVariant: string
  readonly threads: number
}

export declare function openRuntime(options: EngineOptions): GgmlRuntime
