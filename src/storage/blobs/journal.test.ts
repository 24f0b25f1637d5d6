import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { concatBytes, seededRandom } from '#base'
import {
  decodeHead,
  decodeRecords,
  encodeHead,
  encodeRecord,
  JOURNAL_HEAD_BYTES,
  JOURNAL_RECORD_BYTES,
  type JournalRecord,
} from './journal.ts'

const SEED = 5
const random = seededRandom(SEED)
const root = random.bytes(32)
const bootTag = random.bytes(8)
const name = { root, length: 2 ** 40 }
const RECORDS: readonly JournalRecord[] = [
  { kind: 'blocks', piece: 3, mask: 0xffff_ffff_ffff_ffffn },
  { kind: 'pieces', piece: 4, count: 100 },
  { kind: 'blocks', piece: 1_048_575, mask: 1n },
]
const encode = (records: readonly JournalRecord[], tag = bootTag): Uint8Array =>
  concatBytes([encodeHead(name), ...records.map(record => encodeRecord(record, { root, bootTag: tag }))])

test('a journal is read as it was written', () => {
  const bytes = encode(RECORDS)
  assert.deepEqual(decodeHead(bytes), name)
  const { records } = decodeRecords(bytes, { root, bootTag })
  assert.deepEqual(
    records,
    RECORDS.map(record => ({ record, isSynced: false, isTrusted: true })),
  )
})

test('what an earlier run of the machine wrote is trusted as far as it was synced', () => {
  const offset = JOURNAL_HEAD_BYTES + 2 * JOURNAL_RECORD_BYTES
  const bytes = encode([...RECORDS.slice(0, 2), { kind: 'synced', offset }, ...RECORDS.slice(2)], random.bytes(8))
  assert.deepEqual(
    decodeRecords(bytes, { root, bootTag }).records.map(r => r.isTrusted),
    [true, true, false],
  )
  const lying = encode([{ kind: 'synced', offset: 2 ** 40 }, ...RECORDS], random.bytes(8))
  assert.ok(
    decodeRecords(lying, { root, bootTag }).records.every(r => !r.isTrusted),
    'nothing behind a mark',
  )
})

test('the stamp of a closed file counts only where nothing follows it', () => {
  const closed = { kind: 'closed', stamp: 77n } as const
  assert.equal(decodeRecords(encode([...RECORDS, closed]), { root, bootTag }).closedStamp, 77n)
  assert.equal(decodeRecords(encode([closed, ...RECORDS]), { root, bootTag }).closedStamp, undefined)
})

test(`cut at any byte, with any byte changed, a journal claims nothing that was not claimed (seed ${SEED})`, () => {
  const bytes = encode(RECORDS)
  const texts = new Set(RECORDS.map(record => inspect(record)))
  const claimed = (damaged: Uint8Array): JournalRecord[] =>
    decodeHead(damaged) === undefined ? [] : decodeRecords(damaged, { root, bootTag }).records.map(r => r.record)
  for (let cut = 0; cut <= bytes.byteLength; cut++) {
    const count = Math.max(0, Math.floor((cut - JOURNAL_HEAD_BYTES) / JOURNAL_RECORD_BYTES))
    assert.deepEqual(claimed(bytes.slice(0, cut)), RECORDS.slice(0, count))
  }
  for (let at = 0; at < bytes.byteLength; at++) {
    const damaged = bytes.slice()
    damaged[at] = (damaged[at] ?? 0) ^ (1 << (random.uint32() % 8))
    for (const record of claimed(damaged)) assert.ok(texts.has(inspect(record)))
  }
  assert.equal(decodeHead(random.bytes(200)), undefined)
  assert.deepEqual(decodeRecords(bytes, { root: random.bytes(32), bootTag }).records, [], 'of another file')
})
