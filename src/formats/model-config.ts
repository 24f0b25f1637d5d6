/**
 * Hyper-parameters of a model, read from GGUF metadata as llama.cpp reads them: same keys, same defaults, same 32-bit
 * rounding. Only what is computed here is accepted; a file that wants more (experts, per-layer head counts) is refused
 * by name, because running it without would give wrong text with no error.
 */
import { FormatError } from './errors.ts'
import type { GgufFile } from './gguf.ts'
import { MODEL_CONTEXT_MAX, MODEL_LAYERS_MAX, MODEL_NAME_SHOWN_MAX, MODEL_WIDTH_MAX } from './limits.ts'
import { MetadataReader } from './metadata-reader.ts'
import { printable } from './printable.ts'
import { checkTensors } from './tensor-shapes.ts'

/** Architectures that the engine computes. Mistral's files say "llama". */
const ARCHITECTURES = ['llama', 'qwen2', 'qwen3', 'gemma3'] as const
export type Architecture = (typeof ARCHITECTURES)[number]

/** How rotary positions are stretched beyond the context of the first training. The fields are `ggml_rope_ext`'s. */
type RopeScaling = {
  readonly type: 'none' | 'linear' | 'yarn'
  /** How much longer the context became; 1 where it did not. `freq_scale` is its inverse. */
  readonly factor: number
  readonly freqScale: number
  /** YaRN: context of the first training. */
  readonly origContext: number
  /** YaRN: share of extrapolation, 0 or 1. */
  readonly extFactor: number
  /** Magnitude as llama.cpp hands it to `ggml_rope_ext`, which multiplies by 1 + 0.1 ln(factor) where extFactor is not 0. */
  readonly attnFactor: number
  readonly betaFast: number
  readonly betaSlow: number
}

/** Layers that see only the last positions, with rotary positions of their own (Gemma 3). */
type SlidingWindow = {
  /** Positions that a row sees, itself included. */
  readonly size: number
  /** Every `period`-th layer sees everything: layer i slides where i % period < period - 1. */
  readonly period: number
  readonly ropeBase: number
  readonly ropeFreqScale: number
}

export type ModelConfig = {
  readonly architecture: Architecture
  readonly name: string
  readonly layerCount: number
  /** Numbers in a hidden row. */
  readonly width: number
  readonly feedForward: number
  readonly heads: number
  readonly kvHeads: number
  /** Numbers in one head's key (and query), and value. */
  readonly headDimK: number
  readonly headDimV: number
  /** Of every RMS norm. */
  readonly normEpsilon: number
  /** How many numbers of a head are rotated. */
  readonly ropeDims: number
  readonly ropeBase: number
  readonly ropeScaling: RopeScaling
  readonly slidingWindow?: SlidingWindow
  /** Factor on query-key products. */
  readonly attentionScale: number
  /** Logits become cap * tanh(logits / cap). */
  readonly finalLogitSoftcap?: number
  /** Factor on token embeddings; 1 except for Gemma. */
  readonly embeddingScale: number
  /** Positions that the model was trained for. */
  readonly contextTrain: number
  readonly vocabularySize: number
  /** Jinja source. */
  readonly chatTemplate?: string
  /** "gpt2", "llama", ... as llama.cpp names tokenizers. */
  readonly tokenizerModel: string
  /** llama.cpp's number for the mixture of tensor types. */
  readonly fileType?: number
}

/** Whether a layer sees only its sliding window. */
export function isSlidingLayer(config: ModelConfig, layer: number): boolean {
  const window = config.slidingWindow
  return window !== undefined && layer % window.period < window.period - 1
}

/**
 * Reads a model's hyper-parameters and checks its tensors against them.
 * @throws FormatError FORMAT_ARCHITECTURE_UNKNOWN, FORMAT_MODEL_UNSUPPORTED, FORMAT_MODEL_INVALID
 */
