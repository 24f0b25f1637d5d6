/** Messages of `/koinon/bulk/1`, cut anywhere. The first byte of an input says whether chunks are taken. */
import assert from 'node:assert/strict'
import { concatBytes } from '#base'
import {
  chunkMessage,
  encodeAck,
  encodeDelivered,
  encodeFailed,
  encodeGet,
  type TransferMessage,
  TransferReader,
} from '../../../src/protocol/transfer/messages.ts'
import { Chance, seedOfBytes } from '../lib/chance.ts'
import { byInputs, type Fuzzer } from '../lib/fuzzer.ts'
import { cut, mutateBytes } from '../lib/mutate-bytes.ts'

export const transferMessages: Fuzzer = {
  name: 'transfer-messages',
  kind: 'pure',
  open: ({ corpus }) =>
    byInputs({
      make: chance => {
        const bytes = concatBytes(Array.from({ length: chance.between(1, 4) }, () => transferMessage(chance)))
        const given = concatBytes([Uint8Array.of(chance.below(2)), bytes])
        return chance.isOneIn(6) ? given : mutateBytes(chance, given, corpus)
      },
      check,
    }),
}

/** A message as either side might send it. */
export function transferMessage(chance: Chance, transfer: Uint8Array = chance.bytes(16)): Uint8Array {
  const place = Math.abs(chance.border())
  return chance.pick([
    () => encodeGet(transfer, chance.pick([0, 258_048, place])),
    () => encodeAck(chance.pick([0, 258_048, place])),
    () => encodeDelivered(chance.bytes(32)),
    () => encodeFailed(chance.pick(['unknown', 'busy', 'source', 'stopping', 'not-wanted', 'protocol'])),
    () => chunk(chance, chance.pick([0, 258_048, place])),
  ])()
}

function chunk(chance: Chance, offset: number): Uint8Array {
  const size = 1 + chance.size(2000)
  const { bytes, room } = chunkMessage(offset, size, chance.isOneIn(2) ? undefined : chance.bytes(8))
  room.set(chance.bytes(size))
  return bytes
}

function check(input: Uint8Array): string {
  const takesChunks = (input[0] ?? 0) % 2 === 1
  const stream = input.subarray(1)
  const whole = read([stream], takesChunks)
  const pieces = read(cut(new Chance(seedOfBytes(input)), stream), takesChunks)
  assert.deepEqual(pieces, whole, 'the cuts of a stream changed what was read from it')
  return whole.at(-1)?.split(' ')[0] ?? 'nothing'
}

function read(pieces: readonly Uint8Array[], takesChunks: boolean): string[] {
  const reader = new TransferReader({ takesChunks })
  const found: string[] = []
  for (const piece of pieces) for (const message of reader.push(piece)) found.push(described(message))
  return found.filter((text, index) => !text.startsWith('fault') || found.indexOf(text) === index)
}

function described(message: TransferMessage): string {
  if (message.kind === 'chunk') assert.equal(message.bytes.byteLength, message.bytes.buffer.byteLength)
  const facts = Object.values(message).map(value =>
    value instanceof Uint8Array ? Buffer.from(value).toString('hex') : String(value),
  )
  return facts.join(' ')
}
