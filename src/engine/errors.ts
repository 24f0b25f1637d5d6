/** What can go wrong in an engine: one union of faults, so that every `switch` over it is checked. */
import { KoinonError, type LayerRange } from '#base'

export type EngineFault =
  /** No library, no back end or no device that could run a model on this machine. */
  | { readonly code: 'ENGINE_NO_BACKEND'; readonly platform: string }
  /** The libraries are of another version than the one whose numbers and structures this program knows. */
  | { readonly code: 'ENGINE_VERSION'; readonly expected: string; readonly actual: string }
  | { readonly code: 'ENGINE_ARCHITECTURE_UNKNOWN'; readonly architecture: string }
  /** A file that is not a model, or whose description contradicts itself. */
  | { readonly code: 'ENGINE_BAD_MODEL'; readonly file: string }
  | { readonly code: 'ENGINE_TENSOR_MISSING'; readonly tensor: string }
  | {
      readonly code: 'ENGINE_TENSOR_SHAPE'
      readonly tensor: string
      readonly expected: readonly number[]
      readonly actual: readonly number[]
    }
  /** A tensor of a type that the engine does not compute with. */
  | { readonly code: 'ENGINE_TENSOR_TYPE'; readonly tensor: string; readonly type: string }
  | { readonly code: 'ENGINE_OUT_OF_MEMORY'; readonly neededBytes: number; readonly freeBytes: number }
  | { readonly code: 'ENGINE_BAD_LOAD'; readonly what: string }
  | { readonly code: 'ENGINE_NOT_LOADED' }
  | { readonly code: 'ENGINE_BAD_STEP'; readonly what: string }
  | { readonly code: 'ENGINE_BAD_LAYERS'; readonly wanted: LayerRange; readonly loaded: LayerRange }
  | { readonly code: 'ENGINE_CONTEXT_FULL'; readonly positions: number; readonly contextMax: number }
  /** Rows that hold NaN or infinity: `input` came so, `output` was computed so. */
  | { readonly code: 'ENGINE_NON_FINITE'; readonly side: 'input' | 'output' }
  | { readonly code: 'ENGINE_COMPUTE_FAILED'; readonly status: number }
  | { readonly code: 'ENGINE_TOKEN_UNKNOWN'; readonly token: number }

/** The error of everything in this module. */
export class EngineError extends KoinonError<EngineFault> {
  override readonly name = 'EngineError'
}
