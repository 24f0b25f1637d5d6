import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { codeOf, concatBytes, KoinonError, seededRandom, silentLogger, systemClock } from '#base'
import { GREEDY, type SamplingOptions } from '#wire'
import { createEdgeEngine } from './edge-engine.ts'
import { CHILD_FRAME_BYTES_MAX, LOGIT_BIAS_MAX, SAMPLERS_MAX } from './limits.ts'
import { createReference, type ReferenceEngine } from './reference.ts'
import { createStageEngine } from './stage-engine.ts'
import type { EdgeEngine, NextOptions, NextToken, StageEngine } from './types.ts'

const FILE = fileURLToPath(new URL('../../models/storyteller-2m-q8_0.gguf', import.meta.url))
const PROMPT = '<|im_start|>user\nTell me a story about a fox and a lantern.<|im_end|>\n<|im_start|>assistant\n'
const SPECIAL = { addSpecial: false, parseSpecial: true }
const WARM: SamplingOptions = { ...GREEDY, temperature: 1.2, topK: 40, topP: 0.95, minP: 0.02, seed: 7 }
const layers = { first: 0, last: 8 }
const deps = { clock: systemClock, log: silentLogger }
const options = { threads: 1, device: 'cpu' } as const

let edge: EdgeEngine
let stage: StageEngine
let reference: ReferenceEngine
let directory: string

before(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'koinon-edge-'))
  edge = createEdgeEngine(deps, options)
  stage = createStageEngine(deps, options)
  await Promise.all([edge.load({ file: FILE }), stage.load({ file: FILE, layers, slots: 1, contextMax: 512 })])
  reference = await createReference(deps, { file: FILE, threads: 1, contextMax: 512 })
})

after(async () => {
  await Promise.all([edge.stop(), stage.stop(), reference.stop()])
  rmSync(directory, { recursive: true })
})

/** Continues a prompt through both engines, as the pipeline does. */
async function generate(
  prompt: Int32Array,
  sampling: SamplingOptions,
  settings: { readonly count: number; readonly next?: NextOptions },
): Promise<readonly NextToken[]> {
  const sampler = await edge.openSampler(sampling, prompt)
  const made: NextToken[] = []
  let [rows, position, count] = [await edge.embed(prompt), 0, prompt.length]
  while (made.length < settings.count) {
    const hidden = await stage.step({ slot: 0, layers, position, count, outputs: 1, rows })
    const next = await edge.next(sampler, hidden, settings.next)
    made.push(next)
    position += count
    rows = next.row
    count = 1
  }
  await edge.closeSampler(sampler)
  await stage.release(0)
  return made
}

const tokensOf = (made: readonly NextToken[]): readonly number[] => made.map(({ token }) => token)
const refusesWith = (code: string) => (error: unknown) => error instanceof KoinonError && error.code === code

test('text comes back byte by byte from its tokens, whatever the script', async () => {
  for (const text of ['Hello, world.\n', '🦊 café naïve Ωμέγα 日本語 \t  x', '', ' ', 'a\u0000b', '👩‍👩‍👧‍👦']) {
    const tokens = await edge.tokenize(text, { addSpecial: false, parseSpecial: false })
    assert.equal(new TextDecoder().decode(concatBytes(await edge.pieces(tokens, { special: false }))), text)
  }
})

test('control tokens in a text are read only where the caller asks for it, and written only where asked for', async () => {
  const parsed = await edge.tokenize('<|im_end|>', SPECIAL)
  assert.equal(parsed.length, 1)
  assert.ok((await edge.tokenize('<|im_end|>', { addSpecial: false, parseSpecial: false })).length > 1)
  const [hidden] = await edge.pieces(parsed, { special: false })
  const [shown] = await edge.pieces(parsed, { special: true })
  assert.equal(hidden?.byteLength, 0)
  assert.equal(new TextDecoder().decode(shown), '<|im_end|>')
})

