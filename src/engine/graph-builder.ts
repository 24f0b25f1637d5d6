/**
 * The vocabulary in which architectures are written: norms, products, heads, rotary positions, attention over the KV
 * cache. Each method adds operations to a graph in the order and form of llama.cpp's graphs, because rounding follows
 * from both.
 *
 * Shapes are ggml's, fastest dimension first; `rows` is the number of positions in the step.
 */
import type { LayerRange } from '#base'
import { isSlidingLayer, type ModelConfig } from '#formats'
import { type Context, type Ggml, type Graph, PRECISION_F32, type Tensor } from './ggml/binding.ts'
import type { KvCache } from './kv-cache.ts'
import type { Weights } from './weights.ts'

/** How pairs of a head's numbers are rotated: neighbours, or the two halves. */
export const ROPE_NEIGHBOURS = 0
export const ROPE_HALVES = 2

/** What a graph is built for; everything else about a step is an input. */
export type GraphShape = {
  readonly layers: LayerRange
  readonly slot: number
  /** Rows that go in. */
  readonly rows: number
  /** Rows that come out: the last ones. 0: only the KV cache is filled. */
  readonly outputs: number
  /** KV rows that attention reads, a multiple of 256. */
  readonly kvRows: number
}

/** Tensors that are filled before each compute. */
export type GraphInputs = {
  /** f32 [width, rows] */
  readonly x: Tensor
  /** i32 [rows] */
  readonly positions: Tensor
  /** i64 [rows]: rows of the KV tensors to write */
  readonly kvIndices: Tensor
  /** f16 [kvRows, rows]: 0 where a row may look, -infinity where not */
  readonly mask: Tensor
  /** The same for layers with a sliding window. */
  readonly slidingMask?: Tensor
  /** i32 [outputs]: which rows come out; only where the model's last layer drops some. */
  readonly wanted?: Tensor
}

export type BuilderParts = {
  readonly ggml: Ggml
  readonly context: Context
  readonly graph: Graph
  readonly config: ModelConfig
  readonly weights: Weights
  readonly cache: KvCache
  readonly shape: GraphShape
  readonly inputs: GraphInputs
}

/** Builds one layer. */
export class LayerBuilder {
  readonly config: ModelConfig
  readonly layer: number
  /** Whether this layer sees a sliding window only. */
  readonly isSliding: boolean
  readonly #parts: BuilderParts
  readonly #prefix: string

  constructor(parts: BuilderParts, layer: number) {
    this.config = parts.config
    this.layer = layer
    this.isSliding = isSlidingLayer(parts.config, layer)
    this.#parts = parts
    this.#prefix = `blk.${layer}.`
  }

