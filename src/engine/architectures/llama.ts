/**
 * Llama (1 to 3.x) and Mistral, whose files say "llama" too: "LLaMA: Open and Efficient Foundation Language Models"
 * (arXiv 2302.13971), with grouped-query attention (2305.13245) and Llama 3's frequency factors on rotary positions.
 */
import type { Tensor } from '../ggml/binding.ts'
import { type LayerBuilder, ROPE_NEIGHBOURS } from '../graph-builder.ts'
import { type ArchitectureGraph, attentionAndFeedForward } from './architecture.ts'

export const llama: ArchitectureGraph = {
  layerWeights: attentionAndFeedForward,

  sharedWeights: config => [{ name: 'rope_freqs.weight', dims: [config.ropeDims / 2], use: 'rope', isOptional: true }],

  buildLayer(layer: LayerBuilder, x: Tensor): Tensor {
    const { heads, kvHeads, attentionScale } = layer.config
    const a = layer.norm(x, 'attn_norm') // [width, rows]
    const q = layer.rope(layer.splitHeads(layer.linear(a, 'attn_q'), heads), ROPE_NEIGHBOURS) // [headDim, heads, rows]
    const k = layer.rope(layer.splitHeads(layer.linear(a, 'attn_k'), kvHeads), ROPE_NEIGHBOURS) // [headDim, kvHeads, rows]
    const v = layer.splitHeads(layer.linear(a, 'attn_v'), kvHeads) // [headDim, kvHeads, rows]
    const attended = layer.attention({ q, k, v }, attentionScale) // [heads * headDim, rows]
    const h = layer.add(layer.wanted(layer.linear(attended, 'attn_output')), layer.wanted(x)) // [width, outputs]

    const f = layer.norm(h, 'ffn_norm') // [width, outputs]
    const inner = layer.swiglu(layer.linear(f, 'ffn_gate'), layer.linear(f, 'ffn_up')) // [feedForward, outputs]
    return layer.add(layer.linear(inner, 'ffn_down'), h) // [width, outputs]
  },
}
