import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { concatBytes, fromHex, toHex } from '#base'
import {
  decodeFramePrefix,
  decodeSeal,
  encodeFrame,
  encodeFramePrefix,
  FRAME_HEADER_BYTES,
  type FramePrefix,
  signedBytes,
  writeSealFields,
} from './frame.ts'

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const u53 = fc.maxSafeNat()
const plain = { noNullPrototype: true } as const
const nonces = fc.record({ timeMs: u53, epoch: u32, sequence: u53, random: u32 }, plain)
const prefixes: fc.Arbitrary<FramePrefix> = fc.record(
  { type: fc.integer({ min: 0, max: 0x7f }), isSealed: fc.boolean(), length: u32, nonce: nonces },
  plain,
)

test('a prefix has every number at its place', () => {
  const nonce = { timeMs: 0x0102_0304_0506, epoch: 0x0708_090a, sequence: 0x0b_0c0d_0e0f, random: 0x1011_1213 }
  assert.equal(
    toHex(encodeFramePrefix({ type: 20, isSealed: true, length: 0x2021_2223, nonce })),
    ['5a450194', '20212223', '0000010203040506', '0708090a', '0000000b0c0d0e0f', '10111213'].join(''),
  )
})

test('what is encoded decodes to itself', () => {
  fc.assert(
    fc.property(prefixes, prefix => {
      assert.deepEqual(decodeFramePrefix(viewOf(encodeFramePrefix(prefix))), prefix)
    }),
    { numRuns: 2000 },
  )
})

test('numbers beyond what can be counted are no prefix and no seal', () => {
  const prefix = encodeFramePrefix({
    type: 1,
    isSealed: false,
    length: 0,
    nonce: { timeMs: 0, epoch: 0, sequence: 0, random: 0 },
  })
  for (const at of [8, 20]) {
    const changed = prefix.slice()
    changed.set(fromHex('0020000000000000'), at)
    assert.equal(decodeFramePrefix(viewOf(changed)), undefined)
  }
  const seal = new Uint8Array(64)
  seal.set(fromHex('0020000000000000'), 36)
  assert.equal(decodeSeal(seal), undefined)
})

test('a seal has its fields behind the tag, and nothing behind them', () => {
  const session = Uint8Array.from({ length: 16 }, (_, i) => i + 1)
  fc.assert(
    fc.property(u32, u53, (channel, counter) => {
      const seal = new Uint8Array(64)
      seal.fill(0xee, 0, 16)
      writeSealFields(viewOf(seal), { session, channel, counter })
      assert.deepEqual(decodeSeal(seal), { tag: seal.subarray(0, 16), session, channel, counter })
      for (let at = 44; at < 64; at++) {
        const changed = seal.slice()
        changed[at] = 1
        assert.equal(decodeSeal(changed), undefined)
      }
    }),
  )
})

test('what is signed tells its parts apart', () => {
  const context = {
    sender: new Uint8Array(32).fill(1),
    recipient: new Uint8Array(32).fill(2),
    session: new Uint8Array(16),
  }
  const prefix = new Uint8Array(32).fill(3)
  const signed = signedBytes(context, prefix, Uint8Array.of(4, 5))
  const part = (bytes: Uint8Array): Uint8Array => {
    const length = new Uint8Array(4)
    viewOf(length).setUint32(0, bytes.byteLength)
    return concatBytes([length, bytes])
  }
  const domain = new TextEncoder().encode('koinon/frame/1')
  const parts = [domain, context.sender, context.recipient, context.session, prefix, Uint8Array.of(4, 5)]
  assert.equal(toHex(signed), toHex(concatBytes(parts.map(part))))
  // The same bytes in a row, cut elsewhere.
  const shifted = { ...context, session: concatBytes([context.session, prefix.subarray(0, 1)]) }
  assert.notEqual(toHex(signedBytes(shifted, prefix.subarray(1), Uint8Array.of(4, 5))), toHex(signed))
})

test('a frame is its prefix, its signature and its payload', () => {
  const frame = encodeFrame(new Uint8Array(32).fill(1), new Uint8Array(64).fill(2), Uint8Array.of(3, 3))
  assert.equal(toHex(frame), '01'.repeat(32) + '02'.repeat(64) + '0303')
  assert.equal(FRAME_HEADER_BYTES, 96)
})