  /** x / rms(x) * weight, over the first dimension. */
  norm(x: Tensor, name: string): Tensor {
    const { ggml, context } = this.#parts
    return ggml.mul(context, ggml.rmsNorm(context, x, this.config.normEpsilon), this.#weight(`${name}.weight`))
  }

  /** x [in, rows] -> [out, rows], with the bias where the architecture has one. */
  linear(x: Tensor, name: string): Tensor {
    const { ggml, context, weights } = this.#parts
    const product = ggml.mulMat(context, this.#weight(`${name}.weight`), x)
    const bias = weights.find(`${this.#prefix}${name}.bias`)
    return bias === undefined ? product : ggml.add(context, product, bias)
  }

  /** [heads * headDim, rows] -> [headDim, heads, rows] */
  splitHeads(x: Tensor, heads: number): Tensor {
    const { ggml, context, shape } = this.#parts
    return ggml.reshape3d(context, x, this.config.headDimK, heads, shape.rows)
  }

  /** Rotates each head of [headDim, heads, rows] by its row's position. */
  rope(x: Tensor, mode: typeof ROPE_NEIGHBOURS | typeof ROPE_HALVES): Tensor {
    const { ggml, context, inputs, weights } = this.#parts
    const { ropeScaling, slidingWindow, ropeDims, ropeBase } = this.config
    const window = this.isSliding ? slidingWindow : undefined
    const factors = weights.find('rope_freqs.weight') ?? null
    return ggml.rope(
      context,
      x,
      inputs.positions,
      factors,
      ropeDims,
      mode,
      ropeScaling.origContext,
      window?.ropeBase ?? ropeBase,
      window?.ropeFreqScale ?? ropeScaling.freqScale,
      ropeScaling.extFactor,
      ropeScaling.attnFactor,
      ropeScaling.betaFast,
      ropeScaling.betaSlow,
    )
  }

  /**
   * Writes k and v into the slot, then attends over the slot's rows.
   * @param heads q [headDim, heads, rows]; k and v [headDim, kvHeads, rows]
   * @param scale factor on query-key products
   * @returns [heads * headDim, rows]
   */
  attention(heads: { readonly q: Tensor; readonly k: Tensor; readonly v: Tensor }, scale: number): Tensor {
    const { ggml, context, graph, cache, shape, inputs } = this.#parts
    const { q, k, v } = heads
    const keys = cache.keys(this.layer)
    const values = cache.values(this.layer)
    if (!this.#isFillOnly) ggml.expand(graph, q)
    ggml.expand(graph, v)
    ggml.expand(graph, k)
    ggml.expand(graph, ggml.setRows(context, keys, this.#flatHeads(k), inputs.kvIndices))
    ggml.expand(graph, ggml.setRows(context, values, this.#flatHeads(v), inputs.kvIndices))
    const mask = this.isSliding ? (inputs.slidingMask ?? inputs.mask) : inputs.mask
    const attended = ggml.flashAttention(
      context,
      ggml.permute(context, q, 0, 2, 1, 3), // [headDim, rows, heads]
      this.#slotRows(keys),
      this.#slotRows(values),
      mask,
      scale,
      0,
      0,
    ) // [headDim, heads, rows]
    ggml.setFlashAttentionPrecision(attended, PRECISION_F32)
    const flat = ggml.reshape2d(context, attended, this.config.headDimV * this.config.heads, shape.rows)
    if (!this.#isFillOnly) ggml.expand(graph, flat)
    return flat
  }

  /** Keeps the rows that come out, in the model's last layer; elsewhere every row goes on. */
  wanted(x: Tensor): Tensor {
    const { ggml, context, inputs } = this.#parts
    return inputs.wanted === undefined || !this.#isLastOfModel ? x : ggml.getRows(context, x, inputs.wanted)
  }

  add(a: Tensor, b: Tensor): Tensor {
    return this.#parts.ggml.add(this.#parts.context, a, b)
  }

  scale(x: Tensor, factor: number): Tensor {
    return this.#parts.ggml.scale(this.#parts.context, x, factor)
  }

  /** silu(gate) * up, number by number */
  swiglu(gate: Tensor, up: Tensor): Tensor {
    return this.#parts.ggml.swiglu(this.#parts.context, gate, up)
  }

  /** gelu(gate) * up, number by number */
  geglu(gate: Tensor, up: Tensor): Tensor {
    return this.#parts.ggml.geglu(this.#parts.context, gate, up)
  }

  get #isLastOfModel(): boolean {
    return this.layer === this.config.layerCount - 1
  }

  /** In the last layer of a step without outputs only keys and values matter. What is not expanded costs nothing. */
  get #isFillOnly(): boolean {
    const { shape } = this.#parts
    return shape.outputs === 0 && this.layer === shape.layers.last - 1
  }

  #weight(name: string): Tensor {
    return this.#parts.weights.get(this.#prefix + name)
  }

  /** [headDim, kvHeads, rows] -> [kvWidth, rows] */
  #flatHeads(x: Tensor): Tensor {
    const { ggml, context, cache, shape } = this.#parts
    return ggml.reshape2d(context, x, cache.shape.kvWidth, shape.rows)
  }

  /** The slot's rows of [kvWidth, all rows] as [headDim, kvRows, kvHeads], without a copy. */
  #slotRows(tensor: Tensor): Tensor {
    const { ggml, context, cache, shape } = this.#parts
    const { headDimK, kvHeads } = this.config
    const numberBytes = 2
    const rowBytes = cache.shape.kvWidth * numberBytes
    const offset = shape.slot * cache.shape.slotRows * rowBytes
    return ggml.view3d(context, tensor, headDimK, shape.kvRows, kvHeads, rowBytes, headDimK * numberBytes, offset)
  }
}
