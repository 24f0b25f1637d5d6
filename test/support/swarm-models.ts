/** Models without meaning for the tests of the swarm: a file of chance, and the core that describes it. */
import { encode } from '@ipld/dag-cbor'
import { seededRandom, toHex } from '#base'
import { sha256 } from '#crypto'
import { type HashedFile, hashSource, memorySource } from '#formats'

export type TestModel = {
  readonly id: string
  readonly core: Uint8Array<ArrayBuffer>
  readonly bytes: Uint8Array<ArrayBuffer>
  readonly root: Uint8Array
  readonly hashed: HashedFile
}

const HEADER_BYTES = 4096
const F32 = 0

/** @param size bytes of the file; a multiple of 32, more than 8192 */
export async function testModel(seed: number, size: number): Promise<TestModel> {
  const bytes = noise(seed, size)
  const hashed = await hashSource(memorySource(bytes))
  const { root } = hashed.tree
  const tensorBytes = size - HEADER_BYTES
  const tensors = [['blk.0.weight', [tensorBytes / 4], F32, HEADER_BYTES, tensorBytes]]
  const core = new Uint8Array(encode({ format: 1, files: [{ root, length: size }], tensors }))
  return { id: toHex(sha256(core)), core, bytes, root, hashed }
}

/** Fast and not compressible; the same for the same seed. */
export function noise(seed: number, size: number): Uint8Array<ArrayBuffer> {
  const random = seededRandom(seed)
  const words = new Uint32Array(Math.ceil(size / 4))
  let a = random.uint32() | 1
  for (let at = 0; at < words.length; at++) {
    a ^= a << 13
    a ^= a >>> 17
    a ^= a << 5
    words[at] = a
  }
  return new Uint8Array(words.buffer, 0, size)
}
