import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encode } from '@ipld/dag-cbor'
import { type KeyValueStore, ManualClock, seededRandom } from '#base'
import { createNodeIdentity, signEnvelope } from '#identity'
import { compareDistance, pointOf } from './distance.ts'
import { KadError } from './errors.ts'
import { RECORD_BYTES_MAX, RECORD_LIFE_MS_MAX } from './limits.ts'
import { createMemoryStore } from './memory-store.ts'
import { createKadRecord, recordKey } from './record.ts'
import { latestOf, RecordBook } from './record-book.ts'

const NOW = 1_700_000_000_000
const HOUR_MS = 3_600_000
const alice = await createNodeIdentity(seededRandom(1))
const bob = await createNodeIdentity(seededRandom(2))
const KEY = recordKey('peer', alice.peer)

type Bench = { readonly clock: ManualClock; readonly store: KeyValueStore; readonly book: () => RecordBook }

function bench(): Bench {
  const clock = new ManualClock(NOW)
  const store = createMemoryStore({ clock })
  const book = () => new RecordBook({ clock, store, self: new Uint8Array(32), kinds: new Set(['peer']) })
  return { clock, store, book }
}

const recordOf = (sequence: number, over: { kind?: string; expiresAt?: number; value?: Uint8Array } = {}) =>
  createKadRecord(alice.provider, {
    kind: 'peer',
    sequence,
    expiresAt: NOW + HOUR_MS,
    value: Uint8Array.of(1),
    ...over,
  })

const codeOf = (result: unknown): string | undefined => (result instanceof KadError ? result.code : undefined)

test('a number that falls is refused, and the same record again is not', async () => {
  const book = bench().book()
  assert.equal(codeOf(book.hold(KEY, await recordOf(5))), undefined)
  assert.equal(codeOf(book.hold(KEY, await recordOf(5))), undefined)
  assert.equal(codeOf(book.hold(KEY, await recordOf(4))), 'KAD_RECORD_ROLLBACK')
  assert.equal(codeOf(book.check(KEY, await recordOf(4))), 'KAD_RECORD_ROLLBACK')
  assert.equal(codeOf(book.hold(KEY, await recordOf(5, { value: Uint8Array.of(2) }))), 'KAD_RECORD_ROLLBACK')
  assert.equal(codeOf(book.hold(KEY, await recordOf(6))), undefined)
  assert.equal(book.find(KEY)?.record.sequence, 6)
})

test('a number that was only seen, and never held, counts too, and over a restart', async () => {
  const { book } = bench()
  assert.equal(codeOf(book().check(KEY, await recordOf(9))), undefined)
  const restarted = book()
  assert.equal(restarted.find(KEY), undefined)
  assert.equal(codeOf(restarted.hold(KEY, await recordOf(8))), 'KAD_RECORD_ROLLBACK')
})

test('a record expires by the clock that was given, and its number is kept until no older one can be good', async () => {
  const { book, clock } = bench()
  const current = book()
  const older = await recordOf(1, { expiresAt: NOW + RECORD_LIFE_MS_MAX })
  assert.equal(codeOf(current.hold(KEY, await recordOf(2))), undefined)
  clock.advance(HOUR_MS)
  assert.equal(current.find(KEY), undefined)
  current.sweep()
  assert.equal(current.count, 0)
  assert.equal(codeOf(current.hold(KEY, older)), 'KAD_RECORD_ROLLBACK')
  clock.advance(RECORD_LIFE_MS_MAX)
  assert.equal(codeOf(current.hold(KEY, older)), 'KAD_RECORD_EXPIRED')
})

test('held records come back after a restart, and damaged rows do not', async () => {
  const { book, store } = bench()
  book().hold(KEY, await recordOf(3))
  store.put({ key: 'record/koinon/peer/x', value: await recordOf(3), expiresAt: NOW + HOUR_MS })
  store.put({ key: `record${recordKey('peer', bob.peer)}`, value: Uint8Array.of(1, 2), expiresAt: NOW + HOUR_MS })
  store.put({ key: `sequence${KEY}`, value: Uint8Array.of(1), expiresAt: NOW + HOUR_MS })
  const restarted = book()
  assert.equal(restarted.count, 1)
  assert.equal(restarted.find(KEY)?.record.sequence, 3)
})