export function describeModel(gguf: GgufFile): ModelConfig {
  const architecture = readArchitecture(gguf)
  const meta = new MetadataReader(gguf.metadata, architecture)
  refuseUnsupported(meta)
  const layerCount = meta.integer('block_count', { min: 1, max: MODEL_LAYERS_MAX })
  const width = meta.integer('embedding_length', { min: 1, max: MODEL_WIDTH_MAX })
  const contextTrain = meta.integer('context_length', { min: 1, max: MODEL_CONTEXT_MAX })
  const attention = readAttention(meta, { architecture, layerCount, width })
  const slidingWindow = architecture === 'gemma3' ? readSlidingWindow(meta) : undefined
  const softcap = architecture === 'gemma3' ? meta.numberOr('final_logit_softcapping', 0, { min: 0, max: 1e6 }) : 0
  const chatTemplate = meta.global.textOrUndefined('tokenizer.chat_template')
  const fileType = meta.global.integerOrUndefined('general.file_type', { min: 0, max: 0xffff_ffff })
  const config: ModelConfig = {
    architecture,
    name: printable(meta.global.textOrUndefined('general.name') ?? 'unnamed', MODEL_NAME_SHOWN_MAX),
    layerCount,
    width,
    feedForward: meta.uniform('feed_forward_length', layerCount, { min: 1, max: MODEL_WIDTH_MAX }),
    ...attention,
    normEpsilon: meta.number('attention.layer_norm_rms_epsilon', { min: 0, max: 1 }),
    ropeBase: meta.numberOr('rope.freq_base', 10_000, { min: 1e-3, max: 1e15 }),
    ropeScaling: readRopeScaling(meta, contextTrain),
    ...(slidingWindow === undefined ? {} : { slidingWindow }),
    ...(softcap === 0 ? {} : { finalLogitSoftcap: softcap }),
    embeddingScale: architecture === 'gemma3' ? Math.fround(Math.sqrt(width)) : 1,
    contextTrain,
    vocabularySize: readVocabularySize(gguf),
    ...(chatTemplate === undefined ? {} : { chatTemplate }),
    tokenizerModel: meta.global.text('tokenizer.ggml.model'),
    ...(fileType === undefined ? {} : { fileType }),
  }
  checkTensors(gguf, config)
  return config
}

function readArchitecture(gguf: GgufFile): Architecture {
  const named = gguf.metadata.get('general.architecture')
  const known = ARCHITECTURES.find(name => name === named)
  if (known !== undefined) return known
  const architecture = typeof named === 'string' ? printable(named, 60) : ''
  throw new FormatError(
    { code: 'FORMAT_ARCHITECTURE_UNKNOWN', architecture },
    `${architecture === '' ? 'the file names no architecture' : `the architecture "${architecture}" is not supported`}; supported are ${ARCHITECTURES.join(', ')}`,
  )
}

function refuseUnsupported(meta: MetadataReader): void {
  const refuse = (what: string): never => {
    throw new FormatError({ code: 'FORMAT_MODEL_UNSUPPORTED', what }, `models with ${what} are not supported`)
  }
  if ((meta.integerOrUndefined('expert_count', { min: 0, max: 1e6 }) ?? 0) > 0) refuse('a mixture of experts')
  if ((meta.global.integerOrUndefined('split.count', { min: 0, max: 1e6 }) ?? 0) > 1) refuse('several GGUF files')
  if (meta.integerOrUndefined('pooling_type', { min: 0, max: 100 })) refuse('pooled outputs (embedding models)')
}

type Attention = Pick<ModelConfig, 'heads' | 'kvHeads' | 'headDimK' | 'headDimV' | 'ropeDims' | 'attentionScale'>

/** Gemma 3 with 62 layers (27B) scales attention by the width per head, not by the head's own size. */
const GEMMA3_27B_LAYERS = 62

