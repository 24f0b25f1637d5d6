/**
 * Writes big llama-shaped GGUF models with random weights fast, for benchmarks that move bytes: blocks of Q8_0 with random
 * numbers and small scales, so that an engine computes finite rows. The same size gives the same bytes.
 */
import { open } from 'node:fs/promises'
import { GgufHeaderWriter } from '../../test/support/gguf-writer.ts'

const WIDTH = 2048
const FEED_FORWARD = 8192
const HEADS = 32
const KV_WIDTH = 512
const VOCABULARY = 2000
const Q8_0 = { id: 8, blockBytes: 34, blockSize: 32 }
const F32 = 0
const ALIGNMENT = 32

type Tensor = { readonly name: string; readonly dims: readonly number[] }

/** @returns how many layers the model has: as many as bring it closest to the size */
export async function writeBigGguf(path: string, sizeBytes: number): Promise<number> {
  const edgeBytes = bytesOf([WIDTH, VOCABULARY]) + bytesOf([WIDTH])
  const perLayer = layerTensors(0).reduce((sum, { dims }) => sum + bytesOf(dims), 0)
  const layers = Math.max(1, Math.round((sizeBytes - edgeBytes) / perLayer))
  const tensors: Tensor[] = [
    { name: 'token_embd.weight', dims: [WIDTH, VOCABULARY] },
    { name: 'output_norm.weight', dims: [WIDTH] },
    ...Array.from({ length: layers }, (_, layer) => layerTensors(layer)).flat(),
  ]
  const file = await open(path, 'w')
  try {
    await file.writeFile(padded(headerOf(tensors, layers)))
    for (const [seed, { dims }] of tensors.entries()) {
      await file.writeFile(padded(dims.length === 1 ? ones(dims) : blocks(dims, seed)))
    }
  } finally {
    await file.close()
  }
  return layers
}

function layerTensors(layer: number): readonly Tensor[] {
  const of = (name: string, dims: readonly number[]): Tensor => ({ name: `blk.${layer}.${name}.weight`, dims })
  return [
    of('attn_norm', [WIDTH]),
    of('attn_q', [WIDTH, WIDTH]),
    of('attn_k', [WIDTH, KV_WIDTH]),
    of('attn_v', [WIDTH, KV_WIDTH]),
    of('attn_output', [WIDTH, WIDTH]),
    of('ffn_norm', [WIDTH]),
    of('ffn_gate', [WIDTH, FEED_FORWARD]),
    of('ffn_up', [WIDTH, FEED_FORWARD]),
    of('ffn_down', [FEED_FORWARD, WIDTH]),
  ]
}

function headerOf(tensors: readonly Tensor[], layers: number): Uint8Array {
  const header = new GgufHeaderWriter()
  const facts = {
    'general.architecture': 'llama',
    'general.name': `Random ${layers}`,
    'llama.block_count': layers,
    'llama.context_length': 4096,
    'llama.embedding_length': WIDTH,
    'llama.feed_forward_length': FEED_FORWARD,
    'llama.attention.head_count': HEADS,
    'llama.attention.head_count_kv': KV_WIDTH / (WIDTH / HEADS),
    'llama.rope.dimension_count': WIDTH / HEADS,
    'llama.vocab_size': VOCABULARY,
    'tokenizer.ggml.model': 'gpt2',
    'tokenizer.ggml.pre': 'llama-bpe',
    'tokenizer.ggml.bos_token_id': 1,
    'tokenizer.ggml.eos_token_id': 2,
  }
  for (const [key, value] of Object.entries(facts)) header.set(key, value)
  header.setFloat('llama.attention.layer_norm_rms_epsilon', 1e-5)
  header.setFloat('llama.rope.freq_base', 500_000)
  const numbers = Array.from({ length: VOCABULARY }, (_, token) => token)
  header.setTexts(
    'tokenizer.ggml.tokens',
    numbers.map(token => `t${token}`),
  )
  header.setIntegers(
    'tokenizer.ggml.token_type',
    numbers.map(() => 1),
  )
  header.setTexts('tokenizer.ggml.merges', ['t 0'])
  let offset = 0
  for (const { name, dims } of tensors) {
    header.addTensor({ name, dims, type: dims.length === 1 ? F32 : Q8_0.id, offset })
    offset += Math.ceil(bytesOf(dims) / ALIGNMENT) * ALIGNMENT
  }
  return header.bytes()
}

function bytesOf(dims: readonly number[]): number {
  const count = dims.reduce((product, size) => product * size, 1)
  return dims.length === 1 ? 4 * count : (count / Q8_0.blockSize) * Q8_0.blockBytes
}

function ones(dims: readonly number[]): Uint8Array {
  return new Uint8Array(new Float32Array(dims[0] ?? 0).fill(1).buffer)
}

/**
 * Blocks of a scale (f16) and 32 signed bytes. A linear congruential generator (Numerical Recipes), because a better one
 * would take minutes for gigabytes that only have to be none like another.
 */
function blocks(dims: readonly number[], seed: number): Uint8Array {
  const data = Buffer.alloc(Math.ceil(bytesOf(dims) / 4) * 4)
  const words = new Uint32Array(data.buffer, data.byteOffset, data.byteLength / 4)
  let word = seed
  for (let at = 0; at < words.length; at++) {
    word = (Math.imul(word, 1_664_525) + 1_013_904_223) >>> 0
    words[at] = word
  }
  const scale = 0x0c00 // 2^-12: rows keep about the size that they have.
  for (let at = 0; at < data.length; at += Q8_0.blockBytes) data.writeUInt16LE(scale, at)
  return data.subarray(0, bytesOf(dims))
}

function padded(bytes: Uint8Array): Uint8Array {
  const rest = bytes.byteLength % ALIGNMENT
  return rest === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(ALIGNMENT - rest)])
}
