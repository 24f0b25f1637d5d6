import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { concatBytes } from '#base'
import { withLengthPrefix, LengthPrefixReader } from './length-prefix.ts'

function bodies(result: ReturnType<LengthPrefixReader['push']>): readonly Uint8Array[] {
  assert.ok(Array.isArray(result), 'a fault where frames were expected')
  return result as readonly Uint8Array[]
}

describe('wire / framing', () => {
  it('puts a big-endian length before the body', () => {
    assert.deepEqual([...withLengthPrefix(Uint8Array.of(9, 8, 7))], [0, 0, 0, 3, 9, 8, 7])
  })

  it('gives back the same frames however the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 3000 }), { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 2000 }), { minLength: 1, maxLength: 8 }),
        (sent, cuts) => {
          const stream = concatBytes(sent.map(withLengthPrefix))
          const reader = new LengthPrefixReader(3000)
          const received: Uint8Array[] = []
          for (let at = 0, turn = 0; at < stream.byteLength; turn++) {
            const size = cuts[turn % cuts.length] ?? 1
            received.push(...bodies(reader.push(stream.subarray(at, at + size))).map(body => body.slice()))
            at += size
          }
          assert.deepEqual(
            received.map(body => [...body]),
            sent.map(body => [...body]),
          )
          assert.equal(reader.pendingBytes, 0)
        },
      ),
      { numRuns: 60 },
    )
  })

  it('gives an empty body as soon as its header is complete', () => {
    const reader = new LengthPrefixReader(10)
    assert.deepEqual(reader.push(Uint8Array.of(0, 0, 0)), [])
    assert.equal(bodies(reader.push(Uint8Array.of(0))).length, 1)
  })

  it('refuses a body beyond the limit at its header, and for ever after', () => {
    const reader = new LengthPrefixReader(10)
    const fault = { code: 'WIRE_LENGTH', lengthBytes: 11, maxBytes: 10 }
    assert.deepEqual(reader.push(Uint8Array.of(0, 0, 0, 11)), fault)
    assert.deepEqual(reader.push(withLengthPrefix(Uint8Array.of(1))), fault)
    assert.equal(bodies(new LengthPrefixReader(10).push(withLengthPrefix(new Uint8Array(10)))).length, 1)
  })

  it('holds what arrived of an unfinished frame, not what was announced', () => {
    const reader = new LengthPrefixReader(2 ** 31)
    assert.deepEqual(reader.push(Uint8Array.of(0x7f, 0xff, 0xff, 0xff)), [])
    assert.deepEqual(reader.push(new Uint8Array(100)), [])
    assert.equal(reader.pendingBytes, 104)
  })
})
