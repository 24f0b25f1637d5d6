/**
 * Writes small GGUF models with random weights, for tests: every tensor and metadata entry that llama.cpp wants, for
 * each architecture, with a byte-level vocabulary that reads any text. Weights are scaled so that activations stay
 * finite and that attention, not the last token alone, decides what comes next: greedy text then varies.
 *
 * The same options give the same bytes on every machine.
 */
import { open } from 'node:fs/promises'
import { type Random, seededRandom } from '#base'
import {
  type Architecture,
  ggmlTypeNamed,
  type ModelShape,
  tensorBytes,
  type TensorShape,
  tensorShapes,
} from '#formats'
import { encodeTensor, type WeightType } from './ggml-encode.ts'
import { GgufHeaderWriter } from './gguf-writer.ts'

export type RandomGgufOptions = {
  readonly architecture: Architecture
  /** @default 4 */
  readonly layers?: number
  /** Multiples of 256 allow K-quants. @default 256 */
  readonly width?: number
  /** @default 4 */
  readonly heads?: number
  /** @default 2 */
  readonly kvHeads?: number
  /** @default 64 */
  readonly headDim?: number
  /** @default 512 */
  readonly feedForward?: number
  /** 300 or more: 256 bytes, 4 control tokens, then words. @default 512 */
  readonly vocabulary?: number
  /** Type of matrices; norms and biases are F32. @default 'F32' */
  readonly type?: WeightType
  /** @default 1 */
  readonly seed?: number
  /** The embedding table is the output head too. @default true for gemma3 */
  readonly tied?: boolean
  /** Write `rope_freqs.weight`, as Llama 3 has it (llama only). @default false */
  readonly ropeFreqs?: boolean
  /** Gemma 3's window; 0: none. @default 128 */
  readonly slidingWindow?: number
  /** Every so many layers one sees everything (gemma3); 0: not written, which means 6. @default 3 */
  readonly slidingPattern?: number
  /** @default 4096 */
  readonly context?: number
  /** Jinja source, null for none. @default a ChatML template */
  readonly chatTemplate?: string | null
  /** More metadata, or other values, by full key. Plain numbers are unsigned integers. */
  readonly metadata?: Readonly<Record<string, string | number | boolean | { readonly float: number }>>
}

/** Ids of the control tokens in every vocabulary written here. */
export const RANDOM_GGUF_TOKENS = { bos: 256, eos: 257, messageStart: 258, messageEnd: 259 } as const

const CHATML =
  "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

const ALIGNMENT = 32
const FILE_TYPES: Readonly<Record<WeightType, number>> = { F32: 0, F16: 1, Q4_0: 2, Q8_0: 7, BF16: 32 }

/** Writes a model to `path`, replacing what is there. */
export async function writeRandomGguf(path: string, options: RandomGgufOptions): Promise<void> {
  const model = withDefaults(options)
  const tensors = chooseTensors(model)
  const header = new GgufHeaderWriter()
  writeHyperParameters(header, model)
  writeVocabulary(header, model)
  for (const [key, value] of Object.entries(options.metadata ?? {})) {
    if (typeof value === 'object') header.setFloat(key, value.float)
    else header.set(key, value)
  }
  const types = tensors.map(({ dims }) => (dims.length === 1 ? 'F32' : model.type))
  const sizes = tensors.map(({ dims }, i) => bytesOf(dims, types[i] ?? 'F32'))
  let offset = 0
  tensors.forEach(({ name, dims }, i) => {
    header.addTensor({ name, dims, type: ggmlTypeNamed(types[i] ?? 'F32')?.id ?? 0, offset })
    offset += align(sizes[i] ?? 0)
  })
  const file = await open(path, 'w')
  try {
    await file.writeFile(pad(header.bytes()))
    const random = seededRandom(model.seed)
    for (const [i, tensor] of tensors.entries()) {
      await file.writeFile(pad(encodeTensor(makeWeights(tensor, { model, random }), types[i] ?? 'F32')))
    }
  } finally {
    await file.close()
  }
}

type Model = Required<Omit<RandomGgufOptions, 'metadata'>>

