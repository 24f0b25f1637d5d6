/**
 * Stages in real processes on loopback beside one engine process that holds the whole model, rounds alternating. The
 * entry holds no layers, so every hop crosses a connection. The time that a hop adds is
 *
 *     (median step of the pipeline - median step of the single engine) / (stages + 1)
 *
 * because a step crosses stages + 1 hops: entry to first, stage to stage, last to entry.
 */
import { silentLogger, systemClock } from '#base'
import { createReference } from '#engine'
import { GREEDY } from '#wire'
import type { SwarmNode } from '../../tools/swarm.ts'
import type { BenchOptions } from '../main.ts'
import { startEngineProcess } from './engine-process.ts'
import { type HopParts, measureHopParts } from './hop-parts.ts'
import { readModel } from './model.ts'
import { equalRanges, startChain } from './node-chain.ts'
import { randomPrompt } from './prompts.ts'
import { median, type Result } from './report.ts'

/** Same machine, same file, same threads: the pipeline should lose little to the hops. */
const DECODE_RATIO_MIN = 0.85
const HOP_MS_MAX = 1.5

export async function benchPipeline(options: BenchOptions): Promise<Result> {
  const model = await readModel(options.model)
  const { threads, rounds, tokens, stages } = options
  const { layerCount, vocabularySize } = model.config
  const contextMax = Math.ceil((options.prompt + tokens) / 256) * 256
  const prompt = randomPrompt({ length: options.prompt, vocabularySize, seed: 1 })
  const load = { file: model.file, threads, contextMax }

  const reference = await createReference({ clock: systemClock, log: silentLogger }, load)
  const single = await startEngineProcess({ model: model.file, layerCount, threads, contextMax })
  const chain = await startChain({ model: model.file, layers: equalRanges(layerCount, stages), threads, contextMax })
  const steps = { pipeline: [] as number[], single: [] as number[], reference: [] as number[] }
  const prefills = { pipeline: [] as number[], single: [] as number[] }
  const notes = [`processes: entry ${chain.entry.ready.pid}, ${chain.stages.map(describeStage).join(', ')}`]
  try {
    await runRound(chain.entry, prompt, 4)
    await single.round(prompt, 4)
    await reference.generate(Int32Array.from(prompt), 4)
    for (let round = 1; round <= rounds; round++) {
      const theirs = await reference.generate(Int32Array.from(prompt), tokens)
      const alone = await single.round(prompt, tokens)
      const ours = await runRound(chain.entry, prompt, tokens)
      if (!ours.tokens.every((token, i) => token === alone.tokens[i])) throw new Error('the tokens differ')
      steps.reference.push(median(theirs.decodeMs))
      steps.single.push(median(alone.stepMs))
      steps.pipeline.push(median(ours.stepMs))
      prefills.single.push(alone.prefillMs)
      prefills.pipeline.push(ours.prefillMs)
      const last = (values: readonly number[]): string => (values.at(-1) ?? Number.NaN).toFixed(2)
      notes.push(
        `round ${round}: step ${last(steps.pipeline)} ms (one engine ${last(steps.single)}, libllama ${last(steps.reference)})`,
      )
    }
  } finally {
    await Promise.all([chain.stop(), single.stop(), reference.stop()])
  }
  return toResult(options, { steps, prefills, parts: await measureHopParts(model), notes })
}

function toResult(
  options: BenchOptions,
  measured: {
    readonly steps: Readonly<Record<'pipeline' | 'single' | 'reference', readonly number[]>>
    readonly prefills: Readonly<Record<'pipeline' | 'single', readonly number[]>>
    readonly parts: HopParts
    readonly notes: readonly string[]
  },
): Result {
  const { steps, prefills, parts, notes } = measured
  const hopMs = (median(steps.pipeline) - median(steps.single)) / (options.stages + 1)
  const figures = {
    decode: 1000 / median(steps.pipeline),
    decode_single: 1000 / median(steps.single),
    decode_reference: 1000 / median(steps.reference),
    prefill: (1000 * options.prompt) / median(prefills.pipeline),
    prefill_single: (1000 * options.prompt) / median(prefills.single),
    hop_ms_p50: hopMs,
    ...parts,
    hop_rest_ms: hopMs - parts.hop_pipe_ms - parts.hop_wire_ms,
    stages: options.stages,
    threads: options.threads,
    rounds: options.rounds,
  }
  const ratios = {
    decode_ratio: figures.decode / figures.decode_single,
    decode_ratio_reference: figures.decode / figures.decode_reference,
    prefill_ratio: figures.prefill / figures.prefill_single,
  }
  const goals = [
    { name: 'decode_ratio', atLeast: DECODE_RATIO_MIN },
    { name: 'hop_ms_p50', atMost: HOP_MS_MAX },
  ]
  return { bench: 'pipeline', figures, ratios, goals, notes }
}

type PipelineRound = {
  readonly tokens: readonly number[]
  readonly prefillMs: number
  readonly stepMs: readonly number[]
}

/** One generation through the swarm, timed where a client would: as its tokens arrive. */
async function runRound(entry: SwarmNode, prompt: readonly number[], count: number): Promise<PipelineRound> {
  const request = {
    model: entry.ready.modelId ?? '',
    prompt: { kind: 'tokens', tokens: prompt } as const,
    sampling: GREEDY,
    tokensMax: count,
    stop: [],
    ignoreEnd: true,
  }
  const tokens: number[] = []
  const stepMs: number[] = []
  let prefillMs = 0
  let before = performance.now()
  for await (const event of entry.client.complete(request, { signal: AbortSignal.timeout(600_000) })) {
    if (event.kind !== 'delta') continue
    const now = performance.now()
    if (tokens.length === 0) prefillMs = now - before
    else stepMs.push(now - before)
    before = now
    tokens.push(...event.tokens.map(info => info.token))
  }
  return { tokens, prefillMs, stepMs }
}

function describeStage(stage: SwarmNode): string {
  return `${stage.ready.pid} [${stage.ready.layers}]`
}
