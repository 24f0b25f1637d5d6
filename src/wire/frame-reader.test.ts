import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { concatBytes, type Random, seededRandom, toHex } from '#base'
import { encodeFrame, encodeFramePrefix, type Frame, type FrameFault, type PayloadLimit } from './frame.ts'
import { FrameReader } from './frame-reader.ts'
import { FRAME_TYPES } from './frame-types.ts'

const MAX = 4096
const upTo =
  (max: number): PayloadLimit =>
  () =>
    max

function randomFrame(random: Random, payloadBytes = random.uint32() % MAX): Uint8Array {
  const prefix = encodeFramePrefix({
    type: random.uint32() & 0x7f,
    isSealed: random.uint32() % 2 === 0,
    length: payloadBytes,
    nonce: {
      timeMs: random.uint32() * 2 ** 10,
      epoch: random.uint32(),
      sequence: random.uint32() * 2 ** 20,
      random: random.uint32(),
    },
  })
  return encodeFrame(prefix, random.bytes(64), random.bytes(payloadBytes))
}

/** The whole of a frame again, from its parts. */
function bytesOf(frame: Frame | FrameFault): string {
  return 'code' in frame ? frame.code : toHex(concatBytes([frame.prefix, frame.signature, frame.payload]))
}

/** The stream in pieces of random lengths, empty ones too. */
function cut(bytes: Uint8Array, random: Random, longest: number): Uint8Array[] {
  const pieces: Uint8Array[] = []
  for (let offset = 0; offset < bytes.byteLength; ) {
    const length = random.uint32() % (longest + 1)
    pieces.push(bytes.slice(offset, offset + length))
    offset += length
  }
  return pieces
}

test('however a stream is cut, the same frames come out', () => {
  for (let seed = 0; seed < 1500; seed++) {
    const random = seededRandom(seed)
    const frames = Array.from({ length: 1 + (random.uint32() % 5) }, () => randomFrame(random, random.uint32() % 700))
    const longest = [1, 7, 96, 300, 5000][random.uint32() % 5] ?? 1
    const reader = new FrameReader(upTo(MAX))
    const read: string[] = []
    for (const piece of cut(concatBytes(frames), random, longest)) {
      for (const frame of reader.push(piece)) read.push(bytesOf(frame))
    }
    assert.deepEqual(read, frames.map(toHex), `seed ${seed}`)
    assert.equal(reader.pendingBytes, 0)
  }
})

test('a frame that is handed out is not written over by those behind it', () => {
  const random = seededRandom(3)
  const frames = Array.from({ length: 4 }, () => randomFrame(random, 500))
  const reader = new FrameReader(upTo(MAX))
  const read = cut(concatBytes(frames), random, 40).flatMap(piece => [...reader.push(piece)])
  assert.deepEqual(read.map(bytesOf), frames.map(toHex))
})

test('memory follows the bytes that came, never the length that was announced', () => {
  for (let seed = 0; seed < 300; seed++) {
    const random = seededRandom(seed)
    const whole = randomFrame(random, 200_000)
    const reader = new FrameReader(upTo(2 ** 30))
    let arrived = 0
    for (const piece of cut(whole.subarray(0, random.uint32() % whole.byteLength), random, 9000)) {
      assert.deepEqual([...reader.push(piece)], [])
      arrived += piece.byteLength
      assert.equal(reader.pendingBytes, arrived)
      assert.ok(reader.roomBytes <= Math.max(1024, 2 * arrived), `seed ${seed}: ${reader.roomBytes} for ${arrived}`)
    }
  }
})

test('foreign bytes are noticed at the first or second of them', () => {
  for (const [bytes, ok] of [
    [[0x5b], false],
    [[0x5a], true],
    [[0x5a, 0x46], false],
    [[0x5a, 0x45], true],
  ] as const) {
    const out = [...new FrameReader(upTo(MAX)).push(Uint8Array.from(bytes))]
    assert.deepEqual(out, ok ? [] : [{ code: 'WIRE_FRAME_FOREIGN' }])
  }
})