function readAttention(
  meta: MetadataReader,
  shape: Pick<ModelConfig, 'architecture' | 'layerCount' | 'width'>,
): Attention {
  const { architecture, layerCount, width } = shape
  const bounds = { min: 1, max: MODEL_WIDTH_MAX }
  const heads = meta.uniform('attention.head_count', layerCount, bounds)
  const kvHeads = meta.uniformOr('attention.head_count_kv', layerCount, { ...bounds, fallback: heads })
  const perHead = Math.floor(width / heads)
  const headDimK = meta.integerOrUndefined('attention.key_length', bounds) ?? perHead
  const headDimV = meta.integerOrUndefined('attention.value_length', bounds) ?? perHead
  const ropeDims = meta.integerOrUndefined('rope.dimension_count', bounds) ?? headDimK
  if (heads % kvHeads !== 0) throw meta.invalid(`${heads} attention heads cannot share ${kvHeads} key-value heads`)
  if (headDimK < 1 || headDimK !== headDimV) {
    throw meta.invalid(`keys of ${headDimK} and values of ${headDimV} numbers per head; they must be equal`)
  }
  // llama.cpp asserts the same: its graphs rotate whole heads.
  if (ropeDims !== headDimK || ropeDims % 2 !== 0) {
    throw meta.invalid(`${ropeDims} rotated numbers in heads of ${headDimK}; they must be equal and even`)
  }
  const scaleBase = architecture === 'gemma3' && layerCount === GEMMA3_27B_LAYERS ? perHead : headDimK
  const attentionScale = Math.fround(1 / Math.fround(Math.sqrt(scaleBase)))
  return { heads, kvHeads, headDimK, headDimV, ropeDims, attentionScale }
}

function readSlidingWindow(meta: MetadataReader): SlidingWindow | undefined {
  const size = meta.integerOrUndefined('attention.sliding_window', { min: 0, max: MODEL_CONTEXT_MAX }) ?? 0
  if (size === 0) return undefined
  return {
    size,
    period: meta.integerOrUndefined('attention.sliding_window_pattern', { min: 1, max: MODEL_LAYERS_MAX }) ?? 6,
    ropeBase: meta.numberOr('rope.freq_base_swa', 10_000, { min: 1e-3, max: 1e15 }),
    ropeFreqScale: 1,
  }
}

function readRopeScaling(meta: MetadataReader, contextTrain: number): RopeScaling {
  // llama.cpp takes "linear" with factor 1 where the file says nothing.
  const type = meta.textOrUndefined('rope.scaling.type') ?? 'linear'
  if (type !== 'none' && type !== 'linear' && type !== 'yarn') {
    const what = `rope scaling "${printable(type, 40)}"`
    throw new FormatError(
      { code: 'FORMAT_MODEL_UNSUPPORTED', what },
      `${what} is not supported; none, linear and yarn are`,
    )
  }
  const bounds = { min: 0, max: 1e6 }
  const read = meta.numberOr('rope.scaling.factor', meta.numberOr('rope.scale_linear', 0, bounds), bounds)
  const factor = type === 'none' || read === 0 ? 1 : read
  const freqScale = Math.fround(1 / factor)
  const extFactor = type === 'yarn' ? 1 : 0
  const fileFactor = meta.numberOr('rope.scaling.attn_factor', 1, { min: 0, max: 1e3 })
  return {
    type,
    factor,
    freqScale,
    origContext:
      meta.integerOrUndefined('rope.scaling.original_context_length', { min: 1, max: MODEL_CONTEXT_MAX }) ??
      contextTrain,
    extFactor,
    attnFactor: Math.fround((extFactor === 0 ? 1 : yarnMagnitude(freqScale)) * fileFactor),
    betaFast: 32,
    betaSlow: 1,
  }
}

/**
 * What llama.cpp multiplies into YaRN's magnitude: 1 + 0.1 ln(factor), divided by the same, which `ggml_rope_ext`
 * multiplies in again. Rounded as there, because a last bit here is a last bit in every key.
 */
function yarnMagnitude(freqScale: number): number {
  const f = Math.fround
  const factor = f(1 / freqScale)
  const growth = f(f(0.1) * f(Math.log(factor)))
  const scale = factor <= 1 ? 1 : f(growth + 1)
  return f(scale * f(1 / f(1 + growth)))
}

function readVocabularySize(gguf: GgufFile): number {
  const invalid = (what: string): FormatError =>
    new FormatError({ code: 'FORMAT_MODEL_INVALID', what }, `the model's vocabulary is invalid: ${what}`)
  const tokens = gguf.metadata.get('tokenizer.ggml.tokens')
  if (!Array.isArray(tokens) || tokens.length === 0) throw invalid('the file has no tokens')
  return tokens.length
}
