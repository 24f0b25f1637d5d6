import assert from 'node:assert/strict'
import { test } from 'node:test'
import { concatBytes, seededRandom } from '#base'
import { END_SEGMENT, segmentHeader, SegmentReader } from './segments.ts'

function read(pieces: readonly Uint8Array[]): { bytes: Uint8Array; hasEnded: boolean; canBe: boolean } {
  const reader = new SegmentReader()
  const parts: Uint8Array[] = []
  const canBe = pieces.every(piece => reader.push(piece, part => parts.push(part)))
  return { bytes: concatBytes(parts), hasEnded: reader.hasEnded, canBe }
}

test('a stream comes out as it went in, however the connection cuts it', () => {
  const seed = 20_261_121
  const random = seededRandom(seed)
  for (let round = 0; round < 300; round++) {
    const sent = Array.from({ length: random.uint32() % 6 }, () => random.bytes(1 + (random.uint32() % 300)))
    const wire = concatBytes([...sent.flatMap(bytes => [segmentHeader(bytes.byteLength), bytes]), END_SEGMENT])
    const pieces: Uint8Array[] = []
    for (let at = 0; at < wire.byteLength; ) {
      const size = 1 + (random.uint32() % 40)
      pieces.push(wire.subarray(at, at + size))
      at += size
    }
    const { bytes, hasEnded, canBe } = read(pieces)
    assert.ok(canBe && hasEnded, `seed ${seed}, round ${round}`)
    assert.deepEqual(bytes, concatBytes(sent), `seed ${seed}, round ${round}`)
  }
})

test('an announced length costs nothing, and what it announces is handed out as it comes', () => {
  const { bytes, hasEnded, canBe } = read([Uint8Array.of(0xff, 0xff, 0xff, 0xff, 1, 2), Uint8Array.of(3)])
  assert.deepEqual(bytes, Uint8Array.of(1, 2, 3))
  assert.ok(canBe && !hasEnded)
})

test('nothing can follow the end', () => {
  assert.equal(read([concatBytes([END_SEGMENT, Uint8Array.of(0)])]).canBe, false)
  assert.equal(read([END_SEGMENT, Uint8Array.of(0, 0, 0, 1, 5)]).canBe, false)
  assert.equal(read([END_SEGMENT, new Uint8Array(0)]).canBe, true)
})
