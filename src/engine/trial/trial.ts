/**
 * Trials: a model that nobody here has run yet is loaded in processes of its own, in the sandbox, run once on fixed
 * inputs and held against its card's test vector; then the processes end. What a file of a stranger does to an engine,
 * it does to one that serves nobody.
 */
import { codeOf, KoinonError, type LayerRange, messageOf } from '#base'
import { GREEDY } from '#wire'
import { createEdgeEngine } from '../edge-engine.ts'
import { EngineError } from '../errors.ts'
import { TRIAL_OTHER_PROFILE_DEVIATION_MAX, TRIAL_SAME_PROFILE_DEVIATION_MAX } from '../limits.ts'
import { createStageEngine } from '../stage-engine.ts'
import type { EngineDeps } from '../supervisor.ts'
import type { EngineOptions, LoadOptions } from '../types.ts'
import {
  deviationOf,
  reduceOutput,
  type TestVector,
  TRIAL_ROWS,
  trialRows,
  trialTokens,
  type TrialPart,
  type TrialProbe,
} from './vector.ts'

/** What of a model is tried: what this node has of it. */
export type TrialParts = { readonly layers?: LayerRange; readonly edges?: boolean }

export type TrialResult = {
  /** Whether every part that was asked for is in the vector and computes what the vector says. */
  readonly ok: boolean
  /** Largest relative deviation. Infinity where the vector lacks a part, or has no numbers for it. */
  readonly worst: number
  /** What was tolerated: little for the profile that made the vector, more for others. */
  readonly tolerance: number
  readonly parts: readonly { readonly part: TrialPart; readonly deviation: number }[]
}

export interface Trial {
  /**
   * Makes the test vector of a model, or of a part of it. @param seed u32
   * @throws EngineError ENGINE_TRIAL_FAILED
   */
  measureVector(file: string, parts: TrialParts, options: LoadOptions & { readonly seed: number }): Promise<TestVector>
  /**
   * Holds a model, or a part of it, against a test vector, which may come from anybody.
   * @throws EngineError ENGINE_TRIAL_FAILED where the model ends its process, cannot be loaded or computes no numbers
   */
  checkVector(
    file: string,
    parts: TrialParts,
    check: LoadOptions & { readonly vector: TestVector },
  ): Promise<TrialResult>
}

type Measured = TrialProbe & { readonly size: number; readonly profile: string }

/** Positions of the slot that a stage wants to have; trials use none. */
const CONTEXT = 256

/** Makes trials with engines of these options: threads and device as those of the node. */
export function createTrial(deps: EngineDeps, options: EngineOptions): Trial {
  const run = (file: string, parts: TrialParts, load: LoadOptions & { readonly seed: number }): Promise<Measured[]> =>
    asTrial(async () => [
      ...(parts.edges === true ? await runEdges({ deps, options }, file, load) : []),
      ...(parts.layers === undefined ? [] : await runLayers({ deps, options }, { file, layers: parts.layers }, load)),
    ])
  return {
    measureVector: async (file, parts, load) => {
      const measured = await run(file, parts, load)
      const probes = measured.map(({ part, values, norm }) => ({ part, values, norm }))
      return { version: 1, profile: profileOf(measured), seed: load.seed, probes }
    },
    checkVector: async (file, parts, { vector, ...load }) => {
      const { seed, probes } = vector
      const measured = await run(file, parts, { ...load, seed })
      const claims = new Map(probes.map(probe => [probe.part, probe]))
      const results = measured.map(own => {
        const claim = claims.get(own.part)
        const deviation = claim === undefined ? Number.POSITIVE_INFINITY : deviationOf(own, claim, own.size)
        return { part: own.part, deviation }
      })
      // A part of a model may need one of the two engines only.
      const known = new Set(vector.profile.split(' '))
      const isSame = measured.every(({ profile }) => known.has(profile))
      const tolerance = isSame ? TRIAL_SAME_PROFILE_DEVIATION_MAX : TRIAL_OTHER_PROFILE_DEVIATION_MAX
      const worst = results.reduce((most, { deviation }) => Math.max(most, deviation), 0)
      return { ok: worst <= tolerance, worst, tolerance, parts: results }
    },
  }
}

