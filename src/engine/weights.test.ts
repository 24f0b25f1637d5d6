import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ggmlTypeNamed, type GgufFile, type GgufTensor } from '#formats'
import { findWeights, type WeightSpec } from './weights.ts'

const SPECS: readonly WeightSpec[] = [
  { name: 'blk.0.attn_q.weight', dims: [64, 32], use: 'mulMat' },
  { name: 'blk.0.attn_q.bias', dims: [32], use: 'add', isOptional: true },
]

/** A header with these tensors and nothing else. */
function fileWith(tensors: readonly { name: string; dims: readonly number[]; type: string }[]): GgufFile {
  const full: GgufTensor[] = tensors.map(({ name, dims, type }) => {
    const found = ggmlTypeNamed(type) ?? assert.fail(type)
    return { name, dims, type: found, offset: 0, size: 0 }
  })
  const tensorsByName = new Map(full.map(tensor => [tensor.name, tensor]))
  return { version: 3, metadata: new Map(), tensors: full, tensorsByName, alignment: 32, dataOffset: 0, fileSize: 0 }
}

test('weights are found by name; a bias that the file does not have is left out', () => {
  const file = fileWith([{ name: 'blk.0.attn_q.weight', dims: [64, 32], type: 'Q8_0' }])
  assert.deepEqual([...findWeights(file, SPECS).keys()], [SPECS[0]])
})

test('a missing weight is named', () => {
  assert.throws(() => findWeights(fileWith([]), SPECS), {
    code: 'ENGINE_TENSOR_MISSING',
    message: /blk\.0\.attn_q\.weight/,
  })
})

test('a weight of another shape is refused with both shapes', () => {
  const file = fileWith([{ name: 'blk.0.attn_q.weight', dims: [64, 33], type: 'Q8_0' }])
  assert.throws(() => findWeights(file, SPECS), { code: 'ENGINE_TENSOR_SHAPE', message: /64 x 33.*64 x 32/ })
  const deeper = fileWith([{ name: 'blk.0.attn_q.weight', dims: [64, 32, 2], type: 'Q8_0' }])
  assert.throws(() => findWeights(deeper, SPECS), { code: 'ENGINE_TENSOR_SHAPE' })
})

test('types that would end the process inside ggml are refused', () => {
  for (const type of ['I32', 'F64', 'Q8_1', 'Q8_K']) {
    const file = fileWith([{ name: 'blk.0.attn_q.weight', dims: [64, 32], type }])
    assert.throws(() => findWeights(file, SPECS), { code: 'ENGINE_TENSOR_TYPE' }, type)
  }
  const bias = fileWith([
    { name: 'blk.0.attn_q.weight', dims: [64, 32], type: 'Q4_K' },
    { name: 'blk.0.attn_q.bias', dims: [32], type: 'F16' },
  ])
  assert.throws(() => findWeights(bias, SPECS), { code: 'ENGINE_TENSOR_TYPE', message: /F32 is needed/ })
})