test('version, type and length are checked with the byte that completes them', () => {
  const whole = randomFrame(seededRandom(1), 2000)
  const faultAt = (bytes: Uint8Array, limit: PayloadLimit): [number, FrameFault] | undefined => {
    const reader = new FrameReader(limit)
    for (let i = 0; i < bytes.byteLength; i++) {
      for (const out of reader.push(bytes.subarray(i, i + 1))) if ('code' in out) return [i + 1, out]
    }
    return undefined
  }
  const otherVersion = whole.slice()
  otherVersion[2] = 2
  assert.deepEqual(faultAt(otherVersion, upTo(MAX)), [3, { code: 'WIRE_FRAME_VERSION', version: 2 }])
  assert.deepEqual(
    faultAt(whole, () => undefined),
    [4, { code: 'WIRE_FRAME_TYPE', type: whole[3] }],
  )
  assert.deepEqual(faultAt(whole, upTo(1999)), [8, { code: 'WIRE_FRAME_TOO_LONG', lengthBytes: 2000, maxBytes: 1999 }])
  const uncountable = whole.slice()
  uncountable[8] = 0xff
  assert.deepEqual(faultAt(uncountable, upTo(MAX)), [32, { code: 'WIRE_FRAME_MALFORMED' }])
  assert.equal(faultAt(whole, upTo(MAX)), undefined)
})

test('a frame may change the limit for the one behind it in the same piece', () => {
  const random = seededRandom(5)
  const reader = new FrameReader(upTo(10))
  const out: string[] = []
  for (const frame of reader.push(
    concatBytes([randomFrame(random, 10), randomFrame(random, 11), randomFrame(random, 12)]),
  )) {
    out.push('code' in frame ? frame.code : String(frame.length))
    reader.setLimit(upTo(11))
  }
  assert.deepEqual(out, ['10', '11', 'WIRE_FRAME_TOO_LONG'])
})

test('after a fault nothing comes but the fault', () => {
  const reader = new FrameReader(upTo(MAX))
  assert.equal([...reader.push(Uint8Array.of(1))].length, 1)
  assert.deepEqual([...reader.push(randomFrame(seededRandom(1)))], [{ code: 'WIRE_FRAME_FOREIGN' }])
})

test('no bytes make the reader throw or keep more than they are', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 10 }), fc.boolean(), (pieces, hasMagic) => {
      const reader = new FrameReader(upTo(MAX))
      const all = hasMagic ? [Uint8Array.of(0x5a, 0x45, 1), ...pieces] : pieces
      for (const piece of all) for (const out of reader.push(piece)) assert.ok('code' in out || out.length <= MAX)
      assert.ok(reader.pendingBytes <= all.reduce((sum, piece) => sum + piece.byteLength, 0))
    }),
    { numRuns: 3000 },
  )
})

test('a reader that scatters gives the same bytes however they come, in pieces that take little more memory', () => {
  const seed = 20_261_121
  const random = seededRandom(seed)
  for (let run = 0; run < 300; run++) {
    const payload = random.bytes(random.uint32() % 60_000)
    const frames = [sealedFrame(payload), sealedFrame(payload.subarray(0, 10)), sealedFrame(new Uint8Array(0))]
    const bytes = concatBytes(frames)
    const reader = new FrameReader(() => 2 ** 20, { scatters: true })
    const got: Uint8Array[] = []
    const largest = 1 + (random.uint32() % 40_000)
    for (let offset = 0; offset < bytes.byteLength; ) {
      const piece = bytes.subarray(offset, offset + 1 + (random.uint32() % largest))
      offset += piece.byteLength
      for (const frame of reader.push(piece)) {
        assert.ok(!('code' in frame))
        assert.ok((frame.parts?.length ?? 1) <= 2 + frame.length / 2048, `seed ${seed}, run ${run}`)
        got.push(concatBytes(frame.parts ?? [frame.payload]))
      }
    }
    assert.deepEqual(got, [payload, payload.subarray(0, 10), new Uint8Array(0)], `seed ${seed}, run ${run}`)
    assert.equal(reader.pendingBytes, 0)
  }
})

function sealedFrame(payload: Uint8Array): Uint8Array {
  const nonce = { timeMs: 1, epoch: 2, sequence: 3, random: 4 }
  const prefix = encodeFramePrefix({ type: FRAME_TYPES.data, isSealed: true, length: payload.byteLength, nonce })
  return encodeFrame(prefix, new Uint8Array(64), payload)
}
