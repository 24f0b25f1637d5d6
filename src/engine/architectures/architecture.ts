/** What the engine must know of an architecture: the weights of a layer, and how they are applied. */
import type { ModelConfig } from '#formats'
import type { Tensor } from '../ggml/binding.ts'
import type { LayerBuilder } from '../graph-builder.ts'
import type { WeightSpec } from '../weights.ts'

export interface ArchitectureGraph {
  /** Weights of one layer; names without the prefix `blk.N.` */
  layerWeights(config: ModelConfig): readonly WeightSpec[]
  /** Weights that belong to no layer but that every stage needs. */
  sharedWeights(config: ModelConfig): readonly WeightSpec[]
  /** Adds a layer: x [width, rows] -> [width, rows], or fewer rows in the model's last layer. */
  buildLayer(layer: LayerBuilder, x: Tensor): Tensor
}

/** A matrix `[in, out]`. */
function matrix(name: string, columns: number, rows: number): WeightSpec {
  return { name: `${name}.weight`, dims: [columns, rows], use: 'mulMat' }
}

/** The scale of a norm. */
export function norm(name: string, size: number): WeightSpec {
  return { name: `${name}.weight`, dims: [size], use: 'mul' }
}

/** What a linear layer adds to its product. */
export function bias(name: string, size: number): WeightSpec {
  return { name: `${name}.bias`, dims: [size], use: 'add' }
}

/** What every supported architecture has: four attention matrices and a gated feed-forward network. */
export function attentionAndFeedForward(config: ModelConfig): WeightSpec[] {
  const { width, heads, kvHeads, headDimK, headDimV, feedForward } = config
  return [
    norm('attn_norm', width),
    matrix('attn_q', width, heads * headDimK),
    matrix('attn_k', width, kvHeads * headDimK),
    matrix('attn_v', width, kvHeads * headDimV),
    matrix('attn_output', heads * headDimV, width),
    norm('ffn_norm', width),
    matrix('ffn_gate', width, feedForward),
    matrix('ffn_up', width, feedForward),
    matrix('ffn_down', feedForward, width),
  ]
}
