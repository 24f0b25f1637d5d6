import assert from 'node:assert/strict'
import { mkdtemp, open, rm, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, beforeEach, test } from 'node:test'
import { codeOf } from '#base'
import { patchTensor } from '../../test/support/patch-gguf.ts'
import { writeRandomGguf } from '../../test/support/random-gguf.ts'
import { EdgeSession } from './edge-session.ts'
import { type GgmlRuntime, openRuntime } from './ggml/runtime.ts'
import { StageSession } from './stage-session.ts'
import type { StageStep } from './types.ts'

const LAYERS = { first: 0, last: 2 }
const WIDTH = 128

let runtime: GgmlRuntime
let directory = ''
let file = ''
let stage: StageSession

before(async () => {
  runtime = openRuntime({ threads: 1, device: 'cpu' })
  directory = await mkdtemp(join(tmpdir(), 'koinon-refusals-'))
  file = join(directory, 'small.gguf')
  await writeRandomGguf(file, small)
})

beforeEach(async () => {
  stage = new StageSession(runtime)
  await stage.load({ file, layers: LAYERS, slots: 2, contextMax: 600 })
})

after(() => rm(directory, { recursive: true, force: true }))

const small = {
  architecture: 'llama',
  layers: 2,
  width: WIDTH,
  heads: 2,
  headDim: 64,
  feedForward: 256,
  type: 'Q8_0',
} as const

/** Rows that look like activations, different for each seed. */
function someRows(count: number, seed = 1): Uint8Array {
  return new Uint8Array(Float32Array.from({ length: count * WIDTH }, (_, i) => Math.sin(seed * (i + 1))).buffer)
}

function rowsOf(value: number, count: number): Uint8Array {
  return new Uint8Array(new Float32Array(count * WIDTH).fill(value).buffer)
}

function stepOf(change: Partial<StageStep> = {}): StageStep {
  const count = change.count ?? 1
  return { slot: 0, layers: LAYERS, position: 0, count, outputs: count, rows: someRows(count), ...change }
}

/** A generation: prefill of 70 rows, where the kernels for many rows run, then three single rows. */
function generate(session: StageSession, slot: number): Uint8Array[] {
  const prefill = session.step(stepOf({ slot, count: 70, outputs: 1, rows: someRows(70, 3) }))
  const decoded = [0, 1, 2].map(i => session.step(stepOf({ slot, position: 70 + i, rows: someRows(1, 5 + i) })))
  return [prefill, ...decoded]
}

test('after NaN rows were refused, an honest generation in the same slot is what it is in a fresh one', async () => {
  const expected = generate(stage, 1)
  for (const poison of [NaN, Infinity, -Infinity]) {
    assert.throws(() => stage.step(stepOf({ count: 100, rows: rowsOf(poison, 100) })), { code: 'ENGINE_NON_FINITE' })
  }
  assert.deepEqual(generate(stage, 0), expected)
})

test('rows that overflow inside are refused on the way out, and a release makes the slot good again', async () => {
  // A norm weight so large that values overflow f16 for rows that are all in one number, but not for ordinary rows.
  const touchy = join(directory, 'touchy.gguf')
  await writeRandomGguf(touchy, small)
  await patchTensor(touchy, 'blk.0.attn_norm.weight', { index: 5, value: 5e4 })
  await stage.load({ file: touchy, layers: LAYERS, slots: 2, contextMax: 600 })
  const expected = generate(stage, 1)
  const spikes = new Float32Array(100 * WIDTH)
  for (let row = 0; row < 100; row++) spikes[row * WIDTH + 5] = 1
  const poison = stepOf({ count: 100, rows: new Uint8Array(spikes.buffer) })
  assert.throws(() => stage.step(poison), { code: 'ENGINE_NON_FINITE', message: /computed/ })
  stage.release(0)
  assert.deepEqual(generate(stage, 0), expected)
})

test('a model whose weights are not numbers is refused when it is loaded', async () => {
  const broken = join(directory, 'nan.gguf')
  // In quantized products a NaN is rounded to some integer; in plain ones it stays.
  await writeRandomGguf(broken, { ...small, type: 'F32' })
  await patchTensor(broken, 'blk.1.ffn_norm.weight', { index: 0, value: NaN })
  await assert.rejects(stage.load({ file: broken, layers: LAYERS, slots: 1, contextMax: 256 }), {
    code: 'ENGINE_NON_FINITE',
  })
  assert.throws(() => stage.step(stepOf()), { code: 'ENGINE_NOT_LOADED' })
})

test('generations in two slots do not see each other', () => {
  const alone = generate(stage, 0)
  stage.release(0)
  stage.step(stepOf({ slot: 1, count: 200, rows: someRows(200, 9) }))
  assert.deepEqual(generate(stage, 0), alone)
})

