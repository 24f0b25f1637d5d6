/**
 * A range of a model's layers in this process: weights, KV slots and graphs. Computing is synchronous, on the calling
 * thread: spread over several threads of the host it is slower, and an engine has a process of its own anyway.
 */
import { containsLayers, formatBytes, formatLayers, type LayerRange, layersIn } from '#base'
import type { ModelConfig } from '#formats'
import { stageWeights } from './architectures/registry.ts'
import { ComputeMemory } from './compute-memory.ts'
import { EngineError } from './errors.ts'
import { type ComputeDevice, type GgmlRuntime, profileOf } from './ggml/runtime.ts'
import { GraphCache } from './graph-cache.ts'
import type { GraphShape } from './graph-builder.ts'
import { KvCache, kvBytes, kvShape, type KvShape, roundUpRows } from './kv-cache.ts'
import { CONTEXT_MAX, SLOTS_MAX, STEP_ROWS_MAX } from './limits.ts'
import { type ModelFile, withModelFile } from './model-file.ts'
import { refuseRows, type RowOrigin } from './row-check.ts'
import { graphNodesMax, StageGraph, type StageParts } from './stage-graph.ts'
import type { StageAudit, StageLoad, StageReport, StageStep } from './types.ts'
import { findWeights, Weights } from './weights.ts'

const INPUT: RowOrigin = {
  kind: 'hidden',
  side: 'input',
  what: 'the rows that came in',
  why: 'the stage before this one, or the file that it loaded, is broken',
}
const OUTPUT: RowOrigin = {
  kind: 'hidden',
  side: 'output',
  what: 'the computed rows',
  why: 'the model cannot go on from this input, or its weights are broken',
}

/** One-row steps after loading; the first ones warm caches up. */
const TRIAL_STEPS = 7

type Loaded = {
  readonly parts: StageParts
  readonly graphs: GraphCache
  readonly layers: LayerRange
}

export type StageSessionReport = Omit<StageReport, 'pid' | 'sandbox'>

type Progress = (doneBytes: number, totalBytes: number) => void

export type StageSessionOptions = {
  /** Told, before memory of the CPU is taken for a load, how many bytes it and all steps after it need. */
  readonly reserve?: (bytes: number) => void
}

export class StageSession {
  readonly #runtime: GgmlRuntime
  readonly #reserveBytes: (bytes: number) => void
  #loaded: Loaded | undefined

  constructor(runtime: GgmlRuntime, { reserve = () => undefined }: StageSessionOptions = {}) {
    this.#runtime = runtime
    this.#reserveBytes = reserve
  }

  /**
   * Loads the layers, in place of what was loaded before, and tries them once.
   * @throws EngineError; FormatError for a file that is no model or of an unknown architecture
   */
  async load(request: StageLoad, onProgress?: Progress): Promise<StageSessionReport> {
    this.free()
    checkRequest(request)
    return withModelFile(request.file, async model => {
      checkLayers(model.config, request.layers)
      const { cpu, gpu, mayFallBack } = this.#runtime
      if (gpu !== undefined) {
        try {
          return await this.#loadOn(gpu, { model, request, onProgress })
        } catch (error) {
          if (!mayFallBack || !(error instanceof EngineError) || !isDeviceFault(error)) throw error
          const report = await this.#loadOn(cpu, { model, request, onProgress })
          return { ...report, device: `${report.device}; not ${gpu.text}: ${error.message}`.slice(0, 300) }
        }
      }
      return this.#loadOn(cpu, { model, request, onProgress })
    })
  }

  /**
   * Runs rows through the layers, writing their keys and values into the slot.
   * @returns f32 little-endian rows, shape [outputs, width]
   * @throws EngineError. After ENGINE_NON_FINITE on the output side, or a failed compute, release the slot
   */
  step(step: StageStep): Uint8Array {
    const { graphs, parts, layers } = this.#expectLoaded()
    checkStep(step, { layers, shape: parts.cache.shape, width: parts.config.width })
    const end = step.position + step.count
    const shape: GraphShape = {
      layers: step.layers,
      slot: step.slot,
      rows: step.count,
      outputs: step.outputs,
      kvRows: roundUpRows(end),
    }
    return graphs.use(shape, graph => {
      graph.rows.set(step.rows)
      refuseRows(graph.rows, INPUT)
      parts.cache.markUsed(step.slot, end)
      graph.run(step.position)
      const outputs = graph.outputs.slice()
      refuseRows(outputs, OUTPUT)
      return outputs
    })
  }

