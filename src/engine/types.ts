/** What the rest of the program sees of the engine: two kinds of child process behind two interfaces. */
import type { LayerRange } from '#base'
import type { EngineState, EngineStatus, SamplingOptions } from '#wire'

export type EngineOptions = {
  /** Threads of one compute. Part of the numeric profile: equal answers need equal threads. */
  readonly threads: number
  /** `auto` takes a GPU where a back end finds one that runs every operation, else the CPU. @default 'auto' */
  readonly device: 'auto' | 'cpu' | 'gpu'
}

export type LoadOptions = {
  readonly signal?: AbortSignal
  /** Bytes of weights loaded so far, and in all. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void
}

export type StageLoad = {
  /** Absolute path of the GGUF file. */
  readonly file: string
  readonly layers: LayerRange
  /** Generations that can live at once: each owns one KV slot. */
  readonly slots: number
  /** Positions of one slot (rounded up to 256). */
  readonly contextMax: number
}

export type StageReport = {
  readonly pid: number
  /** For people: "CPU (zen4)", "CUDA0 (NVIDIA H100)". */
  readonly device: string
  readonly profile: string
  readonly width: number
  readonly layerCount: number
  readonly contextMax: number
  readonly slots: number
  readonly weightBytes: number
  readonly kvBytes: number
  /** What the process is kept from, in words: "no network, no other programs, reads 1 file, writes none, 2.1 GiB, 2 threads". */
  readonly sandbox: string
  /** Median of a few one-row steps through the loaded layers, in milliseconds. */
  readonly stepMs: number
}

/** One step of one generation through this stage. */
export type StageStep = {
  readonly slot: number
  /** A part of the loaded layers, or all of them. */
  readonly layers: LayerRange
  /** Rows that are valid in the slot before this step; rows from here on are overwritten. */
  readonly position: number
  /** Rows in `rows`. */
  readonly count: number
  /** How many of the last rows come back: 0, 1 or `count`. 0 still fills the KV cache. */
  readonly outputs: number
  /** f32 little-endian, shape [count, width]. */
  readonly rows: Uint8Array
}

/** Rows that go through a part of the loaded layers from position 0, for nobody's generation. */
export type StageAudit = Pick<StageStep, 'layers' | 'count' | 'rows'>

/**
 * Runs a range of layers in a child process. One compute at a time, in the order of the calls. A crash rejects what is
 * in flight with `ENGINE_CRASHED`, then the child is started and loaded again (at most 3 times a minute); the slots of
 * the old process are gone, so their generations must be failed by the caller (`onCrash`).
 */
export interface StageEngine {
  /** Starts the child if need be and loads the layers. @throws EngineError */
  load(request: StageLoad, options?: LoadOptions): Promise<StageReport>
  /** @returns f32 little-endian rows, shape [outputs, width]. @throws EngineError, also for rows that are not finite */
  step(step: StageStep): Promise<Uint8Array>
  /** Computes rows in a cache of their own, which is gone afterwards: no slot is needed. @returns f32 rows, [count, width]. @throws EngineError */
  audit(audit: StageAudit): Promise<Uint8Array>
  /** Zeroes the slot's KV rows, so that nothing of one generation reaches the next. */
  release(slot: number): Promise<void>
  status(): EngineStatus & { readonly state: EngineState }
  /** Called with a sentence each time that the child ended without being asked to. */
  onCrash(listener: (reason: string) => void): void
  /** Ends the child; resolves when it is gone. Idempotent. */
  stop(): Promise<void>
}

export type EdgeReport = {
  readonly pid: number
  readonly device: string
  readonly profile: string
  readonly width: number
  readonly vocabularySize: number
  readonly weightBytes: number
  /** What the process is kept from, in words. */
  readonly sandbox: string
  /** Text of the begin and end tokens, as chat templates want them; empty where the vocabulary has none. */
  readonly bosText: string
  readonly eosText: string
}

export type NextOptions = {
  /** 0..20 alternatives with their log-probabilities; undefined: none. */
  readonly topLogprobs?: number
  /** Return all logits too. */
  readonly logits?: boolean
}

export type TokenScore = {
  readonly token: number
  readonly piece: Uint8Array
  /** Natural logarithm of the probability under the model's own distribution (before temperature and truncation). */
  readonly logprob: number
}

export type NextToken = {
  readonly token: number
  /** The token's bytes; empty for control tokens. */
  readonly piece: Uint8Array
  /** Whether the vocabulary says that this token ends a generation. */
  readonly isEnd: boolean
  /** The token's embedding, f32 little-endian [1, width]: the input of the next step, saved a round trip. */
  readonly row: Uint8Array
  readonly chosen?: TokenScore
  readonly top?: readonly TokenScore[]
  readonly logits?: Float32Array
}

/**
 * The edges of a model in a child process: vocabulary and samplers (libllama), embedding, final norm and output head
 * (ggml). Crashes are handled as in `StageEngine`; samplers of the old process are gone (`EDGE_SAMPLER_UNKNOWN`).
 */
export interface EdgeEngine {
  load(request: { readonly file: string }, options?: LoadOptions): Promise<EdgeReport>
  /** `addSpecial`: begin token where the vocabulary asks for it. `parseSpecial`: read control tokens in the text. */
  tokenize(text: string, options: { readonly addSpecial: boolean; readonly parseSpecial: boolean }): Promise<Int32Array>
  /** Bytes of each token; control tokens give their text where `special` is set, else nothing. */
  pieces(tokens: Int32Array, options: { readonly special: boolean }): Promise<readonly Uint8Array[]>
  /** @returns f32 little-endian rows, shape [tokens, width], scaled as the architecture wants it. */
  embed(tokens: Int32Array): Promise<Uint8Array>
  /** Makes a sampler; `prompt` feeds its penalties. @returns its id */
  openSampler(sampling: SamplingOptions, prompt: Int32Array): Promise<number>
  /** Norm, head and sampling of one hidden row [1, width]. @throws EngineError where the row is not finite */
  next(sampler: number, row: Uint8Array, options?: NextOptions): Promise<NextToken>
  closeSampler(sampler: number): Promise<void>
  status(): EngineStatus & { readonly state: EngineState }
  onCrash(listener: (reason: string) => void): void
  stop(): Promise<void>
}
