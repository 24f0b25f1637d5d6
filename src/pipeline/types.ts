/** What `node` sees of the pipeline: stages that it serves, and generations that it enters. */
import type { ByteStream, LayerRange } from '#base'
import type { NextToken } from '#engine'
import type { GenerationStatus, ProtocolId, SamplingOptions } from '#wire'

/** How the pipeline reaches a peer. Given by `node`, so a simulation can replace the network. */
export type OpenStream = (
  peer: string,
  protocol: ProtocolId,
  options: { readonly signal: AbortSignal; readonly addresses: readonly string[] },
) => Promise<ByteStream>

/** One stage of a route, as the entry plans it. */
export type PlannedHop = {
  readonly peer: string
  readonly addresses: readonly string[]
  readonly layers: LayerRange
  readonly profile: string
}

export type GenerateRequest = {
  /** Model id, 64 hexadecimal digits. */
  readonly model: string
  readonly width: number
  readonly prompt: Int32Array
  readonly sampling: SamplingOptions
  /** Most tokens to make. prompt + tokensMax must not exceed every stage's contextMax. */
  readonly tokensMax: number
  readonly route: readonly PlannedHop[]
  readonly topLogprobs?: number
  readonly logits?: boolean
  readonly ignoreEnd?: boolean
}

/** What a generation yields: first its id, then tokens. An end token is yielded too (isEnd), then the stream ends. */
export type GenerationEvent =
  | { readonly kind: 'opened'; readonly generation: string }
  | { readonly kind: 'token'; readonly next: NextToken }

/** Starts generations here and drives them along their routes. */
export interface Entry {
  /** Leaving the loop or aborting the signal cancels every stage. @throws PipelineError */
  generate(request: GenerateRequest, options: { readonly signal: AbortSignal }): AsyncGenerator<GenerationEvent>
  generations(): readonly GenerationStatus[]
}

/** Serves this node's stage to entries. */
export interface StageServer {
  generations(): readonly GenerationStatus[]
  slotsFree(): number
}
