/**
 * One engine process of ours beside one of libllama, same file, same threads. Rounds alternate, so that what else the
 * machine does falls on both; the tokens of both must be the same, or the comparison would mean nothing.
 */
import { silentLogger, systemClock } from '#base'
import { createReference } from '#engine'
import type { BenchOptions } from '../main.ts'
import { startEngineProcess } from './engine-process.ts'
import { readModel } from './model.ts'
import { randomPrompt } from './prompts.ts'
import { median, type Result } from './report.ts'

export async function benchEngine(options: BenchOptions): Promise<Result> {
  const { file, config } = await readModel(options.model)
  const { threads, rounds, tokens } = options
  const contextMax = options.prompt + tokens
  const prompt = randomPrompt({ length: options.prompt, vocabularySize: config.vocabularySize, seed: 1 })

  const reference = await createReference({ clock: systemClock, log: silentLogger }, { file, threads, contextMax })
  const engine = await startEngineProcess({ model: file, layerCount: config.layerCount, threads, contextMax })
  const times = { oursPrefill: [] as number[], oursStep: [] as number[], prefill: [] as number[], step: [] as number[] }
  const notes: string[] = []
  try {
    // One round each that does not count: pages are read, caches filled.
    await engine.round(prompt, 4)
    await reference.generate(Int32Array.from(prompt), 4)
    for (let round = 1; round <= rounds; round++) {
      const theirs = await reference.generate(Int32Array.from(prompt), tokens)
      const ours = await engine.round(prompt, tokens)
      times.prefill.push(theirs.prefillMs)
      times.step.push(median(theirs.decodeMs))
      times.oursPrefill.push(ours.prefillMs)
      times.oursStep.push(median(ours.stepMs))
      const isEqual = ours.tokens.every((token, i) => token === theirs.tokens[i])
      if (!isEqual) throw new Error('the engines gave different tokens: a comparison would mean nothing')
      notes.push(roundLine(round, { ours: ours.prefillMs, theirs: theirs.prefillMs }, times))
    }
  } finally {
    await Promise.all([engine.stop(), reference.stop()])
  }
  const figures = {
    decode: 1000 / median(times.oursStep),
    decode_reference: 1000 / median(times.step),
    prefill: (1000 * options.prompt) / median(times.oursPrefill),
    prefill_reference: (1000 * options.prompt) / median(times.prefill),
    threads,
    rounds,
  }
  const ratios = {
    decode_ratio: figures.decode / figures.decode_reference,
    prefill_ratio: figures.prefill / figures.prefill_reference,
  }
  return {
    bench: 'engine',
    figures,
    ratios,
    goals: [
      { name: 'decode_ratio', atLeast: 0.97 },
      { name: 'prefill_ratio', atLeast: 0.92 },
    ],
    notes,
  }
}

function roundLine(
  round: number,
  prefill: { readonly ours: number; readonly theirs: number },
  times: { readonly oursStep: readonly number[]; readonly step: readonly number[] },
): string {
  const ms = (value: number | undefined): string => `${(value ?? Number.NaN).toFixed(1)} ms`
  const step = `step ${ms(times.oursStep.at(-1))} (libllama ${ms(times.step.at(-1))})`
  return `round ${round}: ${step}, prefill ${ms(prefill.ours)} (libllama ${ms(prefill.theirs)})`
}
