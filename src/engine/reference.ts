/**
 * The reference engine: libllama with a whole model in a child process of its own, so that neither its state nor its
 * threads mix with ours. Parity and benchmarks compare with it; nothing else uses it.
 */
import { decodeReferenceStep, encodeGenerate } from './child/codec.ts'
import { decodeJson, encodeJson, KIND } from './child/protocol.ts'
import { EngineChild } from './engine-child.ts'
import type { ReferenceLoad } from './llama/reference-model.ts'
import type { EngineDeps } from './supervisor.ts'

type ReferenceAnswer = {
  readonly tokens: Int32Array
  /** For each token the logits that it was chosen from; only where they were asked for. */
  readonly logits?: readonly Float32Array[]
  /** The call that read the prompt and gave the first token. */
  readonly prefillMs: number
  /** Each further token: one fewer than `tokens`. */
  readonly decodeMs: readonly number[]
}

type ReferenceBenchmark = {
  readonly prefillTokensPerSecond: number
  /** From the median token. */
  readonly decodeTokensPerSecond: number
  readonly prefillMs: number
  readonly decodeMs: readonly number[]
}

export interface ReferenceEngine {
  readonly pid: number
  readonly vocabularySize: number
  readonly contextMax: number
  /** Continues `tokens` greedily from an empty cache, past end tokens. @throws EngineError */
  generate(tokens: Int32Array, count: number, options?: { readonly logits?: boolean }): Promise<ReferenceAnswer>
  /** Times a prompt of arbitrary tokens and a number of tokens after it. @throws EngineError */
  benchmark(counts: { readonly promptTokens: number; readonly decodeTokens: number }): Promise<ReferenceBenchmark>
  /** Ends the child; resolves when it is gone. */
  stop(): Promise<void>
}

/**
 * Loads a model into libllama with its defaults but for threads and context, all layers on the CPU.
 * @throws EngineError
 */
export async function createReference(deps: EngineDeps, load: ReferenceLoad): Promise<ReferenceEngine> {
  const child = new EngineChild(
    deps,
    { role: 'reference', options: { threads: load.threads, device: 'cpu' } },
    { reads: [load.file] },
  )
  try {
    await child.ready()
    const reply = await child.request(KIND.load, [encodeJson(load)])
    const report = decodeJson(reply) as { vocabularySize: number; contextMax: number }
    const generate = (tokens: Int32Array, count: number, options: { readonly logits?: boolean } = {}) =>
      generateOn(child, { tokens, count, logits: options.logits ?? false })
    return {
      pid: child.pid,
      ...report,
      generate,
      benchmark: async ({ promptTokens, decodeTokens }) => {
        // Spread over the vocabulary, the same ones every time.
        const prompt = Int32Array.from({ length: promptTokens }, (_, i) => (i * 7 + 13) % report.vocabularySize)
        return toBenchmark(await generate(prompt, decodeTokens + 1), promptTokens)
      },
      stop: () => child.end(),
    }
  } catch (error) {
    await child.end()
    throw error
  }
}

async function generateOn(
  child: EngineChild,
  request: { readonly tokens: Int32Array; readonly count: number; readonly logits: boolean },
): Promise<ReferenceAnswer> {
  const tokens: number[] = []
  const times: number[] = []
  const logits: Float32Array[] = []
  await child.request(KIND.generate, encodeGenerate(request), {
    onEvent: payload => {
      const step = decodeReferenceStep(payload)
      tokens.push(step.token)
      times.push(step.elapsedMs)
      if (step.logits !== undefined) logits.push(step.logits)
    },
  })
  const [prefillMs = 0, ...decodeMs] = times
  return { tokens: Int32Array.from(tokens), prefillMs, decodeMs, ...(request.logits && { logits }) }
}

function toBenchmark({ prefillMs, decodeMs }: ReferenceAnswer, promptTokens: number): ReferenceBenchmark {
  const sorted = [...decodeMs].sort((a, b) => a - b)
  const median = sorted[sorted.length >> 1] ?? Number.NaN
  return {
    prefillMs,
    decodeMs,
    prefillTokensPerSecond: (1000 * promptTokens) / prefillMs,
    decodeTokensPerSecond: 1000 / median,
  }
}
