/**
 * How fast this machine reads weights: decoding one token reads every weight once and does little else, so bytes per
 * second foretell the time of a step.
 */
import { ComputeMemory } from './compute-memory.ts'
import { EngineError } from './errors.ts'
import { F32 } from './ggml/binding.ts'
import type { GgmlRuntime } from './ggml/runtime.ts'

/** Q8_0: 32 numbers in 34 bytes. */
const Q8_0 = { id: 8, blockSize: 32, blockBytes: 34 }
const COLUMNS = 2048
const ROWS = 4096
/** Together about 71 MB: more than the caches of most processors. */
const MATRICES = 8
/** One product over everything takes 1 to 20 ms; the measurement ends after this time, or this many. */
const MEASURE_MS = 100
const ROUNDS_MAX = 50
/** A machine that stands still for a moment spoils a round, and takes all of the time. */
const ROUNDS_MIN = 3

/** Bytes of weights per second that a one-row product reads, at the runtime's threads. Takes about a quarter of a second. */
export function measureWeightBandwidth(runtime: GgmlRuntime): number {
  const device = runtime.gpu ?? runtime.cpu
  const { ggml } = device
  const weights = ggml.newContext(MATRICES * ggml.tensorOverhead())
  const memory = new ComputeMemory(device, 4 * MATRICES)
  const { context, graph } = memory.takeGraph()
  const matrices = Array.from({ length: MATRICES }, () => ggml.newTensor2d(weights, Q8_0.id, COLUMNS, ROWS))
  const buffer = ggml.allocateTensors(weights, device.defaultType)
  try {
    const matrixBytes = (COLUMNS / Q8_0.blockSize) * Q8_0.blockBytes * ROWS
    if (buffer === null) {
      throw new EngineError(
        { code: 'ENGINE_OUT_OF_MEMORY', neededBytes: MATRICES * matrixBytes, freeBytes: device.freeBytes() },
        `there is no memory to measure speed with on ${device.text}`,
      )
    }
    // Pages that were never written are one page of zeros, read from the cache; 0x11 gives small finite scales.
    const bytes = new Uint8Array(matrixBytes).fill(0x11)
    for (const matrix of matrices) ggml.writeTensor(matrix, bytes, 0, matrixBytes)
    const row = ggml.newTensor2d(context, F32, COLUMNS, 1)
    ggml.setInput(row)
    for (const matrix of matrices) ggml.expand(graph, ggml.mulMat(context, matrix, row))
    memory.allocate(graph)
    ggml.writeTensor(row, new Float32Array(COLUMNS).fill(1), 0, COLUMNS * 4)
    memory.compute(graph)
    return (MATRICES * matrixBytes * 1000) / bestRound(runtime, () => memory.compute(graph))
  } finally {
    memory.giveBack(context)
    memory.free()
    if (buffer !== null) ggml.freeBuffer(buffer)
    ggml.freeContext(weights)
  }
}

/**
 * Milliseconds of the best round. Nodes measure while they start, often several on one machine at once: the median then
 * says how they share it in that moment (4 to 31 GB/s here), the best round what it can do.
 */
function bestRound({ clock }: GgmlRuntime, round: () => void): number {
  let best = Number.POSITIVE_INFINITY
  const end = clock.monotonic() + MEASURE_MS
  for (let rounds = 0; rounds < ROUNDS_MIN || (clock.monotonic() < end && rounds < ROUNDS_MAX); rounds++) {
    const start = clock.monotonic()
    round()
    best = Math.min(best, clock.monotonic() - start)
  }
  return Math.max(best, 1e-3)
}
