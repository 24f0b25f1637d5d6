/** What parts of a model weigh, for planning: from the tensor index and the hyper-parameters alone. */
import type { GgufFile, GgufTensor } from './gguf.ts'
import type { ModelConfig } from './model-config.ts'

/** The layer that a tensor belongs to ("blk.7.attn_q.weight"), or undefined for the edges and what all layers share. */
export function layerOf(tensorName: string): number | undefined {
  const match = /^blk\.(\d{1,5})\./.exec(tensorName)
  return match === null ? undefined : Number(match[1])
}

/** Bytes of one layer's weights. */
export function layerWeightBytes(gguf: GgufFile, layer: number): number {
  return sumBytes(gguf.tensors.filter(tensor => layerOf(tensor.name) === layer))
}

/**
 * Bytes that the edges load: embedding, final norm, output head. A tied embedding is counted twice: it is looked up in
 * one buffer type and multiplied in another.
 */
export function edgeWeightBytes(gguf: GgufFile): number {
  const isTied = !gguf.tensorsByName.has('output.weight')
  const embedding = gguf.tensorsByName.get('token_embd.weight')?.size ?? 0
  return sumBytes(gguf.tensors.filter(tensor => layerOf(tensor.name) === undefined)) + (isTied ? embedding : 0)
}

/** Bytes of one position's key and value rows (f16) in one layer. */
export function kvBytesPerPosition(config: ModelConfig): number {
  return 2 * config.kvHeads * (config.headDimK + config.headDimV)
}

function sumBytes(tensors: readonly GgufTensor[]): number {
  return tensors.reduce((sum, tensor) => sum + tensor.size, 0)
}
