/**
 * Loads weights from a GGUF file into the buffers where they are fastest, as llama.cpp places them: results depend on
 * the place, so the choice is the same, tensor by tensor (its `select_weight_buft`).
 */
import type { FileHandle } from 'node:fs/promises'
import type { GgufFile, GgufTensor } from '#formats'
import { EngineError } from './errors.ts'
import {
  type BufferType,
  type Buffer,
  type Context,
  F32,
  I32,
  memoryOf,
  type Tensor,
  USAGE_WEIGHTS,
} from './ggml/binding.ts'
import type { ComputeDevice } from './ggml/runtime.ts'

/** The operation that a weight takes part in: a buffer type is fit for some and not for others. */
export type WeightUse = 'mulMat' | 'mul' | 'add' | 'getRows' | 'rope'

/** A tensor that a graph needs. */
export type WeightSpec = {
  /** Name in the file. */
  readonly name: string
  /** Shape, fastest dimension first. */
  readonly dims: readonly number[]
  readonly use: WeightUse
  /** What some models have and others do not: Llama 3's frequency factors. */
  readonly isOptional?: boolean
}

export type LoadWeightsOptions = {
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined
}

/** Types that matrices may have. Others (integers, f64, kernels' inner types) would end the process inside ggml. */
const MATRIX_TYPE = /^(F32|F16|BF16|Q[1-8]_[01K]|IQ\w+|TQ\w+|MXFP4|NVFP4)$/
const NOT_MATRIX_TYPE = /^Q8_[1K]$/

/** Rows of the product that llama.cpp asks devices about. */
const PROBE_ROWS = 512

/** Finds the specs' tensors and checks shapes and types, before any memory is spent. */
export function findWeights(gguf: GgufFile, specs: readonly WeightSpec[]): Map<WeightSpec, GgufTensor> {
  const found = new Map<WeightSpec, GgufTensor>()
  for (const spec of specs) {
    const tensor = gguf.tensorsByName.get(spec.name)
    if (tensor === undefined) {
      if (spec.isOptional === true) continue
      throw new EngineError(
        { code: 'ENGINE_TENSOR_MISSING', tensor: spec.name },
        `the model file has no tensor "${spec.name}", which its architecture needs`,
      )
    }
    checkShape(spec, tensor)
    checkType(spec, tensor)
    found.set(spec, tensor)
  }
  return found
}

function checkShape(spec: WeightSpec, tensor: GgufTensor): void {
  const isEqual = [0, 1, 2, 3].every(axis => (spec.dims[axis] ?? 1) === (tensor.dims[axis] ?? 1))
  if (isEqual) return
  throw new EngineError(
    { code: 'ENGINE_TENSOR_SHAPE', tensor: spec.name, expected: spec.dims, actual: tensor.dims },
    `tensor "${spec.name}" has the shape ${tensor.dims.join(' x ')}; the model's metadata asks for ${spec.dims.join(' x ')}`,
  )
}

function checkType(spec: WeightSpec, tensor: GgufTensor): void {
  const type = tensor.type.name
  const isMatrix = spec.use === 'mulMat' || spec.use === 'getRows'
  if (isMatrix ? MATRIX_TYPE.test(type) && !NOT_MATRIX_TYPE.test(type) : type === 'F32') return
  throw new EngineError(
    { code: 'ENGINE_TENSOR_TYPE', tensor: spec.name, type },
    `tensor "${spec.name}" has the type ${type}, which cannot be used ${isMatrix ? 'as a matrix' : 'here (F32 is needed)'}`,
  )
}

/** Weights in memory. */
export class Weights {
  readonly #device: ComputeDevice
  readonly #tensors = new Map<string, Tensor>()
  readonly #contexts: Context[] = []
  readonly #buffers: Buffer[] = []
  /** Bytes in the file; repacked forms take about the same. */
  readonly byteSize: number
  /** Where matrices lie. */
  readonly bufferTypes: ReadonlySet<BufferType>

