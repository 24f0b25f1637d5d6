/** Frames on a byte stream, cut anywhere: the reader, and the fields of header and seal. */
import assert from 'node:assert/strict'
import { concatBytes, toHex } from '#base'
import {
  decodeSeal,
  encodeFrame,
  encodeFramePrefix,
  type Frame,
  FRAME_HEADER_BYTES,
  FRAME_TYPES,
  type FrameFault,
  FrameReader,
  type PayloadLimit,
  SESSION_ID_BYTES,
  writeSealFields,
} from '#wire'
import { Chance, seedOfBytes } from '../lib/chance.ts'
import { byInputs, type Fuzzer } from '../lib/fuzzer.ts'
import { cut, mutateBytes } from '../lib/mutate-bytes.ts'

const PAYLOAD_BYTES_MAX = 64 * 1024

const limit: PayloadLimit = (type, isSealed) =>
  isSealed === (type === FRAME_TYPES.data) && type < 64 ? PAYLOAD_BYTES_MAX : undefined

export const frames: Fuzzer = {
  name: 'frames',
  kind: 'pure',
  open: ({ corpus }) =>
    byInputs({
      make: chance => {
        const bytes = concatBytes(Array.from({ length: chance.between(1, 3) }, () => frame(chance)))
        return chance.isOneIn(8)
          ? bytes
          : mutateBytes(chance, chance.isOneIn(4) ? chance.pick([bytes, ...corpus]) : bytes, corpus)
      },
      check,
    }),
}

/** A frame as a peer might send it. */
export function frame(chance: Chance): Uint8Array {
  const isSealed = chance.isOneIn(2)
  const payload = chance.bytes(chance.size(1500))
  const sequence = Math.abs(chance.border())
  const signature = chance.bytes(64)
  if (isSealed) {
    const fields = { session: chance.bytes(SESSION_ID_BYTES), channel: chance.between(1, 9), counter: sequence }
    signature.fill(0)
    writeSealFields(new DataView(signature.buffer), fields)
  }
  const prefix = encodeFramePrefix({
    type: isSealed ? FRAME_TYPES.data : chance.between(1, 40),
    isSealed,
    length: payload.byteLength,
    nonce: { timeMs: 1_800_000_000_000, epoch: chance.below(3), sequence, random: chance.uint32() },
  })
  return encodeFrame(prefix, signature, payload)
}

function check(input: Uint8Array): string {
  const whole = read([input])
  const pieces = read(cut(new Chance(seedOfBytes(input)), input))
  assert.deepEqual(pieces, whole, 'the cuts of a stream changed what was read from it')
  return whole.at(-1)?.split(' ')[0] ?? 'nothing'
}

/** What a reader makes of these pieces, as text. */
function read(pieces: readonly Uint8Array[]): string[] {
  const reader = new FrameReader(limit)
  const found: string[] = []
  let pushed = 0
  for (const piece of pieces) {
    pushed += piece.byteLength
    for (const item of reader.push(piece)) found.push(described(item))
    assert.ok(reader.pendingBytes <= pushed, 'more is held than has come')
    assert.ok(reader.roomBytes <= Math.max(1024, 2 * pushed), `${reader.roomBytes} bytes of room for ${pushed}`)
  }
  // A fault is said again at every push; how often depends on the cuts.
  return found.filter((text, index) => !text.startsWith('WIRE') || found.indexOf(text) === index)
}

function described(item: Frame | FrameFault): string {
  if ('code' in item) return `${item.code} ${JSON.stringify(item)}`
  assert.equal(item.payload.byteLength, item.length)
  assert.equal(item.prefix.byteLength + item.signature.byteLength, FRAME_HEADER_BYTES)
  assert.deepEqual(encodeFramePrefix(item), new Uint8Array(item.prefix), 'a prefix that reads and writes differently')
  const seal = item.isSealed ? decodeSeal(item.signature) : undefined
  const kind = item.isSealed ? (seal === undefined ? 'bad-seal' : 'sealed') : 'signed'
  return `${kind} ${toHex(item.prefix)} ${toHex(item.signature)} ${toHex(item.payload.subarray(0, 64))}`
}
