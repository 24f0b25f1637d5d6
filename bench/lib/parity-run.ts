/**
 * One parity run: a model in a chain of real processes beside libllama. Greedy tokens must be the same, and every
 * step's logits the same to the last bit.
 */
import { silentLogger, systemClock } from '#base'
import { createReference } from '#engine'
import { GREEDY } from '#wire'
import type { BenchModel } from './model.ts'
import type { SwarmNode } from '../../tools/swarm.ts'
import { equalRanges, type NodeChain, startChain } from './node-chain.ts'
import { randomPrompt } from './prompts.ts'

export type ReferenceRun = {
  readonly prompt: readonly number[]
  readonly tokens: readonly number[]
  readonly logits: readonly Float32Array[]
}

export type PromptResult = {
  readonly prompt_tokens: number
  readonly equal: boolean
  readonly tokens: readonly number[]
  readonly reference_tokens: readonly number[]
  readonly logits_max_abs_diff: number
}

export type ParityResult = {
  readonly equal: boolean
  readonly model: string
  readonly stages: number
  readonly threads: number
  readonly layers: readonly string[]
  readonly pids: readonly number[]
  /** The largest difference of any logit of any step; goal 0. */
  readonly logits_max_abs_diff: number
  readonly prompts: readonly PromptResult[]
}

export type ParitySettings = {
  readonly tokens: number
  readonly threads: number
  readonly promptLengths: readonly number[]
  readonly seed: number
}

/** Positions that the longest prompt needs, as both engines round them. */
function contextFor(settings: ParitySettings): number {
  return Math.ceil((Math.max(...settings.promptLengths) + settings.tokens) / 256) * 256
}

/** What libllama answers to each prompt. One child process, one model load. */
export async function runReference(model: BenchModel, settings: ParitySettings): Promise<ReferenceRun[]> {
  const { threads, tokens, seed } = settings
  const load = { file: model.file, threads, contextMax: contextFor(settings) }
  const reference = await createReference({ clock: systemClock, log: silentLogger }, load)
  try {
    const runs: ReferenceRun[] = []
    for (const length of settings.promptLengths) {
      const prompt = randomPrompt({ length, vocabularySize: reference.vocabularySize, seed: seed + length })
      const answer = await reference.generate(Int32Array.from(prompt), tokens, { logits: true })
      runs.push({ prompt, tokens: [...answer.tokens], logits: answer.logits ?? [] })
    }
    return runs
  } finally {
    await reference.stop()
  }
}

/** Starts `stages` processes and an entry without layers, and asks for every prompt of the reference. */
export async function runParity(
  model: BenchModel,
  references: readonly ReferenceRun[],
  settings: ParitySettings & { readonly stages: number },
): Promise<ParityResult> {
  const layers = equalRanges(model.config.layerCount, settings.stages)
  const { threads } = settings
  const chain = await startChain({ model: model.file, layers, threads, contextMax: contextFor(settings) })
  try {
    const prompts: PromptResult[] = []
    for (const reference of references) prompts.push(await comparePrompt(chain.entry, reference))
    return {
      equal: prompts.every(prompt => prompt.equal),
      model: model.file,
      stages: settings.stages,
      threads,
      layers: chain.stages.map(stage => stage.ready.layers),
      pids: pidsOf(chain),
      logits_max_abs_diff: Math.max(...prompts.map(prompt => prompt.logits_max_abs_diff)),
      prompts,
    }
  } finally {
    await chain.stop()
  }
}

function pidsOf(chain: NodeChain): number[] {
  return [chain.entry, ...chain.stages].map(node => node.ready.pid)
}

async function comparePrompt(entry: SwarmNode, reference: ReferenceRun): Promise<PromptResult> {
  const tokens: number[] = []
  let difference = 0
  const events = entry.client.complete(
    {
      model: entry.ready.modelId ?? '',
      prompt: { kind: 'tokens', tokens: reference.prompt },
      sampling: GREEDY,
      tokensMax: reference.tokens.length,
      stop: [],
      logits: true,
      ignoreEnd: true,
    },
    { signal: AbortSignal.timeout(600_000) },
  )
  for await (const event of events) {
    if (event.kind !== 'delta') continue
    for (const info of event.tokens) {
      // After a token that differs the prefixes differ too: later logits say nothing.
      const isComparable = tokens.every((token, i) => token === reference.tokens[i])
      if (isComparable) difference = Math.max(difference, maxDifference(info.logits, reference.logits[tokens.length]))
      tokens.push(info.token)
    }
  }
  const equal = tokens.length === reference.tokens.length && tokens.every((token, i) => token === reference.tokens[i])
  return {
    prompt_tokens: reference.prompt.length,
    equal,
    tokens,
    reference_tokens: reference.tokens,
    logits_max_abs_diff: difference,
  }
}

function maxDifference(encoded: string | undefined, expected: Float32Array | undefined): number {
  if (encoded === undefined || expected === undefined) return Number.POSITIVE_INFINITY
  const bytes = Uint8Array.from(Buffer.from(encoded, 'base64'))
  const actual = new Float32Array(bytes.buffer, 0, bytes.byteLength >> 2)
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY
  let difference = 0
  for (let i = 0; i < actual.length; i++) {
    const distance = Math.abs((actual[i] ?? Number.NaN) - (expected[i] ?? Number.NaN))
    // NaN must not pass for equal.
    difference = Math.max(difference, Number.isNaN(distance) ? Number.POSITIVE_INFINITY : distance)
  }
  return difference
}
