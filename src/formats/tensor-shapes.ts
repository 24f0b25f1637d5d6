/**
 * Which tensors a model of each architecture has, and their shapes. A file is checked against this list before any of
 * it reaches ggml, which ends its process where shapes do not fit.
 */
import { FormatError } from './errors.ts'
import type { GgufFile, GgufTensor } from './gguf.ts'
import type { Architecture, ModelConfig } from './model-config.ts'
import { printable } from './printable.ts'

/** What of a model decides its tensors. */
export type ModelShape = Pick<
  ModelConfig,
  | 'architecture'
  | 'layerCount'
  | 'width'
  | 'feedForward'
  | 'heads'
  | 'kvHeads'
  | 'headDimK'
  | 'headDimV'
  | 'ropeDims'
  | 'vocabularySize'
>

export type TensorShape = {
  readonly name: string
  /** `dims[0]` is the row length: a matrix [inputs, outputs] maps rows of inputs to rows of outputs. */
  readonly dims: readonly number[]
  /** False: the model works without it. */
  readonly isRequired: boolean
}

/** Every tensor that a model may have, in the order in which converters write them: edges, then layer by layer. */
export function tensorShapes(config: ModelShape): readonly TensorShape[] {
  const { width, vocabularySize, architecture } = config
  const edges = [
    required('token_embd.weight', width, vocabularySize),
    required('output_norm.weight', width),
    // Without it the embedding table is the output head.
    optional('output.weight', width, vocabularySize),
    ...(architecture === 'llama' ? [optional('rope_freqs.weight', config.ropeDims / 2)] : []),
  ]
  const layers = Array.from({ length: config.layerCount }, (_, layer) => layerShapes(config, `blk.${layer}`))
  return [...edges, ...layers.flat()]
}

function layerShapes(config: ModelShape, prefix: string): readonly TensorShape[] {
  const { width, feedForward, heads, kvHeads, headDimK, headDimV } = config
  return [
    required(`${prefix}.attn_norm.weight`, width),
    required(`${prefix}.attn_q.weight`, width, headDimK * heads),
    required(`${prefix}.attn_k.weight`, width, headDimK * kvHeads),
    required(`${prefix}.attn_v.weight`, width, headDimV * kvHeads),
    required(`${prefix}.attn_output.weight`, headDimV * heads, width),
    ...architectureShapes(config, prefix),
    required(`${prefix}.ffn_norm.weight`, width),
    required(`${prefix}.ffn_gate.weight`, width, feedForward),
    required(`${prefix}.ffn_up.weight`, width, feedForward),
    required(`${prefix}.ffn_down.weight`, feedForward, width),
  ]
}

function architectureShapes(config: ModelShape, prefix: string): readonly TensorShape[] {
  const { architecture, width, heads, kvHeads, headDimK, headDimV } = config
  const headNorms = [
    required(`${prefix}.attn_q_norm.weight`, headDimK),
    required(`${prefix}.attn_k_norm.weight`, headDimK),
  ]
  const byArchitecture: Readonly<Record<Architecture, readonly TensorShape[]>> = {
    llama: [],
    qwen2: [
      required(`${prefix}.attn_q.bias`, headDimK * heads),
      required(`${prefix}.attn_k.bias`, headDimK * kvHeads),
      required(`${prefix}.attn_v.bias`, headDimV * kvHeads),
    ],
    qwen3: headNorms,
    gemma3: [
      ...headNorms,
      required(`${prefix}.post_attention_norm.weight`, width),
      required(`${prefix}.post_ffw_norm.weight`, width),
    ],
  }
  return byArchitecture[architecture]
}

/** Types that hold no weights, or only live inside a computation. */
const TYPES_REFUSED: ReadonlySet<string> = new Set(['I8', 'I16', 'I32', 'I64', 'F64', 'Q8_1', 'Q8_K'])

/**
 * Checks that every needed tensor is there, has its shape and a type that can be computed with, and that no layer has
 * a tensor which would be left out.
 * @throws FormatError FORMAT_MODEL_INVALID, FORMAT_MODEL_UNSUPPORTED
 */
export function checkTensors(gguf: GgufFile, config: ModelConfig): void {
  const shapes = new Map(tensorShapes(config).map(shape => [shape.name, shape]))
  for (const shape of shapes.values()) {
    const tensor = gguf.tensorsByName.get(shape.name)
    if (tensor !== undefined) checkTensor(tensor, shape)
    else if (shape.isRequired) throw invalid(`tensor "${shape.name}" is missing`)
  }
  // A bias that nobody adds would give wrong text without an error.
  const unknown = gguf.tensors.find(tensor => !shapes.has(tensor.name))
  if (unknown !== undefined) {
    const what = `tensor "${printable(unknown.name, 80)}"`
    throw new FormatError(
      { code: 'FORMAT_MODEL_UNSUPPORTED', what },
      `${what} has no place in the architecture ${config.architecture} as it is computed here`,
    )
  }
}

function checkTensor(tensor: GgufTensor, shape: TensorShape): void {
  const isSame = tensor.dims.every((dim, i) => dim === (shape.dims[i] ?? 1)) && tensor.dims.length >= shape.dims.length
  if (!isSame) {
    throw invalid(`tensor "${shape.name}" is ${tensor.dims.join(' x ')}, but must be ${shape.dims.join(' x ')}`)
  }
  const isVector = shape.dims.length === 1
  if (isVector ? tensor.type.name !== 'F32' : TYPES_REFUSED.has(tensor.type.name)) {
    throw invalid(`tensor "${shape.name}" has type ${tensor.type.name}${isVector ? ', but must be F32' : ''}`)
  }
}

function invalid(what: string): FormatError {
  return new FormatError({ code: 'FORMAT_MODEL_INVALID', what }, `the model is invalid: ${what}`)
}

function required(name: string, ...dims: readonly number[]): TensorShape {
  return { name, dims, isRequired: true }
}

function optional(name: string, ...dims: readonly number[]): TensorShape {
  return { name, dims, isRequired: false }
}
