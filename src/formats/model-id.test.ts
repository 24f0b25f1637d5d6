import assert from 'node:assert/strict'
import { test } from 'node:test'
import { concatBytes, toHex } from '#base'
import { GgufHeaderWriter } from '../../test/support/gguf-writer.ts'
import { type ByteSource, memorySource } from './byte-source.ts'
import { readGguf } from './gguf.ts'
import { hashSource, modelId } from './model-id.ts'

/**
 * Computed apart from this program, over bytes (7 i + 3) mod 256, with Python's hashlib:
 *
 *   leaves = [sha256(d[i:i + 16384]) for i in range(0, len(d), 16384)]; pad with bytes(32) to a power of two
 *   while len(leaves) > 1: leaves = [sha256(leaves[i] + leaves[i + 1]) for i in range(0, len(leaves), 2)]
 */
const ROOTS: readonly (readonly [size: number, root: string])[] = [
  [1, '084fed08b978af4d7d196a7446a86b58009e636b611db16211b65a9aadff29c5'],
  [16_383, '9fa9dd329095e5df6e6f1e297b364f0077596ca659f6ffb9e3e81b994656154b'],
  [16_384, 'ab571d12466f75ae481bdbbbfec70a0c53bf78e2849862addfa9a049d8f6fbc0'],
  [16_385, 'd7be66e551d58efa5386cef624e4af2eba8f3435a253acd07d8fe2bfd291cfca'],
  [3 * 16_384, '4c36f143205b58011b94261a220b146bede8ae0c0617994d0635cf5786699b4b'],
  [5 * 16_384 + 1, '64082e153ae82d733d1db2c382358e56e22e23be1081c2de63b72bd33a3a516f'],
  [8 * 16_384, '9483a8cfc255fc66b7b6ccb7b8a57111e190f2d84d676e4909589b288e57579c'],
  [70 * 16_384 + 5, 'bbfa6132b06fb6da24fc22c335419817c5851904aca5c3fb0aadbdfce4bd8201'],
]

const bytesOf = (size: number): Uint8Array => Uint8Array.from({ length: size }, (_, i) => (7 * i + 3) & 255)

for (const [size, root] of ROOTS) {
  test(`the root of ${size} bytes is BitTorrent v2's`, async () => {
    assert.equal(toHex((await hashSource(memorySource(bytesOf(size)))).tree.root), root)
  })
}

function model(options: { readonly name?: string; readonly tensor?: string; readonly last?: number } = {}): ByteSource {
  const header = new GgufHeaderWriter()
  header.set('general.name', options.name ?? 'one')
  header.addTensor({ name: options.tensor ?? 'a', dims: [8], type: 0, offset: 0 })
  const bytes = header.bytes()
  const data = new Uint8Array(32)
  data[31] = options.last ?? 0
  return memorySource(concatBytes([bytes, new Uint8Array((32 - (bytes.length % 32)) % 32), data]))
}

const idOf = async (source: ByteSource): Promise<string> => (await modelId(source, await readGguf(source))).id

test('one file has one id, and any other byte gives another', async () => {
  const id = await idOf(model())
  assert.equal(await idOf(model()), id)
  assert.match(id, /^[0-9a-f]{64}$/)
  const others = await Promise.all([model({ last: 1 }), model({ name: 'two' }), model({ tensor: 'b' })].map(idOf))
  assert.equal(new Set([id, ...others]).size, 4)
})

test('the form of the core is settled: an id that was published stays valid', async () => {
  // Computed apart from this program too: hashlib, and CBOR (RFC 8949) with map keys by length, then by bytes.
  assert.equal(await idOf(model()), 'd514d88059f2c869f269fa6b9c3918f18e0fef3b3a68d690c80a5163f7fc89bf')
})

test('progress reaches the size of the file, a block at a time', async () => {
  const size = 2 * 1024 * 1024 + 1
  const seen: number[] = []
  let largest = 0
  const source: ByteSource = {
    size,
    read: async (_, length) => {
      largest = Math.max(largest, length)
      return new Uint8Array(length)
    },
  }
  await hashSource(source, { onProgress: done => seen.push(done) })
  assert.deepEqual(seen, [1024 * 1024, 2 * 1024 * 1024, size])
  assert.equal(largest, 1024 * 1024)
})

test('an aborted computation stops with the reason that was given', async () => {
  const controller = new AbortController()
  const reason = new Error('changed my mind')
  const source = memorySource(new Uint8Array(4 * 1024 * 1024))
  const onProgress = (): void => controller.abort(reason)
  await assert.rejects(hashSource(source, { signal: controller.signal, onProgress }), reason)
})

test('a file that becomes shorter meanwhile has no id', async () => {
  const source: ByteSource = { size: 100, read: async () => new Uint8Array(50) }
  await assert.rejects(hashSource(source), { code: 'FORMAT_GGUF_TRUNCATED' })
})
