/**
 * Gemma 3 (arXiv 2503.19786): norms before and after each half of a layer, GELU, queries and keys normed per head and
 * the queries scaled, five layers with a sliding window and rotary positions of their own for each that sees
 * everything. Embeddings are scaled on the edge. Files store norm weights with the paper's 1 added.
 */
import type { Tensor } from '../ggml/binding.ts'
import { type LayerBuilder, ROPE_HALVES } from '../graph-builder.ts'
import { type ArchitectureGraph, attentionAndFeedForward, norm } from './architecture.ts'

export const gemma3: ArchitectureGraph = {
  layerWeights: config => [
    ...attentionAndFeedForward(config),
    norm('attn_q_norm', config.headDimK),
    norm('attn_k_norm', config.headDimK),
    norm('post_attention_norm', config.width),
    norm('post_ffw_norm', config.width),
  ],

  sharedWeights: () => [],

  buildLayer(layer: LayerBuilder, x: Tensor): Tensor {
    const { heads, kvHeads, attentionScale } = layer.config
    const a = layer.norm(x, 'attn_norm') // [width, rows]
    const qHeads = layer.norm(layer.splitHeads(layer.linear(a, 'attn_q'), heads), 'attn_q_norm')
    const kHeads = layer.norm(layer.splitHeads(layer.linear(a, 'attn_k'), kvHeads), 'attn_k_norm')
    const q = layer.scale(layer.rope(qHeads, ROPE_HALVES), attentionScale) // [headDim, heads, rows]
    const k = layer.rope(kHeads, ROPE_HALVES) // [headDim, kvHeads, rows]
    const v = layer.splitHeads(layer.linear(a, 'attn_v'), kvHeads) // [headDim, kvHeads, rows]
    const attended = layer.wanted(layer.linear(layer.attention({ q, k, v }, 1), 'attn_output')) // [width, outputs]
    const h = layer.add(layer.norm(attended, 'post_attention_norm'), layer.wanted(x)) // [width, outputs]

    const f = layer.norm(h, 'ffn_norm') // [width, outputs]
    const inner = layer.geglu(layer.linear(f, 'ffn_gate'), layer.linear(f, 'ffn_up')) // [feedForward, outputs]
    return layer.add(layer.norm(layer.linear(inner, 'ffn_down'), 'post_ffw_norm'), h) // [width, outputs]
  },
}
