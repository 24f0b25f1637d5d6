/**
 * Keys and values of past positions, f16, for several generations at once.
 *
 * Per layer two tensors `[kvWidth, slots * slotRows]`: slot s owns rows `[s * slotRows, (s + 1) * slotRows)`. A slot is
 * zero before its first use and after its release. That is no luxury: attention reads whole blocks of 256 rows and
 * masks what lies behind the last position, but 0 * NaN is NaN, so what one generation left would poison the next.
 */
import { type LayerRange, layersIn } from '#base'
import type { ModelConfig } from '#formats'
import { EngineError } from './errors.ts'
import { type Buffer, type Context, F16, type Tensor } from './ggml/binding.ts'
import type { ComputeDevice } from './ggml/runtime.ts'

/** Attention reads rows in blocks of this many, as llama.cpp does; block counts are part of equal results. */
const KV_BLOCK_ROWS = 256

export type KvShape = {
  readonly layers: LayerRange
  readonly slots: number
  /** Rows of one slot, a multiple of `KV_BLOCK_ROWS`. */
  readonly slotRows: number
  /** Numbers of one row: key-value heads times head size. */
  readonly kvWidth: number
}

export function kvShape(
  config: ModelConfig,
  request: { readonly layers: LayerRange; readonly slots: number; readonly contextMax: number },
): KvShape {
  return {
    layers: request.layers,
    slots: request.slots,
    slotRows: roundUpRows(request.contextMax),
    kvWidth: config.kvHeads * config.headDimK,
  }
}

/** Bytes of all keys and values. */
export function kvBytes(shape: KvShape): number {
  return layersIn(shape.layers) * 2 * shape.slots * shape.slotRows * shape.kvWidth * F16_BYTES
}

export function roundUpRows(rows: number): number {
  return Math.ceil(rows / KV_BLOCK_ROWS) * KV_BLOCK_ROWS
}

const F16_BYTES = 2

export class KvCache {
  readonly shape: KvShape
  readonly #device: ComputeDevice
  readonly #context: Context
  readonly #buffer: Buffer
  readonly #keys: Tensor[] = []
  readonly #values: Tensor[] = []
  /** Rows per slot that may hold something: what a release has to zero. */
  readonly #used: number[]

  constructor(device: ComputeDevice, shape: KvShape) {
    const { ggml } = device
    this.#device = device
    this.shape = shape
    this.#used = Array.from({ length: shape.slots }, () => 0)
    this.#context = ggml.newContext(2 * layersIn(shape.layers) * ggml.tensorOverhead())
    const rows = shape.slots * shape.slotRows
    for (let layer = shape.layers.first; layer < shape.layers.last; layer++) {
      this.#keys.push(ggml.newTensor2d(this.#context, F16, shape.kvWidth, rows))
      this.#values.push(ggml.newTensor2d(this.#context, F16, shape.kvWidth, rows))
    }
    const buffer = ggml.allocateTensors(this.#context, device.defaultType)
    if (buffer === null) {
      ggml.freeContext(this.#context)
      const neededBytes = kvBytes(shape)
      throw new EngineError(
        { code: 'ENGINE_OUT_OF_MEMORY', neededBytes, freeBytes: device.freeBytes() },
        `${neededBytes} bytes of keys and values could not be allocated on ${device.text}`,
      )
    }
    this.#buffer = buffer
    ggml.clearBuffer(buffer, 0)
  }

  /** Keys of all slots of a layer, [kvWidth, slots * slotRows]. */
  keys(layer: number): Tensor {
    return at(this.#keys, layer - this.shape.layers.first)
  }

  /** Values of all slots of a layer, [kvWidth, slots * slotRows]. */
  values(layer: number): Tensor {
    return at(this.#values, layer - this.shape.layers.first)
  }

  /** Notes that rows below `end` of the slot are about to be written. */
  markUsed(slot: number, end: number): void {
    this.#used[slot] = Math.max(this.#used[slot] ?? 0, end)
  }

  /** Zeroes what the slot holds. */
  release(slot: number): void {
    const { ggml } = this.#device
    const rowBytes = this.shape.kvWidth * F16_BYTES
    const size = (this.#used[slot] ?? 0) * rowBytes
    if (size === 0) return
    const offset = slot * this.shape.slotRows * rowBytes
    for (const tensor of [...this.#keys, ...this.#values]) ggml.fillTensor(tensor, 0, offset, size)
    this.#used[slot] = 0
  }

  free(): void {
    this.#device.ggml.freeBuffer(this.#buffer)
    this.#device.ggml.freeContext(this.#context)
  }
}

function at(tensors: readonly Tensor[], index: number): Tensor {
  const tensor = tensors[index]
  if (tensor === undefined) throw new TypeError(`no keys and values for the ${index}th loaded layer`)
  return tensor
}
