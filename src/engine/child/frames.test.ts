import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { concatBytes } from '#base'
import { MessageReader, sendMessage } from './frames.ts'
import { KIND, type Message } from './protocol.ts'

const kinds = Object.values(KIND)

test('messages survive being cut anywhere', () => {
  const message = fc.record({
    id: fc.nat(2 ** 32 - 1),
    kind: fc.constantFrom(...kinds),
    parts: fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 3 }),
  })
  fc.assert(
    fc.property(fc.array(message, { maxLength: 6 }), fc.integer({ min: 1, max: 50 }), (messages, pieceBytes) => {
      const pipe = new PassThrough()
      for (const { id, kind, parts } of messages) sendMessage(pipe, { id, kind }, parts)
      const bytes: Uint8Array = pipe.read() ?? new Uint8Array(0)
      const reader = new MessageReader(1000)
      const read: Message[] = []
      for (let at = 0; at < bytes.length; at += pieceBytes)
        read.push(...reader.push(bytes.subarray(at, at + pieceBytes)))
      assert.deepEqual(
        read.map(({ id, kind, payload }) => ({ id, kind, payload: [...payload] })),
        messages.map(({ id, kind, parts }) => ({ id, kind, payload: [...concatBytes(parts)] })),
      )
    }),
  )
})

test('a length beyond the limit is refused with its header, before any of it arrives', () => {
  const header = (bytes: number): Uint8Array => new Uint8Array(Uint32Array.of(bytes, 1, KIND.reply).buffer)
  assert.deepEqual(new MessageReader(1000).push(header(1000)), [])
  assert.throws(() => new MessageReader(1000).push(header(1001)), RangeError)
})
