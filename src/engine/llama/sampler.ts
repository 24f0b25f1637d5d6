/**
 * How the next token is chosen: llama.cpp's samplers in the order of its server. Logit bias and penalties come first,
 * then truncation (top-k, top-p, min-p), temperature, and a draw from a seeded generator.
 */
import type { SamplingOptions } from '#wire'
import { EngineError } from '../errors.ts'
import { LOGIT_BIAS_MAX, PENALTY_TOKENS_MAX } from '../limits.ts'
import type { Candidates } from './candidates.ts'
import type { Llama, LlamaSampler } from './library.ts'
import { argmax } from './scores.ts'

/** libllama takes this seed as "draw one": it would break "same seed, same answer". */
const SEED_RANDOM = 0xffff_ffff

export class Sampler {
  readonly #llama: Llama
  readonly #candidates: Candidates
  /** Undefined: plain greedy, for which libllama is not needed. */
  readonly #chain: LlamaSampler | undefined

  /**
   * @param prompt its last tokens count for the penalties
   * @throws EngineError where the settings make no sense
   */
  constructor(
    deps: { readonly llama: Llama; readonly candidates: Candidates },
    sampling: SamplingOptions,
    prompt: Int32Array,
  ) {
    const fault = faultIn(sampling, deps.candidates.size)
    if (fault !== undefined) throw new EngineError({ code: 'EDGE_SAMPLING_INVALID', what: fault }, fault)
    this.#llama = deps.llama
    this.#candidates = deps.candidates
    const parts = chainFor(deps.llama, sampling, deps.candidates.size)
    if (parts.length === 0) return
    this.#chain = deps.llama.newChain()
    for (const part of parts) deps.llama.addToChain(this.#chain, part)
    for (const token of prompt.subarray(Math.max(0, prompt.length - sampling.penaltyLastN))) {
      deps.llama.accept(this.#chain, token)
    }
  }

  /** Chooses a token and remembers it for the penalties. */
  sample(logits: Float32Array): number {
    if (this.#chain === undefined) return argmax(logits)
    this.#candidates.fill(logits)
    this.#llama.applySampler(this.#chain, this.#candidates.address)
    const token = this.#candidates.selected()
    this.#llama.accept(this.#chain, token)
    return token
  }

  free(): void {
    if (this.#chain !== undefined) this.#llama.freeSampler(this.#chain)
  }
}

/** The samplers that have something to do, in llama.cpp's order; none for plain greedy. */
function chainFor(llama: Llama, sampling: SamplingOptions, vocabularySize: number): readonly LlamaSampler[] {
  const parts: LlamaSampler[] = []
  const biases = Object.entries(sampling.logitBias ?? {})
  if (biases.length > 0) parts.push(llama.logitBias(vocabularySize, biases.length, biasBytes(biases)))
  const { repeatPenalty, frequencyPenalty, presencePenalty, penaltyLastN } = sampling
  const hasPenalties = repeatPenalty !== 1 || frequencyPenalty !== 0 || presencePenalty !== 0
  if (hasPenalties && penaltyLastN > 0) {
    parts.push(llama.penalties(vocabularySize, penaltyLastN, repeatPenalty, frequencyPenalty, presencePenalty))
  }
  if (sampling.temperature === 0) return parts.length === 0 ? [] : [...parts, llama.greedy()]
  if (sampling.topK > 0) parts.push(llama.topK(sampling.topK))
  if (sampling.topP < 1) parts.push(llama.topP(sampling.topP, 0))
  if (sampling.minP > 0) parts.push(llama.minP(sampling.minP, 0))
  const seed = sampling.seed === SEED_RANDOM ? SEED_RANDOM - 1 : sampling.seed
  return [...parts, llama.temperature(sampling.temperature), llama.random(seed)]
}

function biasBytes(biases: ReadonlyArray<readonly [token: string, bias: number]>): Uint8Array {
  const bytes = new Uint8Array(8 * biases.length)
  const view = new DataView(bytes.buffer)
  biases.forEach(([token, bias], index) => {
    view.setInt32(8 * index, Number(token), true)
    view.setFloat32(8 * index + 4, bias, true)
  })
  return bytes
}

/** What is wrong with the settings, as a sentence. */
function faultIn(sampling: SamplingOptions, vocabularySize: number): string | undefined {
  const isIn = (value: number, min: number, max: number): boolean => value >= min && value <= max
  const isCount = (value: number, max: number): boolean => Number.isInteger(value) && isIn(value, 0, max)
  if (!isIn(sampling.temperature, 0, 2)) return 'temperature must be in [0, 2]'
  if (!isCount(sampling.topK, 2 ** 31 - 1)) return 'top-k must be a whole number, 0 or more'
  if (!isIn(sampling.topP, 0, 1)) return 'top-p must be in [0, 1]'
  if (!isIn(sampling.minP, 0, 1)) return 'min-p must be in [0, 1]'
  if (!(sampling.repeatPenalty > 0 && sampling.repeatPenalty <= 100)) return 'the repeat penalty must be in (0, 100]'
  if (!isIn(sampling.frequencyPenalty, -100, 100)) return 'the frequency penalty must be in [-100, 100]'
  if (!isIn(sampling.presencePenalty, -100, 100)) return 'the presence penalty must be in [-100, 100]'
  if (!isCount(sampling.penaltyLastN, PENALTY_TOKENS_MAX)) {
    return `penalties look back over 0 to ${PENALTY_TOKENS_MAX} tokens`
  }
  if (!isCount(sampling.seed, SEED_RANDOM)) return 'the seed must be an unsigned number of 32 bits'
  const biases = Object.entries(sampling.logitBias ?? {})
  if (biases.length > LOGIT_BIAS_MAX) return `the logit bias may have ${LOGIT_BIAS_MAX} entries`
  const isBias = ([token, bias]: [string, number]): boolean =>
    /^\d{1,9}$/.test(token) && Number(token) < vocabularySize && isIn(bias, -1e9, 1e9)
  return biases.every(isBias) ? undefined : 'the logit bias must map token ids of this vocabulary to numbers'
}
