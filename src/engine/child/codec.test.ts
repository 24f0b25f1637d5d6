import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { concatBytes } from '#base'
import type { NextToken, StageStep } from '../types.ts'
import {
  decodeNext,
  decodeNextReply,
  decodePieceList,
  decodePieces,
  decodeSampler,
  decodeStep,
  encodeNext,
  encodeNextReply,
  encodePieceList,
  encodePieces,
  encodeSampler,
  encodeStep,
} from './codec.ts'

/** Payloads lie anywhere in what arrived, so they are read from an odd offset here. */
const send = (parts: readonly Uint8Array[]): Uint8Array => concatBytes([Uint8Array.of(0), ...parts]).subarray(1)
const bytes = (): fc.Arbitrary<Uint8Array> => fc.uint8Array({ maxLength: 30 })
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

test('a step arrives as it was sent', () => {
  const u32 = fc.nat(2 ** 32 - 1)
  const layers = fc.record({ first: u32, last: u32 })
  const step = fc.record({ slot: u32, layers, position: u32, count: u32, outputs: u32, rows: bytes() })
  fc.assert(
    fc.property(step, (step: StageStep) => assert.deepEqual(plain(decodeStep(send(encodeStep(step)))), plain(step))),
  )
})

test('the next token arrives with its scores and logits, or without them', () => {
  const score = fc.record({ token: fc.nat(2 ** 31 - 1), piece: bytes(), logprob: fc.double({ noNaN: true }) })
  const base = { token: fc.nat(2 ** 31 - 1), piece: bytes(), isEnd: fc.boolean(), row: bytes() }
  const scored = { ...base, chosen: score, top: fc.array(score, { maxLength: 20 }) }
  const logits = fc.float32Array({ minLength: 1, maxLength: 9 })
  const reply = fc.oneof(fc.record(base), fc.record(scored), fc.record({ ...scored, logits }))
  fc.assert(
    fc.property(reply, (reply: NextToken) => {
      const read = decodeNextReply(send(encodeNextReply(reply)))
      assert.deepEqual(plain(read), plain(reply))
      assert.deepEqual([...(read.logits ?? [])], [...(reply.logits ?? [])])
    }),
  )
})

test('no alternatives is told apart from zero alternatives', () => {
  const request = { sampler: 7, row: Uint8Array.of(1, 2, 3, 4) }
  for (const options of [{ logits: false }, { topLogprobs: 0, logits: true }, { topLogprobs: 20, logits: false }]) {
    const read = decodeNext(send(encodeNext({ ...request, options })))
    assert.deepEqual(read.options, options)
    assert.deepEqual([...read.row], [1, 2, 3, 4])
  }
})

test('lists of tokens and pieces arrive whole, empty ones too', () => {
  const tokens = Int32Array.of(0, -1, 2 ** 31 - 1)
  assert.deepEqual(decodePieces(send(encodePieces({ tokens, special: true }))), { tokens, special: true })
  const pieces = [new Uint8Array(0), Uint8Array.of(240, 159), new Uint8Array(0)]
  assert.deepEqual(plain(decodePieceList(send(encodePieceList(pieces)))), plain(pieces))
  assert.deepEqual(decodeSampler(send(encodeSampler(Uint8Array.of(123, 125), tokens))).prompt, tokens)
})

test('a payload that is shorter than it says is not read beyond its end', () => {
  const list = send(encodePieceList([Uint8Array.of(1, 2, 3)]))
  assert.throws(() => decodePieceList(list.subarray(0, list.length - 1)), RangeError)
})