test('loading tells what chat templates need', async () => {
  const report = await edge.load({ file: FILE })
  assert.equal(report.width, 128)
  assert.equal(report.vocabularySize, reference.vocabularySize)
  assert.equal(report.eosText, '<|im_end|>')
  assert.equal(report.pid, edge.status().pid)
})

test('a greedy answer is the reference engine’s, token for token and logit for logit', async () => {
  const prompt = await edge.tokenize(PROMPT, SPECIAL)
  const expected = await reference.generate(prompt, 60, { logits: true })
  const made = await generate(prompt, GREEDY, { count: 60, next: { logits: true } })
  assert.deepEqual(tokensOf(made), [...expected.tokens])
  made.forEach(({ logits }, i) => assert.deepEqual(logits, expected.logits?.[i], `logits of token ${i}`))
  assert.equal(expected.decodeMs.length, 59)
  const text = new TextDecoder().decode(concatBytes(made.map(({ piece }) => piece)))
  assert.match(text, /fox/)
  assert.match(text, /lantern/)
})

test('the end of the answer is told', async () => {
  const prompt = await edge.tokenize(PROMPT, SPECIAL)
  const made = await generate(prompt, GREEDY, { count: 200 })
  const end = made.findIndex(({ isEnd }) => isEnd)
  assert.ok(end > 0)
  assert.equal(made[end]?.piece.byteLength, 0)
})

test('the same seed gives the same answer, another seed another one', async () => {
  const prompt = await edge.tokenize(PROMPT, SPECIAL)
  const run = async (seed: number) => tokensOf(await generate(prompt, { ...WARM, seed }, { count: 40 }))
  const first = await run(7)
  assert.deepEqual(await run(7), first)
  assert.notDeepEqual(await run(8), first)
  // libllama reads this seed as "random": it must be a seed like any other here.
  assert.deepEqual(await run(0xffff_ffff), await run(0xffff_ffff))
})

test('scores are of the model’s own distribution, whatever the sampling', async () => {
  const prompt = await edge.tokenize(PROMPT, SPECIAL)
  const next = { topLogprobs: 5, logits: true }
  const [plain] = await generate(prompt, GREEDY, { count: 1, next })
  const [warm] = await generate(prompt, { ...WARM, temperature: 2 }, { count: 1, next })
  assert.equal(plain?.top?.length, 5)
  assert.deepEqual(plain.chosen, plain.top[0])
  assert.deepEqual(warm?.top, plain.top)
  assert.ok(plain.logits !== undefined)
  const sum = plain.logits.reduce((sum, logit) => sum + Math.exp(logit), 0)
  assert.ok(Math.abs((plain.chosen?.logprob ?? 0) - ((plain.logits[plain.token] ?? 0) - Math.log(sum))) < 1e-6)
})

test('a bias forbids a token, and penalties change a greedy answer', async () => {
  const prompt = await edge.tokenize(PROMPT, SPECIAL)
  const [plain] = await generate(prompt, GREEDY, { count: 1 })
  const token = plain?.token ?? -1
  const [biased] = await generate(prompt, { ...GREEDY, logitBias: { [token]: -100 } }, { count: 1 })
  assert.notEqual(biased?.token, token)
  const [forced] = await generate(prompt, { ...GREEDY, logitBias: { 300: 100 } }, { count: 1 })
  assert.equal(forced?.token, 300)
  const penalized = await generate(prompt, { ...GREEDY, frequencyPenalty: 2 }, { count: 40 })
  assert.notDeepEqual(tokensOf(penalized), tokensOf(await generate(prompt, GREEDY, { count: 40 })))
})

