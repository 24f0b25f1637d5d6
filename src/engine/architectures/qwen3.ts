/** Qwen 3 (arXiv 2505.09388): as Qwen 2, but queries and keys are normed per head, and there are no biases. */
import type { Tensor } from '../ggml/binding.ts'
import { type LayerBuilder, ROPE_HALVES } from '../graph-builder.ts'
import { type ArchitectureGraph, attentionAndFeedForward, norm } from './architecture.ts'

export const qwen3: ArchitectureGraph = {
  layerWeights: config => [
    ...attentionAndFeedForward(config),
    norm('attn_q_norm', config.headDimK),
    norm('attn_k_norm', config.headDimK),
  ],

  sharedWeights: () => [],

  buildLayer(layer: LayerBuilder, x: Tensor): Tensor {
    const { heads, kvHeads, attentionScale } = layer.config
    const a = layer.norm(x, 'attn_norm') // [width, rows]
    const qHeads = layer.norm(layer.splitHeads(layer.linear(a, 'attn_q'), heads), 'attn_q_norm')
    const kHeads = layer.norm(layer.splitHeads(layer.linear(a, 'attn_k'), kvHeads), 'attn_k_norm')
    const q = layer.rope(qHeads, ROPE_HALVES) // [headDim, heads, rows]
    const k = layer.rope(kHeads, ROPE_HALVES) // [headDim, kvHeads, rows]
    const v = layer.splitHeads(layer.linear(a, 'attn_v'), kvHeads) // [headDim, kvHeads, rows]
    const attended = layer.attention({ q, k, v }, attentionScale) // [heads * headDim, rows]
    const h = layer.add(layer.wanted(layer.linear(attended, 'attn_output')), layer.wanted(x)) // [width, outputs]

    const f = layer.norm(h, 'ffn_norm') // [width, outputs]
    const inner = layer.swiglu(layer.linear(f, 'ffn_gate'), layer.linear(f, 'ffn_up')) // [feedForward, outputs]
    return layer.add(layer.linear(inner, 'ffn_down'), h) // [width, outputs]
  },
}
