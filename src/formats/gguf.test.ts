import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { concatBytes } from '#base'
import { GgufHeaderWriter, u32, u64 } from '../../test/support/gguf-writer.ts'
import { writeRandomGguf } from '../../test/support/random-gguf.ts'
import { type ByteSource, memorySource } from './byte-source.ts'
import { type GgufFile, readGguf } from './gguf.ts'

const root = await mkdtemp(join(tmpdir(), 'koinon-gguf-'))
after(() => rm(root, { recursive: true, force: true }))

const FLOAT32 = { id: 0, bytes: 4 }

/** A file of one or more F32 tensors of 8 numbers, each 32 bytes. */
function fileWith(header: GgufHeaderWriter, dataBytes: number): ByteSource {
  const bytes = header.bytes()
  return memorySource(concatBytes([bytes, new Uint8Array((32 - (bytes.length % 32)) % 32), new Uint8Array(dataBytes)]))
}

function oneTensor(change: Partial<Parameters<GgufHeaderWriter['addTensor']>[0]> = {}, dataBytes = 64): ByteSource {
  const header = new GgufHeaderWriter()
  header.addTensor({ name: 'a', dims: [8], type: FLOAT32.id, offset: 0, ...change })
  return fileWith(header, dataBytes)
}

/** Reads as little as a slow network would give, and notes the largest request. */
function watched(source: ByteSource): ByteSource & { largest: number } {
  const self = {
    size: source.size,
    largest: 0,
    read: (offset: number, length: number) => {
      self.largest = Math.max(self.largest, length)
      return source.read(offset, length)
    },
  }
  return self
}

test('metadata of every type comes back as it was written', async () => {
  const header = new GgufHeaderWriter(2)
  const number = (array: ArrayBufferView<ArrayBuffer>): Uint8Array =>
    new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
  header.setRaw('u8', 0, Uint8Array.of(200))
  header.setRaw('i8', 1, Uint8Array.of(200))
  header.setRaw('u16', 2, number(Uint16Array.of(60_000)))
  header.setRaw('i16', 3, number(Int16Array.of(-5)))
  header.set('u32', 4_000_000_000)
  header.setRaw('i32', 5, number(Int32Array.of(-7)))
  header.set('f32', 0.5)
  header.set('bool', true)
  header.set('text', 'grüße')
  header.setRaw('u64', 10, u64(2 ** 50))
  header.setRaw('big', 10, u64(2n ** 63n))
  header.setRaw('i64', 11, number(BigInt64Array.of(-3n)))
  header.setRaw('f64', 12, number(Float64Array.of(1e300)))
  header.setTexts('texts', ['a', '', 'c'])
  header.setIntegers('integers', [1, 2, 3])
  header.setRaw('bools', 9, concatBytes([u32(7), u64(2), Uint8Array.of(1, 0)]))
  const gguf = await readGguf(fileWith(header, 0))
  assert.equal(gguf.version, 2)
  assert.deepEqual(Object.fromEntries(gguf.metadata), {
    u8: 200,
    i8: -56,
    u16: 60_000,
    i16: -5,
    u32: 4_000_000_000,
    i32: -7,
    f32: 0.5,
    bool: true,
    text: 'grüße',
    u64: 2 ** 50,
    big: 2n ** 63n,
    i64: -3,
    f64: 1e300,
    texts: ['a', '', 'c'],
    integers: [1, 2, 3],
    bools: [true, false],
  })
})

test('the tensor index of a model is read without its tensor data', async () => {
  const path = join(root, 'index.gguf')
  await writeRandomGguf(path, { architecture: 'llama', type: 'Q8_0', layers: 1 })
  const bytes = new Uint8Array(await readFile(path))
  const source = watched(memorySource(bytes))
  const gguf = await readGguf(source)
  const query = gguf.tensorsByName.get('blk.0.attn_q.weight')
  assert.ok(query)
  assert.deepEqual(query.dims, [256, 256])
  assert.equal(query.type.name, 'Q8_0')
  assert.equal(query.size, (256 * 256 * 34) / 32)
  assert.equal(gguf.tensors[0]?.offset, gguf.dataOffset)
  const last = gguf.tensors.at(-1)
  assert.ok(last)
  assert.equal(last.offset + last.size, bytes.length)
  assert.ok(source.largest <= 256 * 1024)
})

test('strings and arrays that span several blocks are read whole', async () => {
  const header = new GgufHeaderWriter()
  const long = 'x'.repeat(700_000)
  const texts = Array.from({ length: 60_000 }, (_, i) => `token ${i}`)
  header.set('long', long)
  header.setTexts('texts', texts)
  const gguf = await readGguf(fileWith(header, 0))
  assert.equal(gguf.metadata.get('long'), long)
  assert.deepEqual(gguf.metadata.get('texts'), texts)
})

test('the alignment moves the start of tensor data', async () => {
  const header = new GgufHeaderWriter()
  header.set('general.alignment', 4096)
  header.addTensor({ name: 'a', dims: [8], type: FLOAT32.id, offset: 0 })
  const gguf = await readGguf(memorySource(concatBytes([header.bytes(), new Uint8Array(8192)])))
  assert.equal(gguf.alignment, 4096)
  assert.equal(gguf.dataOffset, 4096)
})