test('penalties look back into the prompt', async () => {
  const prompt = await edge.tokenize(PROMPT, SPECIAL)
  const [plain] = await generate(prompt, GREEDY, { count: 1 })
  const sampling = { ...GREEDY, presencePenalty: 100 }
  const hidden = await stage.step({
    slot: 0,
    layers,
    position: 0,
    count: prompt.length,
    outputs: 1,
    rows: await edge.embed(prompt),
  })
  await stage.release(0)
  const sampleAfter = async (history: readonly number[]): Promise<number> => {
    const sampler = await edge.openSampler(sampling, Int32Array.from(history))
    const { token } = await edge.next(sampler, hidden)
    await edge.closeSampler(sampler)
    return token
  }
  const token = plain?.token ?? -1
  assert.equal(await sampleAfter([]), token)
  assert.notEqual(await sampleAfter([token]), token)
  // Only the last 64 tokens count.
  assert.equal(await sampleAfter([token, ...Array.from({ length: 64 }, () => 300)]), token)
})

test('a sampler that was closed or never opened is refused', async () => {
  const row = new Uint8Array(4 * 128)
  await assert.rejects(edge.next(4_000_000, row), refusesWith('EDGE_SAMPLER_UNKNOWN'))
  const sampler = await edge.openSampler(GREEDY, new Int32Array(0))
  await edge.closeSampler(sampler)
  await assert.rejects(edge.next(sampler, row), refusesWith('EDGE_SAMPLER_UNKNOWN'))
})

test('samplers are counted', async () => {
  const samplers = await Promise.all(
    Array.from({ length: SAMPLERS_MAX }, () => edge.openSampler(GREEDY, new Int32Array(0))),
  )
  await assert.rejects(edge.openSampler(GREEDY, new Int32Array(0)), refusesWith('EDGE_SAMPLERS_FULL'))
  await Promise.all(samplers.map(sampler => edge.closeSampler(sampler)))
  await edge.closeSampler(await edge.openSampler(GREEDY, new Int32Array(0)))
})

test('settings that make no sense are refused', async () => {
  const manyBiases = Object.fromEntries(Array.from({ length: LOGIT_BIAS_MAX + 1 }, (_, i) => [i, 0]))
  for (const wrong of [
    { temperature: 3 },
    { topP: -1 },
    { repeatPenalty: 0 },
    { seed: 2 ** 32 },
    { penaltyLastN: 1e9 },
    { logitBias: { 999999: 1 } },
    { logitBias: { fox: 1 } },
    { logitBias: manyBiases },
  ]) {
    const sampling = { ...GREEDY, ...wrong } as SamplingOptions
    await assert.rejects(edge.openSampler(sampling, new Int32Array(0)), refusesWith('EDGE_SAMPLING_INVALID'))
  }
})

test('tokens, rows and requests that cannot be are refused, and the child lives on', async () => {
  const { pid } = edge.status()
  const wrong = Int32Array.of(5_000_000)
  await assert.rejects(edge.embed(wrong), refusesWith('ENGINE_TOKEN_UNKNOWN'))
  await assert.rejects(edge.embed(Int32Array.of(-1)), refusesWith('ENGINE_TOKEN_UNKNOWN'))
  await assert.rejects(edge.pieces(wrong, { special: true }), refusesWith('ENGINE_TOKEN_UNKNOWN'))
  const tooLong = 'x'.repeat(CHILD_FRAME_BYTES_MAX)
  await assert.rejects(edge.tokenize(tooLong, SPECIAL), refusesWith('ENGINE_REQUEST_TOO_LARGE'))
  await assert.rejects(edge.tokenize(tooLong.slice(0, 5_000_000), SPECIAL), refusesWith('EDGE_TEXT_TOO_LONG'))
  const sampler = await edge.openSampler(GREEDY, new Int32Array(0))
  const poison = new Uint8Array(new Float32Array(128).fill(Number.NaN).buffer)
  await assert.rejects(edge.next(sampler, poison), refusesWith('ENGINE_NON_FINITE'))
  const row = new Uint8Array(4 * 128)
  await assert.rejects(edge.next(sampler, row, { topLogprobs: 21 }), refusesWith('EDGE_SAMPLING_INVALID'))
  await assert.rejects(edge.next(sampler, row.subarray(4)), refusesWith('ENGINE_BAD_STEP'))
  await edge.closeSampler(sampler)
  assert.equal(edge.status().pid, pid)
})

