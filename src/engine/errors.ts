/** What can go wrong in an engine: one union of faults, so that every `switch` over it is checked. */
import { KoinonError, type LayerRange } from '#base'

export type EngineFault =
  /** No library, no back end or no device that could run a model on this machine. */
  | { readonly code: 'ENGINE_NO_BACKEND'; readonly platform: string }
  /** The libraries are of another version than the one whose numbers and structures this program knows. */
  | { readonly code: 'ENGINE_VERSION'; readonly expected: string; readonly actual: string }
  /** A model file that changed while it was read, or asks for something that the graphs do not compute. */
  | { readonly code: 'ENGINE_BAD_MODEL'; readonly file?: string; readonly tensor?: string }
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
  /** Rows that hold numbers larger than any model makes: beyond `bound`. */
  | { readonly code: 'ENGINE_OUT_OF_RANGE'; readonly side: 'input' | 'output'; readonly bound: number }
  | { readonly code: 'ENGINE_COMPUTE_FAILED'; readonly status: number }
  | { readonly code: 'ENGINE_TOKEN_UNKNOWN'; readonly token: number }
  /** The operating system does not let the file be read; `reason` is its code: "ENOENT", "EACCES". */
  | { readonly code: 'ENGINE_FILE_UNREADABLE'; readonly reason: string }
  /** The child ended without being asked to; requests on it, its slots and its samplers are gone. */
  | {
      readonly code: 'ENGINE_CRASHED'
      readonly exitCode: number | null
      readonly signal: string | null
      readonly lastLine: string
    }
  /** The child could not be started, or did not say in time that it takes commands. */
  | { readonly code: 'ENGINE_START_FAILED'; readonly reason: string }
  /** It crashed too often in a minute and stays down until the next `load`. */
  | { readonly code: 'ENGINE_FAILED'; readonly restarts: number }
  /** A model that was tried crashed, or computed something that is no number: `cause` is the code of what happened. */
  | { readonly code: 'ENGINE_TRIAL_FAILED'; readonly cause: string }
  /** A model that was tried computes something else than its card says. */
  | { readonly code: 'ENGINE_TRIAL_MISMATCH'; readonly deviation: number; readonly tolerance: number }
  | { readonly code: 'ENGINE_STOPPED' }
  | { readonly code: 'ENGINE_BUSY'; readonly waiting: number }
  | { readonly code: 'ENGINE_REQUEST_TOO_LARGE'; readonly bytes: number; readonly bytesMax: number }
  | { readonly code: 'EDGE_SAMPLER_UNKNOWN'; readonly sampler: number }
  | { readonly code: 'EDGE_SAMPLERS_FULL'; readonly samplersMax: number }
  /** Sampling settings that make no sense, as a sentence. */
  | { readonly code: 'EDGE_SAMPLING_INVALID'; readonly what: string }
  | { readonly code: 'EDGE_NO_TOKENIZER' }
  | { readonly code: 'EDGE_TEXT_TOO_LONG'; readonly bytes: number; readonly bytesMax: number }
  | { readonly code: 'EDGE_TOKENIZE_FAILED' }
  | { readonly code: 'EDGE_PIECE_TOO_LONG'; readonly token: number; readonly bytes: number }
  /** The vocabulary and the output head of one file do not have the same number of tokens. */
  | { readonly code: 'EDGE_VOCABULARY_MISMATCH'; readonly vocabularySize: number; readonly headRows: number }

/** The error of everything in this module. */
export class EngineError extends KoinonError<EngineFault> {
  override readonly name = 'EngineError'
}