function withDefaults(options: RandomGgufOptions): Model {
  const defaults = {
    layers: 4,
    width: 256,
    heads: 4,
    kvHeads: 2,
    headDim: 64,
    feedForward: 512,
    vocabulary: 512,
    type: 'F32',
    seed: 1,
    tied: options.architecture === 'gemma3',
    ropeFreqs: false,
    slidingWindow: 128,
    slidingPattern: 3,
    context: 4096,
    chatTemplate: CHATML,
  } as const
  return { ...defaults, ...options }
}

function chooseTensors(model: Model): readonly TensorShape[] {
  const shape: ModelShape = {
    architecture: model.architecture,
    layerCount: model.layers,
    width: model.width,
    feedForward: model.feedForward,
    heads: model.heads,
    kvHeads: model.kvHeads,
    headDimK: model.headDim,
    headDimV: model.headDim,
    ropeDims: model.headDim,
    vocabularySize: model.vocabulary,
  }
  return tensorShapes(shape).filter(({ name }) => {
    if (name === 'output.weight') return !model.tied
    if (name === 'rope_freqs.weight') return model.ropeFreqs
    return true
  })
}

function writeHyperParameters(header: GgufHeaderWriter, model: Model): void {
  const prefix = model.architecture
  const set = (key: string, value: number): void => header.set(`${prefix}.${key}`, value)
  header.set('general.architecture', model.architecture)
  header.set('general.name', `random ${model.architecture} ${model.type} ${model.seed}`)
  header.set('general.file_type', FILE_TYPES[model.type])
  header.set('general.quantization_version', 2)
  set('context_length', model.context)
  set('embedding_length', model.width)
  set('block_count', model.layers)
  set('feed_forward_length', model.feedForward)
  set('attention.head_count', model.heads)
  set('attention.head_count_kv', model.kvHeads)
  set('attention.key_length', model.headDim)
  set('attention.value_length', model.headDim)
  header.setFloat(`${prefix}.attention.layer_norm_rms_epsilon`, 1e-5)
  header.setFloat(`${prefix}.rope.freq_base`, prefix === 'llama' ? 500_000 : 1_000_000)
  set('rope.dimension_count', model.headDim)
  set('vocab_size', model.vocabulary)
  if (prefix === 'gemma3') {
    if (model.slidingWindow > 0) set('attention.sliding_window', model.slidingWindow)
    if (model.slidingPattern > 0) set('attention.sliding_window_pattern', model.slidingPattern)
  }
}

function writeVocabulary(header: GgufHeaderWriter, model: Model): void {
  if (model.vocabulary < 300) throw new RangeError('a vocabulary of 300 tokens or more is needed')
  const isQwen = model.architecture.startsWith('qwen')
  const letters = 'abcdefghijklmnopqrstuvwxyz'.split('')
  const control = ['<|bos|>', '<|eos|>', '<|im_start|>', '<|im_end|>']
  const pairs = letters.flatMap(a => letters.map(b => [a, b] as const))
  const words = pairs.slice(0, model.vocabulary - 260)
  const rest = model.vocabulary - 260 - words.length
  const tokens = [
    ...byteSymbols(),
    ...control,
    ...words.map(([a, b]) => a + b),
    // Text never reads as these, but the model can say them.
    ...Array.from({ length: rest }, (_, i) => `t${i}`),
  ]
  header.set('tokenizer.ggml.model', 'gpt2')
  header.set('tokenizer.ggml.pre', isQwen ? 'qwen2' : 'llama-bpe')
  header.setTexts('tokenizer.ggml.tokens', tokens)
  header.setIntegers(
    'tokenizer.ggml.token_type',
    tokens.map((_, id) => (id >= 256 && id < 260 ? 3 : 1)),
  )
  header.setTexts(
    'tokenizer.ggml.merges',
    words.map(([a, b]) => `${a} ${b}`),
  )
  header.set('tokenizer.ggml.bos_token_id', RANDOM_GGUF_TOKENS.bos)
  header.set('tokenizer.ggml.eos_token_id', RANDOM_GGUF_TOKENS.eos)
  header.set('tokenizer.ggml.add_bos_token', !isQwen)
  if (model.chatTemplate !== null) header.set('tokenizer.chat_template', model.chatTemplate)
}