  private constructor(device: ComputeDevice, byteSize: number, bufferTypes: ReadonlySet<BufferType>) {
    this.#device = device
    this.byteSize = byteSize
    this.bufferTypes = bufferTypes
  }

  /**
   * Allocates and reads. Peak memory beyond the weights is the largest repacked tensor.
   * @param found what `findWeights` returned for this file
   */
  static async load(
    device: ComputeDevice,
    source: { readonly file: FileHandle; readonly found: ReadonlyMap<WeightSpec, GgufTensor> },
    options: LoadWeightsOptions = {},
  ): Promise<Weights> {
    const places = new Map([...source.found].map(([spec, tensor]) => [spec, placeWeight(device, spec, tensor)]))
    const byteSize = [...source.found.values()].reduce((sum, tensor) => sum + tensor.size, 0)
    const matrices = [...places].filter(([spec]) => spec.use === 'mulMat' || spec.use === 'getRows')
    const weights = new Weights(device, byteSize, new Set(matrices.map(([, type]) => type)))
    try {
      for (const type of new Set(places.values())) {
        weights.#allocate(
          type,
          [...source.found].filter(([spec]) => places.get(spec) === type),
        )
      }
      await weights.#read(source, places, options)
      return weights
    } catch (error) {
      weights.free()
      throw error
    }
  }

  /** @throws EngineError ENGINE_TENSOR_MISSING for a name that was not loaded */
  get(name: string): Tensor {
    const tensor = this.#tensors.get(name)
    if (tensor === undefined) {
      throw new EngineError({ code: 'ENGINE_TENSOR_MISSING', tensor: name }, `tensor "${name}" is not loaded`)
    }
    return tensor
  }

  /** Undefined for an optional tensor that the file does not have. */
  find(name: string): Tensor | undefined {
    return this.#tensors.get(name)
  }

  free(): void {
    const { ggml } = this.#device
    for (const buffer of this.#buffers.splice(0)) ggml.freeBuffer(buffer)
    for (const context of this.#contexts.splice(0)) ggml.freeContext(context)
    this.#tensors.clear()
  }

  #allocate(type: BufferType, entries: readonly (readonly [WeightSpec, GgufTensor])[]): void {
    const { ggml } = this.#device
    const context = ggml.newContext(entries.length * ggml.tensorOverhead())
    this.#contexts.push(context)
    for (const [spec, tensor] of entries) this.#tensors.set(spec.name, describe(this.#device, context, tensor))
    const buffer = ggml.allocateTensors(context, type)
    if (buffer === null) {
      const neededBytes = entries.reduce((sum, [, tensor]) => sum + tensor.size, 0)
      throw new EngineError(
        { code: 'ENGINE_OUT_OF_MEMORY', neededBytes, freeBytes: this.#device.freeBytes() },
        `${neededBytes} bytes of weights could not be allocated on ${this.#device.text}`,
      )
    }
    ggml.setBufferUsage(buffer, USAGE_WEIGHTS)
    this.#buffers.push(buffer)
  }

  async #read(
    source: { readonly file: FileHandle; readonly found: ReadonlyMap<WeightSpec, GgufTensor> },
    places: ReadonlyMap<WeightSpec, BufferType>,
    { onProgress }: LoadWeightsOptions,
  ): Promise<void> {
    const { ggml } = this.#device
    const isDirect = (spec: WeightSpec): boolean => {
      const type = places.get(spec)
      return this.#device.isCpu && type !== undefined && ggml.bufferTypeIsHost(type)
    }
    const staged = [...source.found].filter(([spec]) => !isDirect(spec)).map(([, tensor]) => tensor.size)
    const staging = new Uint8Array(Math.max(0, ...staged))
    let doneBytes = 0
    for (const [spec, tensor] of source.found) {
      const target = this.get(spec.name)
      // Memory of the host takes the file's bytes where they stay; repacking and GPUs take a whole tensor in one call.
      const bytes = isDirect(spec) ? memoryOf(ggml, target) : staging.subarray(0, tensor.size)
      await readFully(source.file, bytes, tensor)
      if (!isDirect(spec)) ggml.writeTensor(target, bytes, 0, tensor.size)
      doneBytes += tensor.size
      onProgress?.(doneBytes, this.byteSize)
    }
  }
}

