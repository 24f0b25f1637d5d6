import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { concatBytes, seededRandom } from '#base'
import { encodeBody } from './control-messages.ts'
import { RELAY_MESSAGE_BYTES_MAX } from './limits.ts'
import {
  encodeRelayMessage,
  relayDataHead,
  type RelayFrame,
  RelayFrameReader,
  type RelayMessage,
} from './relay-messages.ts'

const session = new Uint8Array(16).fill(7)
const limits = { bytes: 1, durationMs: 2, bytesPerSecond: 3 }
const MESSAGES: readonly RelayMessage[] = [
  { type: 'reserve' },
  { type: 'reserved', session, expiresInMs: 5, addresses: ['/ip4/192.0.2.1/tcp/4001'], limits },
  { type: 'refused', reason: 'full' },
  { type: 'refused', reason: 'rate', retryAfterMs: 1000 },
  { type: 'keepalive', id: 1 },
  { type: 'alive', id: 0xffff_ffff },
  { type: 'connect', peer: 'b' },
  { type: 'connect', session },
  { type: 'incoming', peer: 'a', session, limits },
  { type: 'accept' },
  { type: 'connected', peer: 'b', limits },
  { type: 'cut', reason: 'bytes' },
]

function raw(body: Uint8Array, bit = 0x8000_0000): Uint8Array {
  const head = new Uint8Array(4)
  new DataView(head.buffer).setUint32(0, (bit | body.byteLength) >>> 0)
  return concatBytes([head, body])
}

/** The frames of the bytes in pieces of so many; data joined. */
function read(bytes: Uint8Array, pieceBytes: number): RelayFrame[] | string {
  const reader = new RelayFrameReader()
  const frames: RelayFrame[] = []
  for (let offset = 0; offset < bytes.byteLength; offset += pieceBytes) {
    const found = reader.push(bytes.subarray(offset, offset + pieceBytes))
    if ('code' in found) return found.problem
    frames.push(...found)
  }
  return frames
}

describe('wire / relay messages', () => {
  it('reads what it writes, in pieces of any size, with the bytes of a circuit between', () => {
    const all = concatBytes([...MESSAGES.map(encodeRelayMessage), relayDataHead(3), Uint8Array.of(1, 2, 3)])
    for (const pieceBytes of [1, 3, 7, 64, all.byteLength]) {
      const frames = read(all, pieceBytes)
      assert.ok(Array.isArray(frames))
      const messages = frames.flatMap(frame => (frame.kind === 'message' ? [frame.message] : []))
      assert.deepEqual(messages, MESSAGES)
      const data = frames.flatMap(frame => (frame.kind === 'data' ? [...frame.bytes] : []))
      assert.deepEqual(data, [1, 2, 3])
    }
  })

  it('refuses what is not of the protocol', () => {
    const bad: readonly Uint8Array[] = [
      raw(new Uint8Array(0)),
      raw(new Uint8Array(0), 0),
      raw(Uint8Array.of(0xff)),
      raw(encodeBody({ type: 'reserve', more: 1 }).subarray(1)),
      raw(encodeBody({ type: 'unknown' })),
      raw(encodeBody({ type: 'connect' })),
      raw(encodeBody({ type: 'connect', peer: 'b', session })),
      raw(encodeBody({ type: 'connect', session: session.subarray(1) })),
      raw(encodeBody({ type: 'connect', peer: 'x'.repeat(101) })),
      raw(encodeBody({ type: 'keepalive', id: -1 })),
      raw(encodeBody({ type: 'reserved', session, expiresInMs: 5, addresses: Array(17).fill(''), limits })),
      raw(encodeBody({ type: 'reserved', session, expiresInMs: 5, addresses: ['x'.repeat(301)], limits })),
      raw(encodeBody({ type: 'cut', reason: 'because' })),
    ]
    for (const bytes of bad) assert.equal(typeof read(bytes, 5), 'string')
    const reader = new RelayFrameReader()
    const tooLong = new Uint8Array(4)
    new DataView(tooLong.buffer).setUint32(0, (0x8000_0000 | (RELAY_MESSAGE_BYTES_MAX + 1)) >>> 0)
    assert.ok('code' in reader.push(tooLong))
    // There is no way back after a fault.
    assert.ok('code' in reader.push(encodeRelayMessage({ type: 'accept' })))
  })

  it('gives frames or a fault for any bytes, and never throws', test => {
    const seed = 20_261_121
    test.diagnostic(`seed ${seed}`)
    const random = seededRandom(seed)
    const whole = concatBytes(MESSAGES.map(encodeRelayMessage))
    for (let round = 0; round < 3_000; round++) {
      const bytes = whole.slice()
      for (let changes = 1 + (random.uint32() % 4); changes > 0; changes--) {
        bytes[random.uint32() % bytes.byteLength] = random.uint32() & 0xff
      }
      read(bytes, 1 + (random.uint32() % 40))
    }
  })
})
