/** Qwen 2 and 2.5 (arXiv 2407.10671, 2412.15115): Llama's layer with biases on queries, keys and values, and rotated halves. */
import type { Tensor } from '../ggml/binding.ts'
import { type LayerBuilder, ROPE_HALVES } from '../graph-builder.ts'
import { type ArchitectureGraph, attentionAndFeedForward, bias } from './architecture.ts'

export const qwen2: ArchitectureGraph = {
  layerWeights: config => [
    ...attentionAndFeedForward(config),
    bias('attn_q', config.heads * config.headDimK),
    bias('attn_k', config.kvHeads * config.headDimK),
    bias('attn_v', config.kvHeads * config.headDimV),
  ],

  sharedWeights: () => [],

  buildLayer(layer: LayerBuilder, x: Tensor): Tensor {
    const { heads, kvHeads, attentionScale } = layer.config
    const a = layer.norm(x, 'attn_norm') // [width, rows]
    const q = layer.rope(layer.splitHeads(layer.linear(a, 'attn_q'), heads), ROPE_HALVES) // [headDim, heads, rows]
    const k = layer.rope(layer.splitHeads(layer.linear(a, 'attn_k'), kvHeads), ROPE_HALVES) // [headDim, kvHeads, rows]
    const v = layer.splitHeads(layer.linear(a, 'attn_v'), kvHeads) // [headDim, kvHeads, rows]
    const attended = layer.attention({ q, k, v }, attentionScale) // [heads * headDim, rows]
    const h = layer.add(layer.wanted(layer.linear(attended, 'attn_output')), layer.wanted(x)) // [width, outputs]

    const f = layer.norm(h, 'ffn_norm') // [width, outputs]
    const inner = layer.swiglu(layer.linear(f, 'ffn_gate'), layer.linear(f, 'ffn_up')) // [feedForward, outputs]
    return layer.add(layer.linear(inner, 'ffn_down'), h) // [width, outputs]
  },
}