test('a released slot starts from zero again', () => {
  const expected = generate(stage, 0)
  stage.step(stepOf({ position: 73, count: 300, rows: someRows(300, 11) }))
  stage.release(0)
  assert.deepEqual(generate(stage, 0), expected)
})

test('rolling back is writing again from an earlier position', () => {
  const expected = generate(stage, 0)
  stage.step(stepOf({ position: 73, rows: someRows(1, 20) }))
  assert.deepEqual(stage.step(stepOf({ position: 72, rows: someRows(1, 7) })), expected[3])
})

test('the last rows come back, or none, or all, with the same bits', () => {
  const all = stage.step(stepOf({ count: 5 }))
  const last = stage.step(stepOf({ count: 5, outputs: 1 }))
  const none = stage.step(stepOf({ count: 5, outputs: 0 }))
  assert.equal(all.byteLength, 5 * WIDTH * 4)
  assert.deepEqual(last, all.slice(-WIDTH * 4))
  assert.equal(none.byteLength, 0)
})

test('a step without outputs fills the cache all the same', () => {
  const expected = generate(stage, 1)
  stage.step(stepOf({ count: 70, outputs: 0, rows: someRows(70, 3) }))
  assert.deepEqual(stage.step(stepOf({ position: 70, rows: someRows(1, 5) })), expected[1])
})

test('a part of the loaded layers computes what the parts together compute', () => {
  const whole = stage.step(stepOf({ count: 3 }))
  const first = stage.step(stepOf({ slot: 1, count: 3, layers: { first: 0, last: 1 } }))
  const onlyFill = stage.step(stepOf({ slot: 1, count: 3, outputs: 0, layers: { first: 1, last: 2 }, rows: first }))
  assert.equal(onlyFill.byteLength, 0)
  assert.deepEqual(stage.step(stepOf({ slot: 1, count: 3, layers: { first: 1, last: 2 }, rows: first })), whole)
})

test('a step that does not fit is refused, and says why', () => {
  const refused = (change: Partial<StageStep>, code: string): void => {
    assert.throws(() => stage.step(stepOf(change)), { code })
  }
  refused({ slot: 2 }, 'ENGINE_BAD_STEP')
  refused({ slot: -1 }, 'ENGINE_BAD_STEP')
  refused({ count: 0, rows: new Uint8Array(0) }, 'ENGINE_BAD_STEP')
  refused({ count: 513 }, 'ENGINE_BAD_STEP')
  refused({ count: 4, outputs: 2 }, 'ENGINE_BAD_STEP')
  refused({ position: -1 }, 'ENGINE_BAD_STEP')
  refused({ position: 0.5 }, 'ENGINE_BAD_STEP')
  refused({ rows: someRows(2) }, 'ENGINE_BAD_STEP')
  refused({ layers: { first: 0, last: 3 } }, 'ENGINE_BAD_LAYERS')
  refused({ layers: { first: 1, last: 1 } }, 'ENGINE_BAD_LAYERS')
  // 600 positions were asked for; slots grow to the next multiple of 256.
  refused({ position: 768 }, 'ENGINE_CONTEXT_FULL')
  refused({ position: 700, count: 100 }, 'ENGINE_CONTEXT_FULL')
  assert.equal(stage.step(stepOf({ position: 767 })).byteLength, WIDTH * 4)
  assert.throws(() => stage.release(2), { code: 'ENGINE_BAD_STEP' })
})

test('a load that cannot be is refused before memory is spent', async () => {
  const load = (change: object): Promise<unknown> =>
    stage.load({ file, layers: LAYERS, slots: 1, contextMax: 256, ...change })
  await assert.rejects(load({ layers: { first: 1, last: 3 } }), { code: 'ENGINE_BAD_LAYERS' })
  await assert.rejects(load({ slots: 0 }), { code: 'ENGINE_BAD_LOAD' })
  await assert.rejects(load({ contextMax: 0 }), { code: 'ENGINE_BAD_LOAD' })
  await assert.rejects(load({ slots: 1000, contextMax: 10_000_000 }), error => {
    assert.equal(codeOf(error), 'ENGINE_OUT_OF_MEMORY')
    assert.match(String(error), /2 layers with 1000 slots of 10000128 positions need \d.*free on CPU/)
    return true
  })
  assert.throws(() => stage.step(stepOf()), { code: 'ENGINE_NOT_LOADED' })
  stage.free()
})