test('what is poisoned is refused: another key, another signer, a broken signature, garbage, too much', async () => {
  const book = bench().book()
  const record = await recordOf(1)
  const broken = record.slice()
  broken[broken.byteLength - 1] = (broken.at(-1) ?? 0) ^ 1
  const forBob = await signEnvelope(
    alice.provider,
    'koinon/kad-record/1',
    encode({ expiresAt: NOW + HOUR_MS, kind: 'peer', peer: bob.peer, sequence: 1, value: new Uint8Array() }),
  )
  const otherDomain = await signEnvelope(alice.provider, 'koinon/peer-record/1', record)
  const cases: [string, Uint8Array][] = [
    [recordKey('peer', bob.peer), record],
    [recordKey('peer', bob.peer), forBob],
    [KEY, broken],
    [KEY, otherDomain],
    [KEY, new Uint8Array()],
    [KEY, seededRandom(3).bytes(300)],
    [KEY, new Uint8Array(RECORD_BYTES_MAX + 1)],
    [recordKey('other', alice.peer), await recordOf(1, { kind: 'other' })],
  ]
  for (const [key, bytes] of cases) assert.equal(codeOf(book.hold(key, bytes)), 'KAD_RECORD_INVALID')
  const tooLong = await recordOf(1, { expiresAt: NOW + RECORD_LIFE_MS_MAX + 1 })
  assert.equal(codeOf(book.hold(KEY, tooLong)), 'KAD_RECORD_EXPIRED')
  assert.equal(codeOf(book.hold(KEY, await recordOf(1, { expiresAt: NOW }))), 'KAD_RECORD_EXPIRED')
  assert.equal(book.count, 0)
  await assert.rejects(recordOf(1, { value: new Uint8Array(1_025) }), { code: 'KAD_RECORD_INVALID' })
  await assert.rejects(recordOf(1, { kind: 'Peer' }), { code: 'KAD_RECORD_INVALID' })
})

test('the highest number counts, and of two with one number always the same one', async () => {
  const book = bench().book()
  const opened = [await recordOf(1), await recordOf(2, { value: Uint8Array.of(7) }), await recordOf(2)].map(bytes => {
    const signed = book.inspect(bytes)
    assert(!(signed instanceof KadError))
    return signed
  })
  assert.equal(latestOf(opened)?.record.sequence, 2)
  assert.equal(latestOf(opened), latestOf([...opened].reverse()))
  assert.equal(latestOf([]), undefined)
})

test('records and numbers are bounded: the record farthest from the node goes, and numbers of what is held stay', async () => {
  const { clock, store } = bench()
  const self = pointOf('this node')
  const book = new RecordBook({ clock, store, self, kinds: new Set(['peer']) }, { heldMax: 3, sequencesMax: 5 })
  const content = { kind: 'peer', sequence: 2, expiresAt: NOW + HOUR_MS, value: new Uint8Array() }
  const entries = await Promise.all(
    Array.from({ length: 8 }, async (_, i) => {
      const { peer, provider } = await createNodeIdentity(seededRandom(100 + i))
      const older = await createKadRecord(provider, { ...content, sequence: 1 })
      return { key: recordKey('peer', peer), bytes: await createKadRecord(provider, content), older }
    }),
  )
  for (const { key, bytes } of entries) book.hold(key, bytes)
  const nearest = [...entries].sort((a, b) => compareDistance(self, pointOf(a.key), pointOf(b.key))).slice(0, 3)
  assert.deepEqual([...book.all()].map(({ key }) => key).sort(), nearest.map(({ key }) => key).sort())
  assert.equal(store.list('record/', 100).length, 3)
  assert.equal(store.list('sequence/', 100).length, 5)
  for (const { key, older } of nearest) assert.equal(codeOf(book.hold(key, older)), 'KAD_RECORD_ROLLBACK')
})
