/** Cores of models for tests: true ones of small models, and ones in which anything may be a lie. */
import { encode } from '@ipld/dag-cbor'
import { ggmlTypeNamed, memorySource, readGguf, tensorBytes } from '#formats'
import { modelId, type ModelIdentity } from '../../src/formats/model-id.ts'
import { GgufHeaderWriter } from './gguf-writer.ts'

export type WireTensor = readonly [name: unknown, dims: unknown, type: unknown, offset: unknown, size: unknown]

export type WireCore = {
  readonly format: unknown
  readonly files: unknown
  readonly tensors: unknown
}

/** Q8_0: 34 bytes for 32 numbers. */
export const Q8_0 = ggmlTypeNamed('Q8_0')?.id ?? -1

/** A model of this many layers with 1 MiB and a little in each tensor; the offsets are where a converter would put them. */
export function wireTensors(layers: number, rows = 31_000): WireTensor[] {
  const names = ['token_embd.weight', 'output_norm.weight', 'output.weight', 'rope_freqs.weight']
  for (let layer = 0; layer < layers; layer++) names.push(`blk.${layer}.attn_q.weight`, `blk.${layer}.ffn_up.weight`)
  const size = rows * 34
  const step = Math.ceil(size / 32) * 32
  return names.map((name, at) => [name, [32, rows], Q8_0, 4096 + at * step, size])
}

/** The file's length that holds these tensors. */
export function lengthOf(tensors: readonly WireTensor[]): number {
  return Math.max(...tensors.map(([, , , offset, size]) => Number(offset) + Number(size)))
}

/** A core with anything changed. */
export function encodeWireCore(tensors: readonly WireTensor[], over: Partial<WireCore> = {}): Uint8Array<ArrayBuffer> {
  const files = [{ root: new Uint8Array(32).fill(7), length: lengthOf(tensors) }]
  return new Uint8Array(encode({ format: 1, files, tensors, ...over }))
}

/** A small true file of so many tensors with its identity: header, and data that nobody computes with. */
export async function smallModel(
  layers = 2,
  columns = 32 * 1024,
): Promise<ModelIdentity & { readonly bytes: Uint8Array<ArrayBuffer> }> {
  const header = new GgufHeaderWriter()
  header.set('general.name', 'small')
  const type = ggmlTypeNamed('Q8_0')
  if (type === undefined) throw new Error('no Q8_0')
  const names = ['token_embd.weight', 'output_norm.weight', 'output.weight']
  for (let layer = 0; layer < layers; layer++) names.push(`blk.${layer}.attn_q.weight`)
  const step = Math.ceil(tensorBytes(type, [columns]) / 32) * 32
  for (const [at, name] of names.entries())
    header.addTensor({ name, dims: [columns], type: type.id, offset: at * step })
  const head = header.bytes()
  const dataOffset = Math.ceil(head.byteLength / 32) * 32
  const bytes = Uint8Array.from({ length: dataOffset + names.length * step }, (_, i) => (i * 31) & 255)
  bytes.set(head)
  const source = memorySource(bytes)
  return { ...(await modelId(source, await readGguf(source))), bytes }
}