/** @throws EngineError ENGINE_TRIAL_MISMATCH with the parts that deviate, where the trial did not go well */
export function refuseMismatch({ ok, worst, tolerance, parts }: TrialResult): void {
  if (ok) return
  const names = parts.filter(({ deviation }) => !(deviation <= tolerance)).map(({ part }) => nameOf(part))
  throw new EngineError(
    { code: 'ENGINE_TRIAL_MISMATCH', deviation: worst, tolerance },
    `the model computes something else than its card says: ${names.slice(0, 8).join(', ')}${names.length > 8 ? ', …' : ''} ` +
      `deviate by up to ${worst.toPrecision(2)}, and ${tolerance} is tolerated. It is not the model that the card describes`,
  )
}

function nameOf(part: TrialPart): string {
  if (typeof part === 'number') return `layer ${part}`
  return part === 'embed' ? 'embedding' : 'output head'
}

/** Profiles of both kinds of engine: each computes in its own way. */
function profileOf(measured: readonly Measured[]): string {
  return [...new Set(measured.map(({ profile }) => profile))].sort().join(' ')
}

type Engines = { readonly deps: EngineDeps; readonly options: EngineOptions }

async function runLayers(
  { deps, options }: Engines,
  { file, layers }: { readonly file: string; readonly layers: LayerRange },
  load: LoadOptions & { readonly seed: number },
): Promise<Measured[]> {
  const engine = createStageEngine(deps, options)
  try {
    const { width, profile } = await engine.load({ file, layers, slots: 1, contextMax: CONTEXT }, load)
    const measured: Measured[] = []
    for (let layer = layers.first; layer < layers.last; layer++) {
      const rows = trialRows(load.seed, layer, TRIAL_ROWS * width)
      const range = { first: layer, last: layer + 1 }
      const bytes = await engine.audit({ layers: range, count: TRIAL_ROWS, rows: new Uint8Array(rows.buffer) })
      const start = (TRIAL_ROWS - 1) * width
      // The layer's own work: what it was given passes through beside it and would hide small parts.
      const added = floatsOf(bytes)
        .subarray(start)
        .map((number, i) => number - (rows[start + i] ?? 0))
      measured.push({ ...reduceOutput(load.seed, layer, added), size: width, profile })
    }
    return measured
  } finally {
    await engine.stop()
  }
}

async function runEdges(
  { deps, options }: Engines,
  file: string,
  load: LoadOptions & { readonly seed: number },
): Promise<Measured[]> {
  const engine = createEdgeEngine(deps, options)
  const { seed } = load
  try {
    const { width, vocabularySize, profile } = await engine.load({ file }, load)
    const embedded = floatsOf(await engine.embed(trialTokens(seed, vocabularySize)))
    const sampler = await engine.openSampler(GREEDY, new Int32Array(0))
    const row = trialRows(seed, 'head', width)
    const { logits } = await engine.next(sampler, new Uint8Array(row.buffer), { logits: true })
    const outputs = [['embed', embedded] as const, ['head', logits ?? new Float32Array(0)] as const]
    return outputs.map(([part, output]) => ({ ...reduceOutput(seed, part, output), size: output.length, profile }))
  } finally {
    await engine.stop()
  }
}

/** @param bytes f32, at any place */
function floatsOf(bytes: Uint8Array): Float32Array {
  return new Float32Array(Uint8Array.from(bytes).buffer)
}

/** An end by the caller is no failure of the model. */
async function asTrial<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run()
  } catch (error) {
    if (!(error instanceof KoinonError)) throw error
    const cause = codeOf(error)
    throw new EngineError({ code: 'ENGINE_TRIAL_FAILED', cause }, `the model failed its trial: ${messageOf(error)}`, {
      cause: error,
    })
  }
}