/** The first buffer type of the device's list that can do the weight's operation. */
function placeWeight(device: ComputeDevice, spec: WeightSpec, tensor: GgufTensor): BufferType {
  for (const type of device.weightTypes) {
    if (canCompute(device, { spec, tensor, type })) return type
  }
  throw new EngineError(
    { code: 'ENGINE_TENSOR_TYPE', tensor: spec.name, type: tensor.type.name },
    `${device.text} cannot compute with "${spec.name}" of type ${tensor.type.name}`,
  )
}

/** Asks the device about the operation, with the weight in an empty buffer of the type. */
function canCompute(
  device: ComputeDevice,
  { spec, tensor, type }: { readonly spec: WeightSpec; readonly tensor: GgufTensor; readonly type: BufferType },
): boolean {
  const { ggml } = device
  const buffer = ggml.allocateBuffer(type, 0)
  if (buffer === null) return false
  const context = ggml.newContext(8 * ggml.tensorOverhead())
  try {
    const weight = describe(device, context, tensor)
    ggml.pretendBuffer(weight, buffer)
    return ggml.supports(device.device, probe(device, context, { spec, weight, dims: tensor.dims }))
  } finally {
    ggml.freeContext(context)
    ggml.freeBuffer(buffer)
  }
}

function probe(
  { ggml }: ComputeDevice,
  context: Context,
  { spec, weight, dims }: { readonly spec: WeightSpec; readonly weight: Tensor; readonly dims: readonly number[] },
): Tensor {
  const [n0 = 1, n1 = 1] = dims
  switch (spec.use) {
    case 'mulMat':
      return ggml.mulMat(context, weight, ggml.newTensor2d(context, F32, n0, PROBE_ROWS))
    case 'getRows':
      return ggml.getRows(context, weight, ggml.newTensor1d(context, I32, PROBE_ROWS))
    case 'mul':
      return ggml.mul(context, ggml.newTensor2d(context, F32, n0, n1), weight)
    case 'add':
      return ggml.add(context, ggml.newTensor2d(context, F32, n0, n1), weight)
    case 'rope':
    default: {
      const heads = ggml.reshape3d(context, ggml.newTensor2d(context, F32, 2 * n0, PROBE_ROWS), 2 * n0, 1, PROBE_ROWS)
      const positions = ggml.newTensor1d(context, I32, PROBE_ROWS)
      return ggml.rope(context, heads, positions, weight, 2 * n0, 0, 0, 1, 1, 0, 1, 0, 0)
    }
  }
}

/** Every weight of the supported architectures is a vector or a matrix. */
function describe({ ggml }: ComputeDevice, context: Context, tensor: GgufTensor): Tensor {
  const [n0 = 1, n1] = tensor.dims
  return n1 === undefined
    ? ggml.newTensor1d(context, tensor.type.id, n0)
    : ggml.newTensor2d(context, tensor.type.id, n0, n1)
}

/** Bytes of one read: the kernel copies no more than 2 GiB at once, and Node's buffers may be larger. */
const READ_BYTES = 256 * 1024 * 1024

async function readFully(file: FileHandle, bytes: Uint8Array, tensor: GgufTensor): Promise<void> {
  let done = 0
  while (done < bytes.byteLength) {
    const length = Math.min(READ_BYTES, bytes.byteLength - done)
    const { bytesRead } = await file.read(bytes, done, length, tensor.offset + done)
    if (bytesRead === 0) {
      throw new EngineError(
        { code: 'ENGINE_BAD_MODEL', tensor: tensor.name },
        `the model file ended within tensor "${tensor.name}": it was changed while it was read`,
      )
    }
    done += bytesRead
  }
}