const lies: readonly (readonly [what: string, source: () => ByteSource, code: string, message: RegExp])[] = [
  ['an empty file', () => memorySource(new Uint8Array(0)), 'FORMAT_GGUF_MAGIC', /not a GGUF file/],
  ['another format', () => memorySource(new Uint8Array(100)), 'FORMAT_GGUF_MAGIC', /not a GGUF file/],
  ['version 1', () => fileWith(new GgufHeaderWriter(1), 0), 'FORMAT_GGUF_VERSION', /version 1/],
  ['a big-endian file', () => fileWith(new GgufHeaderWriter(0x03000000), 0), 'FORMAT_GGUF_VERSION', /big-endian/],
  ['a tensor beyond the end', () => oneTensor({}, 16), 'FORMAT_GGUF_TRUNCATED', /"a" \(8, F32\) needs 32 bytes/],
  ['a tensor far beyond the end', () => oneTensor({ offset: 2n ** 63n }), 'FORMAT_GGUF_TRUNCATED', /ends at byte/],
  ['absurd dimensions', () => oneTensor({ dims: [2n ** 63n, 2n ** 63n] }), 'FORMAT_GGUF_TRUNCATED', /needs/],
  ['an empty dimension', () => oneTensor({ dims: [8, 0] }), 'FORMAT_GGUF_TENSOR', /empty dimension/],
  ['no dimension', () => oneTensor({ dims: [] }), 'FORMAT_GGUF_TENSOR', /0 dimensions/],
  ['five dimensions', () => oneTensor({ dims: [1, 1, 1, 1, 1] }), 'FORMAT_GGUF_TENSOR', /5 dimensions/],
  ['an unknown type', () => oneTensor({ type: 4 }), 'FORMAT_GGUF_TENSOR', /type 4/],
  ['rows that are no multiple of the block', () => oneTensor({ type: 8 }), 'FORMAT_GGUF_TENSOR', /block of 32/],
  ['a wrong alignment', () => oneTensor({ offset: 4 }), 'FORMAT_GGUF_TENSOR', /alignment 32/],
]

for (const [what, source, code, message] of lies) {
  test(`${what} is refused with a sentence`, () => assert.rejects(readGguf(source()), { code, message }))
}

test('two tensors of one name, or in one place, are refused', async () => {
  const withSecond = (name: string, offset: number): ByteSource => {
    const header = new GgufHeaderWriter()
    header.addTensor({ name: 'a', dims: [16], type: FLOAT32.id, offset: 0 })
    header.addTensor({ name, dims: [8], type: FLOAT32.id, offset })
    return fileWith(header, 128)
  }
  assert.equal((await readGguf(withSecond('b', 64))).tensors.length, 2)
  await assert.rejects(readGguf(withSecond('a', 64)), { code: 'FORMAT_GGUF_TENSOR', message: /twice/ })
  await assert.rejects(readGguf(withSecond('b', 32)), { code: 'FORMAT_GGUF_TENSOR', message: /overlaps "a"/ })
})

test('metadata that breaks the format is refused', async () => {
  const withEntry = (type: number, value: Uint8Array): Promise<GgufFile> => {
    const header = new GgufHeaderWriter()
    header.setRaw('key', type, value)
    return readGguf(fileWith(header, 64))
  }
  await assert.rejects(withEntry(13, u32(0)), { code: 'FORMAT_GGUF_METADATA', message: /unknown type 13/ })
  await assert.rejects(withEntry(7, Uint8Array.of(2)), { code: 'FORMAT_GGUF_METADATA', message: /boolean/ })
  const nested = concatBytes([u32(9), u64(1), u32(4), u64(1), u32(5)])
  await assert.rejects(withEntry(9, nested), { code: 'FORMAT_GGUF_METADATA', message: /array of type 9/ })
  await assert.rejects(withEntry(9, concatBytes([u32(4), u64(1000)])), { code: 'FORMAT_GGUF_TRUNCATED' })
  await assert.rejects(withEntry(9, concatBytes([u32(4), u64(2n ** 62n)])), { code: 'FORMAT_GGUF_LIMIT' })
  await assert.rejects(withEntry(8, u64(2n ** 62n)), { code: 'FORMAT_GGUF_LIMIT', message: /bytes of text/ })
  for (const alignment of [0, 3, 2 ** 30]) {
    const header = new GgufHeaderWriter()
    header.set('general.alignment', alignment)
    await assert.rejects(readGguf(fileWith(header, 0)), { code: 'FORMAT_GGUF_METADATA' })
  }
})

test('counts that the file cannot hold cost no memory', async () => {
  const header = concatBytes([new TextEncoder().encode('GGUF'), u32(3)])
  const claim = (tensors: bigint, entries: bigint): Promise<GgufFile> =>
    readGguf(memorySource(concatBytes([header, u64(tensors), u64(entries), new Uint8Array(1000)])))
  await assert.rejects(claim(2n ** 64n - 1n, 0n), { code: 'FORMAT_GGUF_LIMIT' })
  await assert.rejects(claim(0n, 2n ** 64n - 1n), { code: 'FORMAT_GGUF_LIMIT' })
  await assert.rejects(claim(60_000n, 0n), { code: 'FORMAT_GGUF_TRUNCATED' })
  await assert.rejects(claim(0n, 60_000n), { code: 'FORMAT_GGUF_TRUNCATED' })
})

test('a file that becomes shorter while it is read is an error', async () => {
  const whole = oneTensor()
  const source: ByteSource = {
    size: whole.size,
    read: async (offset, length) => (await whole.read(offset, length)).slice(0, 10),
  }
  await assert.rejects(readGguf(source), { code: 'FORMAT_GGUF_TRUNCATED', message: /became shorter/ })
})