/** GPT-2's printable stand-ins for the 256 bytes, in the order of its table: printable ones first, then the others. */
function byteSymbols(): string[] {
  const isPrintable = (byte: number): boolean =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255)
  const bytes = Array.from({ length: 256 }, (_, byte) => byte)
  const printable = bytes.filter(isPrintable)
  const others = bytes.filter(byte => !isPrintable(byte))
  return [...printable.map(byte => String.fromCodePoint(byte)), ...others.map((_, i) => String.fromCodePoint(256 + i))]
}

/**
 * How strongly attention writes into the residual stream, against the feed-forward layer, and how sharply it picks
 * positions. Found by trial: with 2 and 1.5 greedy text ran into short cycles, with 2 and 2.5 it does not.
 */
const ATTENTION_GAIN = 2
const QUERY_KEY_GAIN = 2.5

function makeWeights(
  tensor: TensorShape,
  from: { readonly model: Model; readonly random: Random },
): Float32Array<ArrayBuffer> {
  const { model, random } = from
  const inputs = tensor.dims[0] ?? 1
  const count = tensor.dims.reduce((product, dim) => product * dim, 1)
  const values = new Float32Array(count)
  if (tensor.name === 'rope_freqs.weight') return values.map((_, i) => 1 + (7 * i) / count)
  const { mean, deviation } = spreadOf(tensor, { model, inputs })
  for (let i = 0; i < count; i++) values[i] = mean + deviation * gaussian(random)
  // Control tokens stay improbable, so that greedy text does not end by chance.
  if (tensor.name === 'output.weight' || (tensor.name === 'token_embd.weight' && model.tied)) {
    for (let i = 256 * inputs; i < 260 * inputs; i++) values[i] = (values[i] ?? 0) * 0.05
  }
  return values
}

function spreadOf(
  tensor: TensorShape,
  from: { readonly model: Model; readonly inputs: number },
): { mean: number; deviation: number } {
  const { model, inputs } = from
  const { name } = tensor
  if (/attn_[qk]_norm\.weight$/.test(name)) return { mean: QUERY_KEY_GAIN, deviation: 0.1 }
  if (name.endsWith('norm.weight')) return { mean: 1, deviation: 0.1 }
  if (name.endsWith('.bias')) return { mean: 0, deviation: 0.2 }
  // A tied table would make every token predict itself if the embedding ruled the residual stream.
  const embedding = model.architecture === 'gemma3' ? 0.3 / Math.sqrt(model.width) : 0.3
  if (name === 'token_embd.weight') return { mean: 0, deviation: embedding }
  const unit = 1 / Math.sqrt(inputs)
  if (/attn_[qk]\.weight$/.test(name)) return { mean: 0, deviation: QUERY_KEY_GAIN * unit }
  if (/attn_(v|output)\.weight$/.test(name)) return { mean: 0, deviation: ATTENTION_GAIN * unit }
  return { mean: 0, deviation: unit }
}

/** Nearly normal, variance 1, and never beyond 3.5: the sum of four uniform numbers from two draws. */
function gaussian(random: Random): number {
  const a = random.uint32()
  const b = random.uint32()
  const sum = (a & 0xffff) + (a >>> 16) + (b & 0xffff) + (b >>> 16)
  return (sum / 65_535 - 2) * Math.sqrt(3)
}

function bytesOf(dims: readonly number[], type: WeightType): number {
  const ggmlType = ggmlTypeNamed(type)
  if (ggmlType === undefined) throw new RangeError(`unknown type ${type}`)
  return tensorBytes(ggmlType, dims)
}

function align(size: number): number {
  return Math.ceil(size / ALIGNMENT) * ALIGNMENT
}

function pad(bytes: Uint8Array): Uint8Array {
  const padded = new Uint8Array(align(bytes.byteLength))
  padded.set(bytes)
  return padded
}
