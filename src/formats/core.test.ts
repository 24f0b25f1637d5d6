import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  encodeWireCore,
  lengthOf,
  Q8_0,
  smallModel,
  wireTensors,
  type WireTensor,
} from '../../test/support/model-core.ts'
import { memorySource } from './byte-source.ts'
import { decodeCore, type ModelCore, parseCore } from './core.ts'
import type { DescriptionFault } from './errors.ts'
import { readGguf } from './gguf.ts'
import { CORE_BYTES_MAX } from './limits.ts'

const codeOf = (result: ModelCore | DescriptionFault): string => ('code' in result ? result.code : 'core')
const tensors = wireTensors(2)
/** The same tensors with the second one changed. */
const changed = (change: (tensor: WireTensor) => readonly unknown[]): WireTensor[] =>
  tensors.map((tensor, at) => (at === 1 ? change(tensor) : tensor) as WireTensor)

test("what is written as a model's core is read back: tensors as the header has them, and the id", async () => {
  const { core, id, bytes } = await smallModel()
  const read = parseCore(core)
  const gguf = await readGguf(memorySource(bytes))
  assert.equal(read.id, id)
  assert.deepEqual(read.tensors, gguf.tensors)
  assert.equal(read.files[0]?.length, bytes.byteLength)
})

const LIES: readonly (readonly [what: string, core: Uint8Array, code: string])[] = [
  ['nothing', new Uint8Array(0), 'FORMAT_CORE_MALFORMED'],
  ['more than may be read', new Uint8Array(CORE_BYTES_MAX + 1), 'FORMAT_CORE_LIMIT'],
  ['a later form', encodeWireCore(tensors, { format: 2 }), 'FORMAT_CORE_VERSION'],
  ['a form that is text', encodeWireCore(tensors, { format: '1' }), 'FORMAT_CORE_MALFORMED'],
  ['no file', encodeWireCore(tensors, { files: [] }), 'FORMAT_CORE_FILES'],
  ['two files', encodeWireCore(tensors, { files: [1, 2] }), 'FORMAT_CORE_FILES'],
  [
    'a short root',
    encodeWireCore(tensors, { files: [{ root: new Uint8Array(31), length: 1e9 }] }),
    'FORMAT_CORE_MALFORMED',
  ],
  [
    'a negative length',
    encodeWireCore(tensors, { files: [{ root: new Uint8Array(32), length: -1 }] }),
    'FORMAT_CORE_MALFORMED',
  ],
  [
    'a length beyond any',
    encodeWireCore(tensors, { files: [{ root: new Uint8Array(32), length: 2 ** 52 }] }),
    'FORMAT_CORE_LIMIT',
  ],
  [
    'a length beyond 2^53',
    encodeWireCore(tensors, { files: [{ root: new Uint8Array(32), length: 2n ** 53n }] }),
    'FORMAT_CORE_MALFORMED',
  ],
  [
    'a path for a file',
    encodeWireCore(tensors, { files: [{ root: new Uint8Array(32), length: 1e9, path: '/etc' }] }),
    'FORMAT_CORE_MALFORMED',
  ],
  ['no tensors', encodeWireCore(tensors, { tensors: [] }), 'FORMAT_CORE_LIMIT'],
  ['tensors as a number', encodeWireCore(tensors, { tensors: 5 }), 'FORMAT_CORE_MALFORMED'],
  ['a name twice', encodeWireCore(changed(([, ...rest]) => [tensors[0]?.[0], ...rest])), 'FORMAT_CORE_TENSOR'],
  [
    'a name that is too long',
    encodeWireCore(changed(([, ...rest]) => ['ä'.repeat(600), ...rest])),
    'FORMAT_CORE_TENSOR',
  ],
  ['a layer beyond all', encodeWireCore(changed(([, ...rest]) => ['blk.1000.x', ...rest])), 'FORMAT_CORE_TENSOR'],
  ['a name that is a number', encodeWireCore(changed(([, ...rest]) => [5, ...rest])), 'FORMAT_CORE_MALFORMED'],
  ['no dimensions', encodeWireCore(changed(([name, , ...rest]) => [name, [], ...rest])), 'FORMAT_CORE_TENSOR'],
  [
    'five dimensions',
    encodeWireCore(changed(([name, , ...rest]) => [name, [32, 1, 1, 1, 1], ...rest])),
    'FORMAT_CORE_TENSOR',
  ],
  [
    'an empty dimension',
    encodeWireCore(changed(([name, , ...rest]) => [name, [32, 0], ...rest])),
    'FORMAT_CORE_TENSOR',
  ],
  [
    'a row that is no block',
    encodeWireCore(changed(([name, , ...rest]) => [name, [33, 1], ...rest])),
    'FORMAT_CORE_TENSOR',
  ],
  [
    'a shape beyond 2^53',
    encodeWireCore(changed(([name, , ...rest]) => [name, [2 ** 30, 2 ** 30], ...rest])),
    'FORMAT_CORE_TENSOR',
  ],
  [
    'an unknown type',
    encodeWireCore(changed(([name, dims, , ...rest]) => [name, dims, 4, ...rest])),
    'FORMAT_CORE_TENSOR',
  ],
  [
    'a size of its own',
    encodeWireCore(changed(([name, dims, type, offset, size]) => [name, dims, type, offset, Number(size) - 1])),
    'FORMAT_CORE_TENSOR',
  ],
  [
    'an unaligned offset',
    encodeWireCore(changed(([name, dims, type, offset, size]) => [name, dims, type, Number(offset) + 4, size])),
    'FORMAT_CORE_TENSOR',
  ],
  [
    'an overlap',
    encodeWireCore(changed(([name, dims, type, offset, size]) => [name, dims, type, Number(offset) + 64, size])),
    'FORMAT_CORE_TENSOR',
  ],
  [
    'an offset beyond 2^53',
    encodeWireCore(
      changed(([name, dims, type, , size]) => [name, dims, type, 2n ** 53n, size]),
      { files: [{ root: new Uint8Array(32), length: 1e9 }] },
    ),
    'FORMAT_CORE_MALFORMED',
  ],
  [
    'a tensor beyond the end',
    encodeWireCore(tensors, { files: [{ root: new Uint8Array(32), length: lengthOf(tensors) - 1 }] }),
    'FORMAT_CORE_TENSOR',
  ],
  [
    'an offset that overflows',
    encodeWireCore(
      changed(([name, dims, type, , size]) => [name, dims, type, 2 ** 53 - 8, size]),
      { files: [{ root: new Uint8Array(32), length: 1e9 }] },
    ),
    'FORMAT_CORE_TENSOR',
  ],
  ['no room for a header', encodeWireCore([['a', [32], Q8_0, 0, 34]]), 'FORMAT_CORE_TENSOR'],
  ['a header beyond reason', encodeWireCore([['a', [32], Q8_0, 2 ** 40, 34]]), 'FORMAT_CORE_LIMIT'],
  ['bytes behind it', new Uint8Array([...encodeWireCore(tensors), 0]), 'FORMAT_CORE_MALFORMED'],
]

