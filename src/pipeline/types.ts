/** What `node` sees of the pipeline: stages that it serves, and generations that it enters. */
import type { ByteStream, Clock, LayerRange, Logger, Random } from '#base'
import type { EdgeEngine, NextToken, StageEngine } from '#engine'
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
  /** Whether only what is open is still computed, because the node is about to stop. */
  readonly isDraining: boolean
  generations(): readonly GenerationStatus[]
  slotsFree(): number
  /** Generations that are open here; `generations` shows those too whose rows are just being zeroed. */
  openCount(): number
  /**
   * Fails every generation that this stage computes for, before it takes other layers. `served` must give nothing from
   * before this call until they are loaded. Resolves when the engine was told to forget them.
   * @param why a sentence for their entries
   */
  evict(why: string): Promise<void>
}

/** The stage that this node serves now, as its engine has it loaded. */
export type ServedStage = {
  /** Model id, 64 hexadecimal digits. */
  readonly model: string
  readonly layers: LayerRange
  readonly profile: string
  readonly width: number
  /** Layers of the whole model: a hop that ends here is the last one and answers the entry. */
  readonly layerCount: number
  readonly contextMax: number
  readonly slots: number
}

export type PipelineDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** Our own peer id. A hop to it stays in memory. */
  readonly self: string
  /** Where stages can dial us for results. */
  readonly selfAddresses: () => readonly string[]
  readonly openStream: OpenStream
  /** Loaded by its owner. Undefined: generations cannot enter here. */
  readonly edge?: EdgeEngine | undefined
  /** Loaded by its owner; `served` says what is loaded now. Undefined: every OPEN is refused. */
  readonly stage?: { readonly engine: StageEngine; readonly served: () => ServedStage | undefined } | undefined
}

export type PipelineOptions = {
  /** Longest wait for one decoding step along the whole route. @default 60_000 */
  readonly decodeTimeoutMs?: number
  /** Longest wait for the next sign of a prefill (an answered chunk or a credit). @default 300_000 */
  readonly prefillTimeoutMs?: number
  /** Longest life of a generation that enters here. @default 1_800_000 */
  readonly deadlineMs?: number
  /** How long `generate` tries to find a slot on every stage before it gives up. @default 30_000 */
  readonly openTimeoutMs?: number
  /** Generations that one entry may hold on this node's stage. @default 32 */
  readonly generationsPerEntryMax?: number
}

/** Both roles of one node: entry of its own generations, stage of others'. Made by `createPipeline(deps, options?)`. */
export interface Pipeline {
  readonly entry: Entry
  readonly stages: StageServer
  /** The handler of `PROTOCOLS.stage`. Resolves when the stream has ended; never rejects. */
  accept(stream: ByteStream): Promise<void>
  /** Tell it when a peer is gone: its generations are freed, those that need it fail with `STAGE_LOST`. */
  peerLeft(peer: string): void
  /** Opens no generation of others any more; resolves when those that are open have ended, or their time is up. */
  drain(options: { readonly timeoutMs: number }): Promise<void>
  /** Ends every generation and stream of both roles. The engines stay, they are their owner's. Idempotent. */
  stop(): Promise<void>
}
