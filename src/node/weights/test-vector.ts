/**
 * Test vectors of model cards: made where a model is added, and held against what came here before anything of it is
 * served. Both run in throw-away processes, a part of the model after the other, so that it may be larger than the memory.
 */
import { availableMemory } from 'node:process'
import type { Clock, LayerRange, Logger, Random } from '#base'
import { createTrial, type EngineOptions, refuseMismatch, type TrialParts, type TrialResult } from '#engine'
import { CARD_PROBES_MAX, layerWeightBytes, readGguf, type TestVector } from '#formats'
import { openFileSource } from '#storage'
import { TRIAL_MEMORY_SHARE } from '../limits.ts'

/** Embedding and head. */
const EDGE_PROBES = 2

export type TrialDeps = { readonly clock: Clock; readonly random: Random; readonly log: Logger }

export type TrialTask = {
  /** Absolute path of the GGUF file. */
  readonly file: string
  readonly parts: TrialParts
  readonly signal: AbortSignal
  readonly onProgress?: (doneParts: number, parts: number) => void
}

/** The vector of all of a model. @throws EngineError ENGINE_TRIAL_FAILED; the signal's reason */
export async function measureVector(deps: TrialDeps, options: EngineOptions, task: TrialTask): Promise<TestVector> {
  const trial = createTrial(deps, options)
  const seed = deps.random.uint32()
  const { file, parts: all, signal } = task
  const layers = all.layers === undefined ? undefined : atMost(all.layers, CARD_PROBES_MAX - EDGE_PROBES)
  const told = { ...all, ...(layers === undefined ? {} : { layers }) }
  const profiles = new Set<string>()
  const probes: TestVector['probes'][number][] = []
  for (const parts of await portionsOf({ file, parts: told })) {
    const vector = await trial.measureVector(file, parts, { seed, signal })
    for (const word of vector.profile.split(' ')) profiles.add(word)
    probes.push(...vector.probes.map(({ part, values, norm }) => ({ part, values: bytesOf(values), norm })))
  }
  return { version: 1, profile: [...profiles].sort().join(' '), seed, probes }
}

/**
 * Runs parts of a model once, and holds them against the vector where there is one.
 * @throws EngineError ENGINE_TRIAL_FAILED, ENGINE_TRIAL_MISMATCH; the signal's reason
 */
export async function tryModel(
  deps: TrialDeps,
  options: EngineOptions,
  { vector, ...task }: TrialTask & { readonly vector: TestVector | undefined },
): Promise<void> {
  const trial = createTrial(deps, options)
  const portions = await portionsOf(task)
  for (const [at, parts] of portions.entries()) {
    task.onProgress?.(at, portions.length)
    const { file, signal } = task
    if (vector === undefined) await trial.measureVector(file, parts, { seed: deps.random.uint32(), signal })
    else {
      const probes = vector.probes.map(({ part, values, norm }) => ({ part, values: floatsOf(values), norm }))
      refuseMismatch(
        ofToldParts(await trial.checkVector(file, parts, { vector: { ...vector, probes }, signal }), vector),
      )
    }
  }
}

/** A card has room for the probes of so many layers; what it does not speak of was run, and is held against nothing. */
function ofToldParts(result: TrialResult, { probes }: TestVector): TrialResult {
  const told = new Set(probes.map(({ part }) => part))
  const parts = result.parts.filter(({ part }) => told.has(part))
  const worst = parts.reduce((most, { deviation }) => Math.max(most, deviation), 0)
  return { ...result, parts, worst, ok: worst <= result.tolerance }
}

function atMost({ first, last }: LayerRange, count: number): LayerRange {
  return { first, last: Math.min(last, first + count) }
}

/** Edges alone, then as many layers at once as a part of the free memory holds. */
async function portionsOf({ file, parts }: Pick<TrialTask, 'file' | 'parts'>): Promise<readonly TrialParts[]> {
  const portions: TrialParts[] = parts.edges === true ? [{ edges: true }] : []
  if (parts.layers === undefined) return portions
  const source = await openFileSource(file)
  try {
    const gguf = await readGguf(source)
    const bytesMax = availableMemory() * TRIAL_MEMORY_SHARE
    let range: LayerRange = { first: parts.layers.first, last: parts.layers.first }
    let bytes = 0
    for (let layer = parts.layers.first; layer < parts.layers.last; layer++) {
      const layerBytes = layerWeightBytes(gguf, layer)
      if (range.last > range.first && bytes + layerBytes > bytesMax) {
        portions.push({ layers: range })
        range = { first: layer, last: layer }
        bytes = 0
      }
      range = { first: range.first, last: layer + 1 }
      bytes += layerBytes
    }
    return [...portions, { layers: range }]
  } finally {
    await source.close()
  }
}

/** f32 little-endian, whatever machine this is. */
function bytesOf(values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(4 * values.length)
  const view = new DataView(bytes.buffer)
  for (const [at, value] of values.entries()) view.setFloat32(4 * at, value, true)
  return bytes
}

function floatsOf(bytes: Uint8Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Float32Array.from({ length: bytes.byteLength / 4 }, (_, at) => view.getFloat32(4 * at, true))
}