for (const [what, core, code] of LIES) {
  test(`a core with ${what} is refused`, () => assert.equal(codeOf(decodeCore(core)), code))
}

test('a number in a longer form than it needs makes other bytes of the same core: refused', () => {
  const core = encodeWireCore(tensors)
  // 'format' (0x66 and six letters), then 1: as one byte 0x01, or as two, 0x18 0x01.
  const at = Buffer.from(core).indexOf('format') + 6
  assert.equal(core[at], 1)
  const longer = new Uint8Array([...core.subarray(0, at), 0x18, 1, ...core.subarray(at + 1)])
  assert.equal(codeOf(decodeCore(longer)), 'FORMAT_CORE_MALFORMED')
})

test('a core cut off anywhere is refused', () => {
  const core = encodeWireCore(tensors)
  for (let length = 0; length < core.byteLength; length++) {
    assert.equal(codeOf(decodeCore(core.subarray(0, length))), 'FORMAT_CORE_MALFORMED', `cut at ${length}`)
  }
})

test('changed and random bytes give a core or a fault, nothing else; what is read is the canonical form of itself', () => {
  const core = encodeWireCore(tensors)
  const change = fc.array(fc.record({ at: fc.nat(core.byteLength - 1), byte: fc.nat(255) }), {
    minLength: 1,
    maxLength: 4,
  })
  fc.assert(
    fc.property(change, changes => {
      const bytes = core.slice()
      for (const { at, byte } of changes) bytes[at] = byte
      const read = decodeCore(bytes)
      if ('code' in read) return
      const wire = read.tensors.map(
        ({ name, dims, type, offset, size }) => [name, dims, type.id, offset, size] as const,
      )
      assert.deepEqual(encodeWireCore(wire, { files: read.files.map(({ root, length }) => ({ root, length })) }), bytes)
    }),
    { numRuns: 2_000 },
  )
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), bytes => assert.ok('code' in decodeCore(bytes))))
})
