/**
 * The child of an `EdgeEngine`: what stands before the first layer and behind the last one. libllama gives vocabulary
 * and samplers; our own graphs give embedding, norm and head.
 */
import type { SamplingOptions } from '#wire'
import { EdgeSession, type EdgeSessionOptions } from '../edge-session.ts'
import { EngineError } from '../errors.ts'
import type { GgmlRuntime } from '../ggml/runtime.ts'
import { SAMPLERS_MAX, TOP_LOGPROBS_MAX } from '../limits.ts'
import { Candidates } from '../llama/candidates.ts'
import { type Llama, openLlama } from '../llama/library.ts'
import { Sampler } from '../llama/sampler.ts'
import { type Score, scoreTokens } from '../llama/scores.ts'
import { Vocabulary } from '../llama/vocabulary.ts'
import type { EdgeReport, LoadOptions, NextToken, TokenScore } from '../types.ts'
import {
  asBytes,
  decodeNext,
  decodePieces,
  decodeSampler,
  decodeTokenize,
  decodeUint32,
  encodeNextReply,
  encodePieceList,
  encodeProgress,
  encodeUint32,
  type NextRequest,
  toInt32,
} from './codec.ts'
import { type ChildHost, type Handler, requireLoaded, unknownCommand } from './handler.ts'
import { decodeJson, encodeJson, KIND } from './protocol.ts'

export function createEdgeHandler({ open, confinement, describe }: ChildHost): Handler {
  let edge: Edge | undefined
  return async ({ kind, payload }, notify) => {
    switch (kind) {
      case KIND.load: {
        edge?.free()
        edge = undefined
        const { file } = decodeJson(payload) as { file: string }
        const onProgress = (done: number, total: number): void => void notify(encodeProgress(done, total))
        const loaded = await Edge.load(open(), file, { onProgress, reserve: bytes => confinement.reserve(bytes) })
        edge = loaded.edge
        return [encodeJson({ ...loaded.report, sandbox: describe() })]
      }
      case KIND.tokenize: {
        const { text, ...options } = decodeTokenize(payload)
        return [asBytes(requireLoaded(edge).vocabulary.tokenize(text, options))]
      }
      case KIND.pieces:
        return encodePieceList(requireLoaded(edge).pieces(decodePieces(payload)))
      case KIND.embed:
        return [requireLoaded(edge).embed(toInt32(payload))]
      case KIND.openSampler: {
        const { settings, prompt } = decodeSampler(payload)
        return [encodeUint32(requireLoaded(edge).openSampler(decodeJson(settings) as SamplingOptions, prompt))]
      }
      case KIND.next:
        return encodeNextReply(requireLoaded(edge).next(decodeNext(payload)))
      case KIND.closeSampler:
        requireLoaded(edge).closeSampler(decodeUint32(payload))
        return []
      default:
        throw unknownCommand(kind)
    }
  }
}

/** One loaded model's edges. */
class Edge {
  readonly vocabulary: Vocabulary
  readonly #llama: Llama
  readonly #session: EdgeSession
  readonly #candidates: Candidates
  readonly #samplers = new Map<number, Sampler>()
  #nextSampler = 1

  private constructor(llama: Llama, vocabulary: Vocabulary, session: EdgeSession) {
    this.#llama = llama
    this.vocabulary = vocabulary
    this.#session = session
    this.#candidates = new Candidates(vocabulary.size)
  }

  /** Our own reader goes first: it refuses with better reasons than libllama, and before libllama sees the file. */
  static async load(
    runtime: GgmlRuntime,
    file: string,
    { onProgress, reserve }: Required<Pick<LoadOptions, 'onProgress'> & EdgeSessionOptions>,
  ): Promise<{ readonly edge: Edge; readonly report: Omit<EdgeReport, 'pid' | 'sandbox'> }> {
    const session = new EdgeSession(runtime, { reserve })
    try {
      const report = await session.load(file, onProgress)
      const llama = openLlama(runtime)
      const vocabulary = new Vocabulary(llama, file)
      if (vocabulary.size !== report.vocabularySize) {
        const facts = { vocabularySize: vocabulary.size, headRows: report.vocabularySize }
        vocabulary.free()
        throw new EngineError(
          { code: 'EDGE_VOCABULARY_MISMATCH', ...facts },
          `the vocabulary has ${facts.vocabularySize} tokens, but the output head ${facts.headRows}`,
        )
      }
      const { bosText, eosText } = vocabulary
      return { edge: new Edge(llama, vocabulary, session), report: { ...report, bosText, eosText } }
    } catch (error) {
      session.free()
      throw error
    }
  }

  pieces(request: { readonly tokens: Int32Array; readonly special: boolean }): readonly Uint8Array[] {
    return Array.from(request.tokens, token => this.vocabulary.piece(token, request.special))
  }

  embed(tokens: Int32Array): Uint8Array {
    for (const token of tokens) this.vocabulary.check(token)
    return this.#session.embed(tokens)
  }

  openSampler(sampling: SamplingOptions, prompt: Int32Array): number {
    if (this.#samplers.size >= SAMPLERS_MAX) {
      throw new EngineError(
        { code: 'EDGE_SAMPLERS_FULL', samplersMax: SAMPLERS_MAX },
        `${SAMPLERS_MAX} generations are being sampled already`,
      )
    }
    for (const token of prompt) this.vocabulary.check(token)
    const id = this.#nextSampler++
    this.#samplers.set(id, new Sampler({ llama: this.#llama, candidates: this.#candidates }, sampling, prompt))
    return id
  }

  next({ sampler, row, options }: NextRequest): NextToken {
    const chain = this.#samplers.get(sampler)
    if (chain === undefined) {
      throw new EngineError({ code: 'EDGE_SAMPLER_UNKNOWN', sampler }, `there is no sampler ${sampler}`)
    }
    const { topLogprobs } = options
    if (topLogprobs !== undefined && topLogprobs > TOP_LOGPROBS_MAX) {
      const what = `${TOP_LOGPROBS_MAX} alternatives can be scored, not ${topLogprobs}`
      throw new EngineError({ code: 'EDGE_SAMPLING_INVALID', what }, what)
    }
    const logits = this.#session.logits(row)
    const token = chain.sample(logits)
    return {
      token,
      piece: this.vocabulary.piece(token, false),
      isEnd: this.vocabulary.isEnd(token),
      row: this.#session.embed(Int32Array.of(token)),
      ...(topLogprobs !== undefined && this.#score(logits, token, topLogprobs)),
      ...(options.logits === true && { logits }),
    }
  }

  #score(logits: Float32Array, token: number, count: number): { chosen: TokenScore; top: readonly TokenScore[] } {
    const scores = scoreTokens(logits, token, count)
    // Control tokens are shown as their text here: an alternative without a name would tell nobody anything.
    const withPiece = (score: Score): TokenScore => ({ ...score, piece: this.vocabulary.piece(score.token, true) })
    return { chosen: withPiece(scores.chosen), top: scores.top.map(withPiece) }
  }

  closeSampler(sampler: number): void {
    this.#samplers.get(sampler)?.free()
    this.#samplers.delete(sampler)
  }

  free(): void {
    for (const sampler of this.#samplers.values()) sampler.free()
    this.#samplers.clear()
    this.#candidates.free()
    this.vocabulary.free()
    this.#session.free()
  }
}
