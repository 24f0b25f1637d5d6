import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { type RandomGgufOptions, writeRandomGguf } from '../../test/support/random-gguf.ts'
import { memorySource } from './byte-source.ts'
import { edgeWeightBytes, kvBytesPerPosition, layerWeightBytes } from './footprint.ts'
import { type GgufFile, type GgufTensor, type GgufValue, readGguf } from './gguf.ts'
import { describeModel, isSlidingLayer } from './model-config.ts'

const root = await mkdtemp(join(tmpdir(), 'koinon-config-'))
after(() => rm(root, { recursive: true, force: true }))

async function modelOf(options: RandomGgufOptions): Promise<GgufFile> {
  const path = join(root, 'model.gguf')
  await writeRandomGguf(path, { layers: 2, vocabulary: 300, ...options })
  return readGguf(memorySource(new Uint8Array(await readFile(path))))
}

const llama = await modelOf({ architecture: 'llama' })

/** The llama model with other metadata; undefined removes an entry. */
function withMetadata(changes: Readonly<Record<string, GgufValue | undefined>>): GgufFile {
  const metadata = new Map(llama.metadata)
  for (const [key, value] of Object.entries(changes)) {
    if (value === undefined) metadata.delete(key)
    else metadata.set(key, value)
  }
  return { ...llama, metadata }
}

function withTensors(change: (tensor: GgufTensor) => GgufTensor | undefined): GgufFile {
  const tensors = llama.tensors.map(change).filter(tensor => tensor !== undefined)
  return { ...llama, tensors, tensorsByName: new Map(tensors.map(tensor => [tensor.name, tensor])) }
}

test('hyper-parameters of a Llama are read with their defaults', () => {
  const config = describeModel(llama)
  assert.partialDeepStrictEqual(config, {
    architecture: 'llama',
    layerCount: 2,
    width: 256,
    feedForward: 512,
    heads: 4,
    kvHeads: 2,
    headDimK: 64,
    headDimV: 64,
    ropeDims: 64,
    ropeBase: 500_000,
    normEpsilon: Math.fround(1e-5),
    attentionScale: 0.125,
    embeddingScale: 1,
    contextTrain: 4096,
    vocabularySize: 300,
    tokenizerModel: 'gpt2',
    fileType: 0,
  })
  assert.match(config.chatTemplate ?? '', /im_start/)
  assert.equal(config.slidingWindow, undefined)
  assert.deepEqual(config.ropeScaling, {
    type: 'linear',
    factor: 1,
    freqScale: 1,
    origContext: 4096,
    extFactor: 0,
    attnFactor: 1,
    betaFast: 32,
    betaSlow: 1,
  })
})

test('what a file leaves out falls back as in llama.cpp', () => {
  const config = describeModel(
    withMetadata({
      'llama.attention.key_length': undefined,
      'llama.attention.value_length': undefined,
      'llama.rope.dimension_count': undefined,
      'llama.rope.freq_base': undefined,
      'tokenizer.chat_template': undefined,
      'general.name': undefined,
    }),
  )
  assert.partialDeepStrictEqual(config, { headDimK: 64, headDimV: 64, ropeDims: 64, ropeBase: 10_000, name: 'unnamed' })
  assert.equal(config.chatTemplate, undefined)
})

test('rope scaling follows llama.cpp', () => {
  const scaling = (changes: Record<string, GgufValue>) => describeModel(withMetadata(changes)).ropeScaling
  const factor = { 'llama.rope.scaling.factor': 4 }
  assert.partialDeepStrictEqual(scaling(factor), { type: 'linear', factor: 4, freqScale: 0.25, extFactor: 0 })
  assert.partialDeepStrictEqual(scaling({ 'llama.rope.scale_linear': 2 }), { type: 'linear', factor: 2 })
  assert.partialDeepStrictEqual(scaling({ ...factor, 'llama.rope.scaling.type': 'none' }), { factor: 1, freqScale: 1 })
  const yarn = scaling({
    ...factor,
    'llama.rope.scaling.type': 'yarn',
    'llama.rope.scaling.original_context_length': 1024,
  })
  assert.partialDeepStrictEqual(yarn, { type: 'yarn', freqScale: 0.25, extFactor: 1, origContext: 1024 })
  assert.ok(Math.abs(yarn.attnFactor - 1) < 1e-6, 'llama.cpp cancels the factor that ggml multiplies in')
})

test('Gemma 3 has sliding layers with their own rotation, scaled embeddings and a soft cap where it says so', async () => {
  const config = describeModel(await modelOf({ architecture: 'gemma3', slidingPattern: 0, slidingWindow: 64 }))
  assert.deepEqual(config.slidingWindow, { size: 64, period: 6, ropeBase: 10_000, ropeFreqScale: 1 })
  assert.deepEqual(
    [0, 4, 5, 6, 11].map(layer => isSlidingLayer(config, layer)),
    [true, true, false, true, false],
  )
  assert.equal(config.embeddingScale, 16)
  assert.equal(config.finalLogitSoftcap, undefined)
  const capped = await modelOf({
    architecture: 'gemma3',
    slidingWindow: 0,
    metadata: { 'gemma3.final_logit_softcapping': { float: 30 } },
  })
  assert.equal(describeModel(capped).finalLogitSoftcap, 30)
  assert.equal(describeModel(capped).slidingWindow, undefined)
})