  /**
   * Runs rows through a part of the layers as the first rows of a generation, with keys and values of their own: slots
   * are untouched, and the bits are those of a step in one.
   * @returns f32 little-endian rows, shape [count, width]
   * @throws EngineError
   */
  audit({ layers, count, rows }: StageAudit): Uint8Array {
    const { parts, graphs, layers: loaded } = this.#expectLoaded()
    const room = { ...parts.cache.shape, slots: 1, slotRows: roundUpRows(count) }
    const step = { slot: 0, layers, position: 0, count, outputs: count, rows }
    checkStep(step, { layers: loaded, shape: room, width: parts.config.width })
    const cache = new KvCache(parts.device, { ...room, layers })
    try {
      const shape = { layers, slot: 0, rows: count, outputs: count, kvRows: room.slotRows }
      const graph = new StageGraph({ ...parts, cache }, shape)
      try {
        if (graph.allocate().hasMoved) graphs.clear()
        graph.rows.set(rows)
        refuseRows(graph.rows, INPUT)
        graph.run(0)
        const outputs = graph.outputs.slice()
        refuseRows(outputs, OUTPUT)
        return outputs
      } finally {
        graph.free()
      }
    } finally {
      cache.free()
    }
  }

  /** Zeroes the slot, so that nothing of one generation reaches the next. */
  release(slot: number): void {
    const { cache } = this.#expectLoaded().parts
    checkSlot(slot, cache.shape)
    cache.release(slot)
  }

  /** Gives all memory back. Idempotent; `load` may follow. */
  free(): void {
    const loaded = this.#loaded
    if (loaded === undefined) return
    this.#loaded = undefined
    loaded.graphs.clear()
    loaded.parts.memory.free()
    loaded.parts.cache.free()
    loaded.parts.weights.free()
  }

  async #loadOn(
    device: ComputeDevice,
    load: { readonly model: ModelFile; readonly request: StageLoad; readonly onProgress: Progress | undefined },
  ): Promise<StageSessionReport> {
    const { gguf, config, file } = load.model
    const { layers, slots } = load.request
    const specs = stageWeights(config, layers)
    const found = findWeights(gguf, specs)
    const shape = kvShape(config, load.request)
    const sizes = [...found.values()].map(tensor => tensor.size)
    const neededBytes = refuseTooLarge(device, { shape, config, weightBytes: sum(sizes) })
    // A tensor in another form is made from a copy of it as it is in the file; an audit has KV rows of its own.
    const auditBytes = kvBytes(kvShape(config, { layers, slots: 1, contextMax: STEP_ROWS_MAX }))
    if (device.isCpu) this.#reserveBytes(neededBytes + sizes.reduce((a, b) => Math.max(a, b), 0) + auditBytes)
    const weights = await Weights.load(device, { file, found }, { onProgress: load.onProgress })
    const parts = this.#allocate(device, { config, weights, shape })
    this.#loaded = { parts, graphs: new GraphCache(parts), layers }
    try {
      this.#reserve(parts, layers)
      const stepMs = this.#measureStep(config.width, layers)
      return this.#report(parts, { slots, stepMs })
    } catch (error) {
      this.free()
      throw error
    }
  }

  #report(
    { device, config, weights, cache: { shape } }: StageParts,
    { slots, stepMs }: { readonly slots: number; readonly stepMs: number },
  ): StageSessionReport {
    return {
      device: device.text,
      profile: profileOf(this.#runtime, device, [...weights.bufferTypes]),
      width: config.width,
      layerCount: config.layerCount,
      contextMax: shape.slotRows,
      slots,
      weightBytes: weights.byteSize,
      kvBytes: kvBytes(shape),
      stepMs,
    }
  }

  #allocate(
    device: ComputeDevice,
    { config, weights, shape }: { readonly config: ModelConfig; readonly weights: Weights; readonly shape: KvShape },
  ): StageParts {
    try {
      const cache = new KvCache(device, shape)
      return { device, config, weights, cache, memory: new ComputeMemory(device, graphNodesMax(shape.layers)) }
    } catch (error) {
      weights.free()
      throw error
    }
  }

  /** Allocates for the largest step there can be, so that later ones neither fail nor move the buffer. */
  #reserve(parts: StageParts, layers: LayerRange): void {
    const { slotRows } = parts.cache.shape
    const rows = Math.min(STEP_ROWS_MAX, slotRows)
    const largest = new StageGraph(parts, { layers, slot: 0, rows, outputs: rows, kvRows: slotRows })
    try {
      const operation = largest.findUnsupported()
      if (operation !== undefined) {
        throw new EngineError(
          { code: 'ENGINE_NO_BACKEND', platform: parts.device.text },
          `${parts.device.text} cannot compute ${operation} as this model needs it`,
        )
      }
      largest.allocate()
    } finally {
      largest.free()
    }
  }

  /** Median milliseconds of a one-row step. */
  #measureStep(width: number, layers: LayerRange): number {
    const { clock } = this.#runtime
    const row = Float32Array.from({ length: width }, (_, i) => Math.sin(i + 1))
    const rows = new Uint8Array(row.buffer)
    const times: number[] = []
    for (let i = 0; i < TRIAL_STEPS; i++) {
      const start = clock.monotonic()
      this.step({ slot: 0, layers, position: i, count: 1, outputs: 1, rows })
      times.push(clock.monotonic() - start)
    }
    this.release(0)
    return times.sort((a, b) => a - b)[Math.floor(TRIAL_STEPS / 2)] ?? 0
  }

  #expectLoaded(): Loaded {
    if (this.#loaded === undefined) {
      throw new EngineError({ code: 'ENGINE_NOT_LOADED' }, 'no layers are loaded in this engine')
    }
    return this.#loaded
  }
}

