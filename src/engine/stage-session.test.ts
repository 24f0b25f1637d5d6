import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { systemClock } from '#base'
import { type RandomGgufOptions, writeRandomGguf } from '../../test/support/random-gguf.ts'
import { EdgeSession } from './edge-session.ts'
import { type GgmlRuntime, openRuntime } from './ggml/runtime.ts'
import { openLlama } from './llama/library.ts'
import { quantizeFile, type QuantizeType } from './llama/quantize.ts'
import { ReferenceModel } from './llama/reference-model.ts'
import { StageSession } from './stage-session.ts'

const STORYTELLER = join(import.meta.dirname, '../../models/storyteller-2m-q8_0.gguf')
const CONTEXT = 2048
const CHUNK = 512

let runtime: GgmlRuntime
let directory = ''

before(async () => {
  runtime = openRuntime({ threads: 1, device: 'cpu' })
  directory = await mkdtemp(join(tmpdir(), 'koinon-stage-'))
})

after(() => rm(directory, { recursive: true, force: true }))

/** A model cut into stages that share this process, as a swarm would cut it. */
class Chain {
  readonly edge = new EdgeSession(runtime)
  readonly #stages: StageSession[] = []
  readonly #cuts: readonly number[]
  readonly #slot: number

  /** @param cuts where stages begin and end: [0, 3, 8] is two stages */
  constructor(cuts: readonly number[], slot: number) {
    this.#cuts = cuts
    this.#slot = slot
  }

  async load(file: string): Promise<void> {
    await this.edge.load(file)
    for (const layers of this.#ranges()) {
      const stage = new StageSession(runtime)
      await stage.load({ file, layers, slots: 2, contextMax: CONTEXT })
      this.#stages.push(stage)
    }
  }

  /** Prefill in chunks, then one logits row for each following token. */
  *run(prompt: Int32Array, next: Iterable<number>): Generator<Float32Array> {
    let row: Uint8Array = new Uint8Array(0)
    for (let from = 0; from < prompt.length; from += CHUNK) {
      row = this.#step(prompt.slice(from, from + CHUNK), from, from + CHUNK >= prompt.length)
    }
    yield this.edge.logits(row)
    let position = prompt.length
    for (const token of next) yield this.edge.logits(this.#step(Int32Array.of(token), position++, true))
  }

  free(): void {
    for (const stage of this.#stages) stage.free()
    this.edge.free()
  }

  #step(tokens: Int32Array, position: number, isWanted: boolean): Uint8Array {
    const ranges = this.#ranges()
    let rows = this.edge.embed(tokens)
    this.#stages.forEach((stage, i) => {
      const layers = ranges[i] ?? { first: 0, last: 0 }
      const isLast = i === this.#stages.length - 1
      const outputs = isLast ? Number(isWanted) : tokens.length
      rows = stage.step({ slot: this.#slot, layers, position, count: tokens.length, outputs, rows })
    })
    return rows
  }

  #ranges(): { first: number; last: number }[] {
    return this.#cuts.slice(1).map((last, i) => ({ first: this.#cuts[i] ?? 0, last }))
  }
}

/** Compares every logit of a prompt and its greedy continuation with libllama's. */
async function assertEqualToReference(
  file: string,
  options: { readonly cuts: readonly number[]; readonly prompts: readonly number[]; readonly tokens: number },
): Promise<void> {
  const llama = openLlama(runtime)
  const reference = new ReferenceModel({ llama, clock: systemClock }, { file, threads: 1, contextMax: CONTEXT })
  const vocabulary = reference.vocabularySize
  const expected = options.prompts.map(length => {
    const prompt = Int32Array.from({ length }, (_, i) => (i * 7919 + 13) % (vocabulary - 10))
    const steps = [...reference.generate(prompt, options.tokens)].map(({ token }) => token)
    const logits: Float32Array[] = []
    for (const step of reference.generate(prompt, options.tokens)) logits.push(step.logits.slice())
    return { prompt, steps, logits }
  })
  reference.free()
  const chain = new Chain(options.cuts, 1)
  await chain.load(file)
  try {
    for (const { prompt, steps, logits } of expected) {
      assert.ok(new Set(steps).size > 1, 'the reference repeats one token: this comparison would prove little')
      let index = 0
      for (const ours of chain.run(prompt, steps.slice(0, -1))) {
        const what = `${options.cuts.join('-')}, prompt of ${prompt.length}, token ${index}`
        assert.deepEqual(ours, logits[index++], what)
      }
      assert.equal(index, options.tokens)
    }
  } finally {
    chain.free()
  }
}

for (const cuts of [
  [0, 8],
  [0, 3, 8],
  [0, 1, 7, 8],
  [0, 2, 4, 6, 8],
]) {
  test(`the built-in model over stages ${cuts.join('-')} gives libllama's logits, bit for bit`, async () => {
    await assertEqualToReference(STORYTELLER, { cuts, prompts: [1, 7, 300], tokens: 8 })
  })
}

const MODELS: readonly (readonly [QuantizeType, RandomGgufOptions])[] = [
  ['q4_0', { architecture: 'llama', ropeFreqs: true }],
  [
    'q6_k',
    {
      architecture: 'llama',
      metadata: { 'llama.rope.scaling.type': 'yarn', 'llama.rope.scaling.factor': { float: 4 } },
    },
  ],
  ['f16', { architecture: 'qwen2' }],
  ['q8_0', { architecture: 'qwen3' }],
  ['q4_k', { architecture: 'gemma3' }],
  ['bf16', { architecture: 'gemma3', metadata: { 'gemma3.final_logit_softcapping': { float: 30 } } }],
]

for (const [type, options] of MODELS) {
  test(`a random ${options.architecture} in ${type} over two stages gives libllama's logits, bit for bit`, async () => {
    const plain = join(directory, 'plain.gguf')
    const file = join(directory, `${options.architecture}-${type}.gguf`)
    await writeRandomGguf(plain, { layers: 4, seed: 7, ...options })
    quantizeFile(openLlama(runtime), { fileIn: plain, fileOut: file, type, threads: 1 })
    await assertEqualToReference(file, { cuts: [0, 1, 4], prompts: [7, 600], tokens: 4 })
  })
}

test("a stage whose KV block ends and a new one begins still gives libllama's logits", async () => {
  await assertEqualToReference(STORYTELLER, { cuts: [0, 4, 8], prompts: [250], tokens: 12 })
})