test('every architecture is described, and its tensors are checked', async () => {
  for (const architecture of ['llama', 'qwen2', 'qwen3', 'gemma3'] as const) {
    const model = await modelOf({ architecture, ropeFreqs: architecture === 'llama' })
    assert.equal(describeModel(model).architecture, architecture)
  }
})

test('an unknown architecture is refused by name, with those that are supported', () => {
  const unknown = withMetadata({ 'general.architecture': 'mamba' })
  assert.throws(() => describeModel(unknown), {
    code: 'FORMAT_ARCHITECTURE_UNKNOWN',
    message: /"mamba" is not supported; supported are llama, qwen2, qwen3, gemma3/,
  })
  assert.throws(() => describeModel(withMetadata({ 'general.architecture': undefined })), {
    code: 'FORMAT_ARCHITECTURE_UNKNOWN',
  })
})

test('absurd, mistyped and missing values are refused', () => {
  const changes: readonly Record<string, GgufValue | undefined>[] = [
    { 'llama.block_count': undefined },
    { 'llama.block_count': 0 },
    { 'llama.block_count': 1e9 },
    { 'llama.block_count': 1.5 },
    { 'llama.block_count': '2' },
    { 'llama.block_count': 2n ** 60n },
    { 'llama.embedding_length': 2 ** 31 },
    { 'llama.attention.head_count': 0 },
    { 'llama.attention.head_count': 3 },
    { 'llama.attention.head_count_kv': 3 },
    { 'llama.attention.head_count_kv': [2, 2, 2] },
    { 'llama.attention.key_length': 32 },
    { 'llama.rope.dimension_count': 32 },
    { 'llama.attention.layer_norm_rms_epsilon': Number.NaN },
    { 'llama.rope.freq_base': Number.POSITIVE_INFINITY },
    { 'tokenizer.ggml.tokens': undefined },
    { 'tokenizer.ggml.tokens': ['a'] },
    { 'tokenizer.chat_template': 7 },
  ]
  for (const change of changes) {
    assert.throws(
      () => describeModel(withMetadata(change)),
      { code: 'FORMAT_MODEL_INVALID' },
      JSON.stringify(change, (_, v) => String(v)),
    )
  }
})

test('what is not computed here is refused by name instead of computed wrongly', () => {
  const changes: readonly [Record<string, GgufValue>, RegExp][] = [
    [{ 'llama.expert_count': 8 }, /mixture of experts/],
    [{ 'split.count': 3 }, /several GGUF files/],
    [{ 'llama.rope.scaling.type': 'longrope' }, /longrope/],
    [{ 'llama.attention.head_count_kv': [2, 4] }, /different "attention.head_count_kv" in each layer/],
  ]
  for (const [change, message] of changes) {
    assert.throws(() => describeModel(withMetadata(change)), { code: 'FORMAT_MODEL_UNSUPPORTED', message })
  }
  const sameInEach = describeModel(withMetadata({ 'llama.attention.head_count_kv': [2, 2] }))
  assert.equal(sameInEach.kvHeads, 2)
})

test('tensors that are missing, of a wrong shape or type, or unknown are refused', () => {
  const name = 'blk.1.ffn_down.weight'
  const change = (fields: Partial<GgufTensor>) =>
    withTensors(tensor => (tensor.name === name ? { ...tensor, ...fields } : tensor))
  const normType = llama.tensorsByName.get('token_embd.weight')?.type
  assert.ok(normType)
  assert.throws(() => describeModel(withTensors(tensor => (tensor.name === name ? undefined : tensor))), {
    code: 'FORMAT_MODEL_INVALID',
    message: /ffn_down.weight" is missing/,
  })
  assert.throws(() => describeModel(change({ dims: [256, 512] })), {
    code: 'FORMAT_MODEL_INVALID',
    message: /is 256 x 512, but must be 512 x 256/,
  })
  assert.throws(() => describeModel(change({ type: { ...normType, name: 'I32' } })), { code: 'FORMAT_MODEL_INVALID' })
  assert.throws(() => describeModel(change({ name: 'blk.1.ffn_down.bias' })), { code: 'FORMAT_MODEL_INVALID' })
  const extra = llama.tensors[0]
  assert.ok(extra)
  const withExtra = { ...llama, tensors: [...llama.tensors, { ...extra, name: 'blk.1.ffn_down.bias' }] }
  assert.throws(() => describeModel(withExtra), { code: 'FORMAT_MODEL_UNSUPPORTED', message: /ffn_down.bias/ })
})

test('weights and KV rows are counted for planning', () => {
  const config = describeModel(llama)
  const matrices = 256 * 256 * 2 + 256 * 128 * 2 + 256 * 512 * 3
  assert.equal(layerWeightBytes(llama, 1), 4 * (matrices + 2 * 256))
  assert.equal(edgeWeightBytes(llama), 4 * (2 * 256 * 300 + 256))
  const tied = withTensors(tensor => (tensor.name === 'output.weight' ? undefined : tensor))
  assert.equal(edgeWeightBytes(tied), edgeWeightBytes(llama), 'a tied table is loaded twice')
  assert.equal(kvBytesPerPosition(config), 2 * (2 * 64 + 2 * 64))
})