/** Faults of a device, after which another one may do better. */
function isDeviceFault(error: EngineError): boolean {
  return ['ENGINE_NO_BACKEND', 'ENGINE_OUT_OF_MEMORY', 'ENGINE_TENSOR_TYPE', 'ENGINE_COMPUTE_FAILED'].includes(
    error.code,
  )
}

function checkRequest({ slots, contextMax }: StageLoad): void {
  const check = (what: string, value: number, max: number): void => {
    if (Number.isInteger(value) && value >= 1 && value <= max) return
    throw new EngineError({ code: 'ENGINE_BAD_LOAD', what }, `${what} must be within 1 and ${max}, not ${value}`)
  }
  check('slots', slots, SLOTS_MAX)
  check('contextMax', contextMax, CONTEXT_MAX)
}

function checkLayers(config: ModelConfig, layers: LayerRange): void {
  const whole = { first: 0, last: config.layerCount }
  const isRange = Number.isInteger(layers.first) && Number.isInteger(layers.last) && layers.first < layers.last
  if (isRange && containsLayers(whole, layers)) return
  throw new EngineError(
    { code: 'ENGINE_BAD_LAYERS', wanted: layers, loaded: whole },
    `layers ${formatLayers(layers)} are not a part of this model's ${formatLayers(whole)}`,
  )
}

function checkSlot(slot: number, shape: KvShape): void {
  if (Number.isInteger(slot) && slot >= 0 && slot < shape.slots) return
  throw new EngineError(
    { code: 'ENGINE_BAD_STEP', what: 'slot' },
    `slot ${slot} is not one of the ${shape.slots} loaded`,
  )
}

function checkStep(
  step: StageStep,
  loaded: { readonly layers: LayerRange; readonly shape: KvShape; readonly width: number },
): void {
  const refuse = (what: string, message: string): never => {
    throw new EngineError({ code: 'ENGINE_BAD_STEP', what }, message)
  }
  const { position, count, outputs, layers } = step
  checkSlot(step.slot, loaded.shape)
  const isRange = Number.isInteger(layers.first) && Number.isInteger(layers.last) && layers.first < layers.last
  if (!isRange || !containsLayers(loaded.layers, layers)) {
    throw new EngineError(
      { code: 'ENGINE_BAD_LAYERS', wanted: layers, loaded: loaded.layers },
      `layers ${formatLayers(layers)} are not a part of the loaded ${formatLayers(loaded.layers)}`,
    )
  }
  if (!Number.isInteger(count) || count < 1 || count > STEP_ROWS_MAX) {
    refuse('count', `a step has 1 to ${STEP_ROWS_MAX} rows, not ${count}`)
  }
  if (outputs !== 0 && outputs !== 1 && outputs !== count) {
    refuse('outputs', `0, 1 or all ${count} rows of a step come back, not ${outputs}`)
  }
  if (!Number.isInteger(position) || position < 0) refuse('position', `${position} is not a position`)
  if (position + count > loaded.shape.slotRows) {
    throw new EngineError(
      { code: 'ENGINE_CONTEXT_FULL', positions: position + count, contextMax: loaded.shape.slotRows },
      `a step to position ${position + count} does not fit a slot of ${loaded.shape.slotRows} positions`,
    )
  }
  const size = count * loaded.width * 4
  if (step.rows.byteLength !== size) {
    refuse('rows', `${count} rows of width ${loaded.width} have ${size} bytes, not ${step.rows.byteLength}`)
  }
}

/** @returns the bytes that will be needed. @throws EngineError ENGINE_OUT_OF_MEMORY */
function refuseTooLarge(
  device: ComputeDevice,
  need: { readonly shape: KvShape; readonly config: ModelConfig; readonly weightBytes: number },
): number {
  const { shape, config, weightBytes } = need
  const rows = Math.min(STEP_ROWS_MAX, shape.slotRows)
  // Masks, and the few activations that live at once.
  const workBytes = rows * (4 * shape.slotRows + 4 * (8 * config.width + 3 * config.feedForward))
  const neededBytes = weightBytes + kvBytes(shape) + workBytes
  const freeBytes = device.freeBytes()
  if (neededBytes <= freeBytes) return neededBytes
  throw new EngineError(
    { code: 'ENGINE_OUT_OF_MEMORY', neededBytes, freeBytes },
    `${layersIn(shape.layers)} layers with ${shape.slots} slots of ${shape.slotRows} positions need ${formatBytes(neededBytes)} ` +
      `(weights ${formatBytes(weightBytes)}, KV ${formatBytes(kvBytes(shape))}), but ${formatBytes(freeBytes)} are free on ${device.text}. ` +
      'Take fewer layers, slots or positions',
  )
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, value) => total + value, 0)
}
