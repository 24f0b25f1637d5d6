/** One graph through a range of layers, with its inputs and output: built for a shape, filled and read for each step. */
import { type LayerRange, layersIn } from '#base'
import { isSlidingLayer, type ModelConfig } from '#formats'
import { ARCHITECTURE_GRAPHS } from './architectures/registry.ts'
import { type ComputeMemory, TensorView } from './compute-memory.ts'
import { type Context, F16, F32, type Graph, I32, I64, type Tensor } from './ggml/binding.ts'
import type { ComputeDevice } from './ggml/runtime.ts'
import { type GraphInputs, type GraphShape, LayerBuilder } from './graph-builder.ts'
import type { KvCache } from './kv-cache.ts'
import type { Weights } from './weights.ts'

/** Operations of one layer: Gemma 3 has 43, and biases add 7. */
const LAYER_NODES_MAX = 64
const EXTRA_NODES_MAX = 64

/** -infinity in f16. */
const MASKED = 0xfc00

/** What every graph of a session is built from. */
export type StageParts = {
  readonly device: ComputeDevice
  readonly config: ModelConfig
  readonly weights: Weights
  readonly cache: KvCache
  readonly memory: ComputeMemory
}

/** Room for the largest graph over these layers. */
export function graphNodesMax(layers: LayerRange): number {
  return LAYER_NODES_MAX * layersIn(layers) + EXTRA_NODES_MAX
}

/** A graph that has its place in memory. */
export class StageGraph {
  readonly shape: GraphShape
  readonly #parts: StageParts
  readonly #context: Context
  readonly #graph: Graph
  readonly #inputs: GraphInputs
  readonly #output: Tensor | undefined
  #views: StageViews | undefined

  /** Describes the graph; nothing is allocated or computed yet. */
  constructor(parts: StageParts, shape: GraphShape) {
    const { context, graph } = parts.memory.takeGraph()
    this.shape = shape
    this.#parts = parts
    this.#context = context
    this.#graph = graph
    this.#inputs = describeInputs(parts, shape, this.#context)
    this.#output = this.#build()
  }

  /** @returns whether the shared buffer moved, which makes every other allocated graph invalid */
  allocate(): { readonly hasMoved: boolean } {
    const result = this.#parts.memory.allocate(this.#graph)
    const { device } = this.#parts
    const { x, positions, kvIndices, mask, slidingMask, wanted } = this.#inputs
    const view = (tensor: Tensor): TensorView => new TensorView(device, tensor)
    // An input that no operation reads has no place: the mask, where a step only fills the cache of one layer.
    const optional = (tensor: Tensor | undefined): TensorView | undefined =>
      tensor === undefined || device.ggml.dataOf(tensor) === null ? undefined : view(tensor)
    this.#views = {
      x: view(x),
      positions: view(positions),
      kvIndices: view(kvIndices),
      mask: optional(mask),
      slidingMask: optional(slidingMask),
      wanted: optional(wanted),
      output: this.#output === undefined ? undefined : view(this.#output),
    }
    return result
  }

  /** f32 [width, rows], to be filled before `run`. */
  get rows(): Uint8Array {
    return this.#allocated().x.bytes
  }

  /** Computes. @param position rows that are valid in the slot before this step */
  run(position: number): void {
    const views = this.#allocated()
    this.#fill(views, position)
    this.#parts.memory.compute(this.#graph)
    views.output?.download()
  }

  /** f32 [width, outputs]: valid until the next compute of any graph. */
  get outputs(): Uint8Array {
    const { width } = this.#parts.config
    const bytes = this.#allocated().output?.bytes ?? new Uint8Array(0)
    return bytes.subarray(bytes.byteLength - this.shape.outputs * width * 4)
  }

  /** The first operation that the device cannot do, by ggml's name for it. */
  findUnsupported(): string | undefined {
    const { ggml, device } = this.#parts.device
    for (let index = 0; index < ggml.nodeCount(this.#graph); index++) {
      const node = ggml.node(this.#graph, index)
      if (!ggml.supports(device, node)) return ggml.describeOperation(node)
    }
    return undefined
  }

  free(): void {
    this.#views = undefined
    this.#parts.memory.giveBack(this.#context)
  }

  /** Adds the layers. @returns f32 [width, outputs or rows] */
  #build(): Tensor | undefined {
    const { shape } = this
    const { config, weights, cache } = this.#parts
    const { ggml } = this.#parts.device
    const parts = {
      ggml,
      context: this.#context,
      graph: this.#graph,
      config,
      weights,
      cache,
      shape,
      inputs: this.#inputs,
    }
    const architecture = ARCHITECTURE_GRAPHS[config.architecture]
    let x = this.#inputs.x
    for (let layer = shape.layers.first; layer < shape.layers.last; layer++) {
      x = architecture.buildLayer(new LayerBuilder(parts, layer), x)
    }
    if (shape.outputs === 0) return undefined
    ggml.setOutput(x)
    ggml.expand(this.#graph, x)
    return x
  }

  #fill(views: StageViews, position: number): void {
    const { shape } = this
    const { cache, config } = this.#parts
    const positions = new Int32Array(views.positions.bytes.buffer, 0, shape.rows)
    const kvIndices = new BigInt64Array(views.kvIndices.bytes.buffer, 0, shape.rows)
    const slotStart = shape.slot * cache.shape.slotRows
    for (let row = 0; row < shape.rows; row++) {
      positions[row] = position + row
      kvIndices[row] = BigInt(slotStart + position + row)
    }
    if (views.mask !== undefined) fillMask(views.mask, { shape, position, window: Infinity })
    if (views.slidingMask !== undefined) {
      fillMask(views.slidingMask, { shape, position, window: config.slidingWindow?.size ?? Infinity })
    }
    if (views.wanted !== undefined) {
      const wanted = new Int32Array(views.wanted.bytes.buffer, 0, shape.outputs)
      for (let i = 0; i < shape.outputs; i++) wanted[i] = shape.rows - shape.outputs + i
    }
    for (const view of [views.x, views.positions, views.kvIndices, views.mask, views.slidingMask, views.wanted]) {
      view?.upload()
    }
  }

  #allocated(): StageViews {
    if (this.#views === undefined) throw new TypeError('the graph is not allocated')
    return this.#views
  }
}