test('files that are broken or strange are refused by name', async () => {
  const broken = join(directory, 'broken.gguf')
  const load = (): Promise<unknown> => stage.load({ file: broken, layers: LAYERS, slots: 1, contextMax: 256 })
  await writeRandomGguf(broken, small)
  await truncate(broken, 100_000)
  await assert.rejects(load(), { code: 'FORMAT_GGUF_TRUNCATED' })
  await writeRandomGguf(broken, small)
  await replaceText(broken, 'blk.1.ffn_up.weight', 'blk.1.ffn_xx.weight')
  await assert.rejects(load(), { code: 'FORMAT_MODEL_INVALID', message: /blk\.1\.ffn_up\.weight/ })
  await writeRandomGguf(broken, { ...small, metadata: { 'llama.feed_forward_length': 128 } })
  await assert.rejects(load(), { code: 'FORMAT_MODEL_INVALID' })
  await writeRandomGguf(broken, { ...small, metadata: { 'general.architecture': 'mamba' } })
  await assert.rejects(load(), { code: 'FORMAT_ARCHITECTURE_UNKNOWN', message: /mamba.*llama, qwen2, qwen3, gemma3/ })
})

test('a session can be loaded again, and reports what it holds', async () => {
  const report = await stage.load({ file, layers: { first: 1, last: 2 }, slots: 3, contextMax: 300 })
  assert.equal(report.width, WIDTH)
  assert.equal(report.layerCount, 2)
  assert.equal(report.contextMax, 512)
  assert.equal(report.kvBytes, 2 * 3 * 512 * (2 * 64) * 2)
  assert.ok(report.stepMs > 0)
  assert.match(report.profile, /^llama\.cpp-0\.4\.0\/cpu-\w+\/t1\/[\w+]+\/kv-f16\/wire-f32$/)
  stage.free()
  stage.free()
})

test('progress counts every byte of the weights', async () => {
  const calls: number[][] = []
  const report = await stage.load({ file, layers: LAYERS, slots: 1, contextMax: 256 }, (...call) => calls.push(call))
  assert.deepEqual(calls.at(-1), [report.weightBytes, report.weightBytes])
  assert.ok(calls.length > 10)
})

test('the edge refuses tokens that are not in the vocabulary, and rows of a wrong width', async () => {
  const edge = new EdgeSession(runtime)
  const report = await edge.load(file)
  assert.equal(report.vocabularySize, 512)
  assert.throws(() => edge.embed(Int32Array.of(512)), { code: 'ENGINE_TOKEN_UNKNOWN' })
  assert.throws(() => edge.embed(Int32Array.of(-1)), { code: 'ENGINE_TOKEN_UNKNOWN' })
  assert.throws(() => edge.logits(someRows(2)), { code: 'ENGINE_BAD_STEP' })
  assert.throws(() => edge.logits(rowsOf(NaN, 1)), { code: 'ENGINE_NON_FINITE' })
  assert.equal(edge.embed(new Int32Array(0)).byteLength, 0)
  assert.equal(edge.logits(someRows(1)).length, 512)
  edge.free()
})

/** Replaces a text by another of the same length. */
async function replaceText(path: string, from: string, to: string): Promise<void> {
  const handle = await open(path, 'r+')
  try {
    const head = Buffer.alloc(65_536)
    await handle.read(head, 0, head.length, 0)
    const at = head.indexOf(from)
    assert.ok(at > 0 && from.length === to.length)
    await handle.write(Buffer.from(to), 0, to.length, at)
  } finally {
    await handle.close()
  }
}

test('an audit computes what a step in a slot computes, leaves every slot as it was, and needs none', async () => {
  const expected = generate(stage, 1)
  const rows = someRows(9, 4)
  const plain = stage.step(stepOf({ slot: 0, count: 9, rows }))
  stage.release(0)
  const first = stage.step(stepOf({ slot: 0, count: 70, outputs: 1, rows: someRows(70, 3) }))
  assert.deepEqual(stage.audit({ layers: LAYERS, count: 9, rows }), plain)
  const one = stage.audit({ layers: { first: 1, last: 2 }, count: 1, rows: someRows(1) })
  assert.deepEqual(stage.audit({ layers: { first: 1, last: 2 }, count: 1, rows: someRows(1) }), one)
  // The generation in slot 0 goes on as if nothing had been.
  const rest = [0, 1, 2].map(i => stage.step(stepOf({ slot: 0, position: 70 + i, rows: someRows(1, 5 + i) })))
  assert.deepEqual([first, ...rest], expected)
})

test('an audit is refused for what is no part of the layers, no whole rows, or not finite', () => {
  const audit = (change: Partial<Parameters<StageSession['audit']>[0]>) => () =>
    stage.audit({ layers: LAYERS, count: 2, rows: someRows(2), ...change })
  assert.throws(audit({ layers: { first: 1, last: 3 } }), { code: 'ENGINE_BAD_LAYERS' })
  assert.throws(audit({ rows: someRows(2).subarray(4) }), { code: 'ENGINE_BAD_STEP' })
  assert.throws(audit({ count: 0, rows: new Uint8Array(0) }), { code: 'ENGINE_BAD_STEP' })
  assert.throws(audit({ rows: rowsOf(NaN, 2) }), { code: 'ENGINE_NON_FINITE' })
  assert.equal(audit({})().byteLength, 2 * WIDTH * 4)
})
