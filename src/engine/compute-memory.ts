/** Memory for graphs and their intermediate results, shared by all graphs of a session; views of what goes in and out. */
import { EngineError } from './errors.ts'
import { type Allocator, type Context, type Graph, type Tensor, memoryOf } from './ggml/binding.ts'
import type { ComputeDevice } from './ggml/runtime.ts'

/**
 * One buffer in which every graph of a session lives, one at a time: nothing in it outlives a compute. Graphs keep
 * their places in it, so an allocated graph can be computed again without being allocated again.
 */
export class ComputeMemory {
  readonly #device: ComputeDevice
  readonly #allocator: Allocator
  readonly #nodesMax: number
  /** Arenas for descriptions that wait for the next graph. */
  readonly #idle: Context[] = []

  /** @param nodesMax operations and inputs of the largest graph */
  constructor(device: ComputeDevice, nodesMax: number) {
    this.#device = device
    this.#allocator = device.ggml.newAllocator(device.defaultType)
    this.#nodesMax = nodesMax
  }

  /** Lends an arena with an empty graph in it, for `giveBack` to take. */
  takeGraph(): { readonly context: Context; readonly graph: Graph } {
    const { ggml } = this.#device
    const size = this.#nodesMax * ggml.tensorOverhead() + ggml.graphOverhead(this.#nodesMax, false)
    // Arenas are kept: glibc does not reuse aligned blocks of this size well, so that a process which frees and
    // allocates one for each step grows by 100 KB a step.
    const context = this.#idle.pop() ?? ggml.newContext(size)
    return { context, graph: ggml.newGraph(context, this.#nodesMax, false) }
  }

  /** Takes an arena back; the graph in it is gone. */
  giveBack(context: Context): void {
    this.#device.ggml.resetContext(context)
    this.#idle.push(context)
  }

  /**
   * Gives every tensor of the graph its place.
   * @returns whether the buffer moved: graphs that were allocated before are then invalid
   */
  allocate(graph: Graph): { readonly hasMoved: boolean } {
    const { ggml } = this.#device
    const before = ggml.allocatedBytes(this.#allocator, 0)
    if (!ggml.allocateGraph(this.#allocator, graph)) {
      throw new EngineError(
        { code: 'ENGINE_OUT_OF_MEMORY', neededBytes: before, freeBytes: this.#device.freeBytes() },
        `the memory for intermediate results could not be allocated on ${this.#device.text}`,
      )
    }
    return { hasMoved: ggml.allocatedBytes(this.#allocator, 0) !== before }
  }

  /** Computes an allocated graph on the calling thread. @throws EngineError ENGINE_COMPUTE_FAILED */
  compute(graph: Graph): void {
    const { ggml, backend, text } = this.#device
    const status = ggml.compute(backend, graph)
    if (status !== 0) {
      throw new EngineError(
        { code: 'ENGINE_COMPUTE_FAILED', status },
        `${text} failed to compute (ggml status ${status})`,
      )
    }
  }

  /** Every graph was given back before. */
  free(): void {
    for (const context of this.#idle.splice(0)) this.#device.ggml.freeContext(context)
    this.#device.ggml.freeAllocator(this.#allocator)
  }
}

/**
 * A tensor's contents as JavaScript sees them: on the CPU the memory itself, elsewhere a copy that `upload` and
 * `download` move. Valid as long as the tensor's graph is.
 */
export class TensorView {
  readonly bytes: Uint8Array
  readonly #device: ComputeDevice
  readonly #tensor: Tensor

  /** @param tensor has its place in memory already */
  constructor(device: ComputeDevice, tensor: Tensor) {
    const { ggml, isCpu } = device
    const size = ggml.byteSize(tensor)
    this.#device = device
    this.#tensor = tensor
    this.bytes = isCpu ? memoryOf(ggml, tensor) : new Uint8Array(size)
  }

  upload(): void {
    const { ggml, isCpu } = this.#device
    if (!isCpu) ggml.writeTensor(this.#tensor, this.bytes, 0, this.bytes.byteLength)
  }

  download(): void {
    const { ggml, isCpu } = this.#device
    if (!isCpu) ggml.readTensor(this.#tensor, this.bytes, 0, this.bytes.byteLength)
  }
}