type StageViews = {
  readonly x: TensorView
  readonly positions: TensorView
  readonly kvIndices: TensorView
  readonly mask: TensorView | undefined
  readonly slidingMask: TensorView | undefined
  readonly wanted: TensorView | undefined
  readonly output: TensorView | undefined
}

function describeInputs({ device, config }: StageParts, shape: GraphShape, context: Context): GraphInputs {
  const { ggml } = device
  const input = (tensor: Tensor): Tensor => {
    ggml.setInput(tensor)
    return tensor
  }
  const newMask = (): Tensor => input(ggml.newTensor2d(context, F16, shape.kvRows, shape.rows))
  const hasSliding = hasLayer(shape, layer => isSlidingLayer(config, layer))
  const dropsRows = shape.layers.last === config.layerCount && shape.outputs > 0 && shape.outputs < shape.rows
  return {
    x: input(ggml.newTensor2d(context, F32, config.width, shape.rows)),
    positions: input(ggml.newTensor1d(context, I32, shape.rows)),
    kvIndices: input(ggml.newTensor1d(context, I64, shape.rows)),
    mask: newMask(),
    ...(hasSliding ? { slidingMask: newMask() } : {}),
    ...(dropsRows ? { wanted: input(ggml.newTensor1d(context, I32, shape.outputs)) } : {}),
  }
}

function hasLayer(shape: GraphShape, isWanted: (layer: number) => boolean): boolean {
  for (let layer = shape.layers.first; layer < shape.layers.last; layer++) if (isWanted(layer)) return true
  return false
}

/** A row at position p sees the slot's rows (p - window, p]. */
function fillMask(
  view: TensorView,
  { shape, position, window }: { readonly shape: GraphShape; readonly position: number; readonly window: number },
): void {
  const mask = new Uint16Array(view.bytes.buffer, view.bytes.byteOffset, shape.rows * shape.kvRows)
  mask.fill(MASKED)
  for (let row = 0; row < shape.rows; row++) {
    const end = position + row + 1
    const start = row * shape.kvRows
    mask.fill(0, start + Math.max(0, end - window), start + end)
  }
}
