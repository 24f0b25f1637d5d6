import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { concatBytes, toHex } from '#base'
import { TRANSFER_CHUNK_BYTES } from '../limits.ts'
import {
  chunkMessage,
  encodeAck,
  encodeDelivered,
  encodeFailed,
  encodeGet,
  type TransferMessage,
  TransferReader,
} from './messages.ts'

function chunk(offset: number, bytes: Uint8Array, check?: Uint8Array): Uint8Array {
  const message = chunkMessage(offset, bytes.byteLength, check)
  message.room.set(bytes)
  return message.bytes
}

const read = (bytes: Uint8Array, takesChunks = true): TransferMessage[] => [
  ...new TransferReader({ takesChunks }).push(bytes),
]
const faultOf = (bytes: Uint8Array, takesChunks = true): string => {
  const last = read(bytes, takesChunks).at(-1)
  return last?.kind === 'fault' ? last.what : `no fault but ${last?.kind}`
}

test('the bytes of each message are those of the protocol page', () => {
  const id = Uint8Array.from({ length: 16 }, (_, i) => i)
  assert.equal(toHex(encodeGet(id, 2 ** 32)), `0000001901${toHex(id)}0000000100000000`)
  assert.equal(toHex(encodeAck(258_048)), '0000000903000000000003f000')
  assert.equal(toHex(encodeDelivered(new Uint8Array(32).fill(0xab))), `0000002104${'ab'.repeat(32)}`)
  assert.equal(toHex(encodeFailed('unknown')), '000000020501')
  assert.equal(toHex(encodeFailed('protocol')), '000000020506')
  const check = new Uint8Array(8).fill(0xcd)
  const message = chunk(258_048, Uint8Array.of(1, 2, 3), check)
  assert.equal(toHex(message), '0000001702000000000000000003f000cdcdcdcdcdcdcdcd010203')
})

test('messages come out as they went in, however the stream is cut', () => {
  const bytes = (max: number) => fc.uint8Array({ minLength: 1, maxLength: max })
  const fixed = (size: number) => fc.uint8Array({ minLength: size, maxLength: size })
  const offset = fc.integer({ min: 0, max: 2 ** 32 })
  const anyMessage: fc.Arbitrary<readonly [Uint8Array, TransferMessage]> = fc.oneof(
    fc
      .tuple(fixed(16), offset)
      .map(([transfer, from]) => [encodeGet(transfer, from), { kind: 'get', transfer, from }] as const),
    offset.map(received => [encodeAck(received), { kind: 'ack', received }] as const),
    fixed(32).map(sha256 => [encodeDelivered(sha256), { kind: 'delivered', sha256 }] as const),
    fc.constant([encodeFailed('busy'), { kind: 'failed', reason: 'busy' }] as const),
    fc
      .tuple(
        offset,
        bytes(3000),
        fc.option(
          fixed(8).filter(check => check.some(Boolean)),
          { nil: undefined },
        ),
      )
      .map(([at, body, check]) => [chunk(at, body, check), { kind: 'chunk', offset: at, check, bytes: body }] as const),
  )
  fc.assert(
    fc.property(
      fc.array(anyMessage, { maxLength: 12 }),
      fc.array(fc.integer({ min: 1, max: 700 })),
      (messages, cuts) => {
        const stream = concatBytes(messages.map(([encoded]) => encoded))
        const reader = new TransferReader({ takesChunks: true })
        const found: TransferMessage[] = []
        let at = 0
        for (const size of [...cuts, stream.byteLength + 1]) {
          found.push(...reader.push(stream.subarray(at, at + size)))
          at += size
        }
        const plain = (message: TransferMessage): unknown =>
          Object.fromEntries(
            Object.entries(message).map(([key, value]) => [key, value instanceof Uint8Array ? toHex(value) : value]),
          )
        assert.deepEqual(
          found.map(plain),
          messages.map(([, message]) => plain(message)),
        )
      },
    ),
    { numRuns: 500 },
  )
})

test('a chunk owns its memory', () => {
  const stream = chunk(0, new Uint8Array(100).fill(1))
  const [message] = read(stream)
  assert.ok(message?.kind === 'chunk')
  assert.notEqual(message.bytes.buffer, stream.buffer)
  assert.equal(message.bytes.buffer.byteLength, 100)
})

test('a full chunk with its header fits one sealed frame', () => {
  assert.equal(chunkMessage(0, TRANSFER_CHUNK_BYTES, undefined).bytes.byteLength <= 256 * 1024, true)
})

test('what breaks the format is a fault, said before memory is set aside, and final', () => {
  assert.match(faultOf(Uint8Array.of(0, 0, 0, 0, 1)), /kind 1 and 0 bytes/)
  assert.match(faultOf(Uint8Array.of(0, 0, 0, 2, 9)), /kind 9/)
  assert.match(faultOf(Uint8Array.of(0xff, 0xff, 0xff, 0xff, 2)), /a chunk of 4294967295 bytes/)
  assert.match(faultOf(Uint8Array.of(0, 0, 0, 20, 2)), /a chunk of 20 bytes/)
  const oversized = new Uint8Array(24)
  new DataView(oversized.buffer).setUint32(0, 20 + TRANSFER_CHUNK_BYTES + 1)
  oversized[4] = 2
  assert.match(faultOf(oversized), /a chunk of/)
  const reserved = chunk(0, Uint8Array.of(1))
  reserved[6] = 1
  assert.match(faultOf(reserved), /reserved/)
  assert.match(faultOf(Uint8Array.of(0, 0, 0, 2, 5, 0)), /reason/)
  assert.match(faultOf(Uint8Array.of(0, 0, 0, 2, 5, 7)), /reason/)
  assert.match(faultOf(chunk(0, Uint8Array.of(1)), false), /kind 2/)
  const reader = new TransferReader({ takesChunks: true })
  assert.equal([...reader.push(Uint8Array.of(0, 0, 0, 2, 9))].at(-1)?.kind, 'fault')
  assert.equal([...reader.push(encodeAck(1))].at(-1)?.kind, 'fault')
})

test('no bytes make the reader throw', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 300 })), pieces => {
      const reader = new TransferReader({ takesChunks: true })
      for (const piece of pieces) for (const message of reader.push(piece)) assert.equal(typeof message.kind, 'string')
    }),
    { numRuns: 1000 },
  )
})