test('a truncated file, a file of garbage and no file are refused with a reason, and the next load works', async t => {
  const engine = createEdgeEngine(deps, options)
  const model = readFileSync(FILE)
  const write = (name: string, bytes: Uint8Array): string => {
    const file = path.join(directory, name)
    writeFileSync(file, bytes)
    return file
  }
  t.after(() => engine.stop())
  await engine.load({ file: FILE })
  const bad = [
    write('half.gguf', model.subarray(0, model.length / 2)),
    write('header.gguf', model.subarray(0, 20_000)),
    write('garbage.gguf', seededRandom(1).bytes(50_000)),
    write('empty.gguf', new Uint8Array(0)),
    path.join(directory, 'absent.gguf'),
  ]
  for (const file of bad) {
    await assert.rejects(engine.load({ file }), (error: unknown) => {
      assert.ok(error instanceof KoinonError, String(error))
      assert.notEqual(error.code, 'ENGINE_CRASHED')
      return true
    })
    assert.equal(engine.status().state, 'failed')
    await assert.rejects(engine.tokenize('x', SPECIAL), KoinonError)
  }
  await engine.load({ file: FILE })
  assert.equal(engine.status().state, 'ready')
})

test('a hostile vocabulary costs at most its own child', async () => {
  const engine = createEdgeEngine(deps, options)
  const model = readFileSync(FILE)
  const random = seededRandom(20_261_121)
  const [start, end] = [model.indexOf('tokenizer.ggml.tokens') + 100, model.indexOf('tokenizer.chat_template')]
  const letters = Array.from({ length: end - start }, (_, i) => start + i).filter(at => isLetter(model[at] ?? 0))
  const codes = new Set<string>()
  for (let round = 0; round < 12; round++) {
    // Letters become other letters, so the file keeps its form and what is wrong reaches libllama: tokens twice, keys
    // and merges of tokens that are not there.
    const bytes = Uint8Array.from(model)
    for (let change = 0; change < 40; change++) {
      bytes[letters[random.uint32() % letters.length] ?? 0] = 97 + (random.uint32() % 26)
    }
    const file = path.join(directory, `hostile-${round}.gguf`)
    writeFileSync(file, bytes)
    const code = await engine
      .load({ file })
      .then(() => engine.tokenize('Hello 🦊', SPECIAL))
      .then(() => 'OK', codeOf)
    codes.add(code)
  }
  // Otherwise this test has not reached what it is about.
  assert.ok(codes.has('ENGINE_CRASHED'), [...codes].join(' '))
  assert.ok(!codes.has('INTERNAL'), [...codes].join(' '))
  await engine.load({ file: FILE })
  assert.ok((await engine.tokenize('Hello', SPECIAL)).length > 0)
  await engine.stop()
})

test('a crash report has the text of the failed assertion', async () => {
  const engine = createEdgeEngine(deps, options)
  const bytes = readFileSync(FILE)
  // The same token twice: "th" is written over "he", both tokens of this vocabulary.
  const tokenAt = (text: string): number => {
    const entry = new Uint8Array(8 + text.length)
    entry[0] = text.length
    entry.set(new TextEncoder().encode(text), 8)
    return bytes.indexOf(entry, bytes.indexOf('tokenizer.ggml.tokens')) + 8
  }
  bytes.copy(bytes, tokenAt('he'), tokenAt('th'), tokenAt('th') + 2)
  const file = path.join(directory, 'twice.gguf')
  writeFileSync(file, bytes)
  await assert.rejects(engine.load({ file }), /GGML_ASSERT.*token_to_id/)
  assert.equal(engine.status().state, 'failed')
  assert.equal(engine.status().pid, undefined)
  await engine.stop()
})

function isLetter(byte: number): boolean {
  return byte >= 97 && byte <= 122
}
