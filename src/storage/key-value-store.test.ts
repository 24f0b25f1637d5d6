import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, type TestContext, test } from 'node:test'
import { ManualClock, seededRandom } from '#base'
import { type DataDir, openDataDir } from './data-dir.ts'
import { KAD_ENTRIES_KEPT_MAX, KAD_ENTRY_BYTES_MAX, KAD_ENTRY_KEY_CHARS_MAX } from './limits.ts'

const NOW = 1_700_000_000_000
const root = await mkdtemp(join(tmpdir(), 'koinon-kad-store-'))
after(() => rm(root, { recursive: true, force: true }))

async function open(t: TestContext, name: string, clock = new ManualClock(NOW)): Promise<DataDir> {
  const data = await openDataDir(join(root, name), { clock, random: seededRandom(1) })
  t.after(() => data.close())
  return data
}

const keysOf = (data: DataDir, prefix: string, max = 100): string[] => data.kad.list(prefix, max).map(({ key }) => key)

test('entries come back after a restart, those that expire last first, and expired ones never', async t => {
  const clock = new ManualClock(NOW)
  const before = await open(t, 'restart', clock)
  before.kad.put({ key: 'record/a', value: Uint8Array.of(1), expiresAt: NOW + 2_000 })
  before.kad.put({ key: 'record/b', value: Uint8Array.of(2), expiresAt: NOW + 3_000 })
  before.kad.put({ key: 'record/b', value: Uint8Array.of(3), expiresAt: NOW + 4_000 })
  before.kad.put({ key: 'record*', value: new Uint8Array(), expiresAt: NOW + 4_000 })
  before.kad.put({ key: 'peer/c', value: new Uint8Array(), expiresAt: NOW + 1_000 })
  await before.close()
  const data = await open(t, 'restart', clock)
  assert.deepEqual(keysOf(data, 'record/'), ['record/b', 'record/a'])
  assert.deepEqual(keysOf(data, 'record/', 1), ['record/b'])
  assert.deepEqual(data.kad.get('record/b'), { key: 'record/b', value: Uint8Array.of(3), expiresAt: NOW + 4_000 })
  clock.advance(2_000)
  assert.equal(data.kad.get('peer/c'), undefined)
  assert.deepEqual(keysOf(data, ''), ['record/b', 'record*'].sort())
  data.kad.delete('record/b')
  assert.equal(data.kad.get('record/b'), undefined)
})

test('what is too large is left out, and damaged rows count as none', async t => {
  const data = await open(t, 'damaged')
  const expiresAt = NOW + 1_000
  data.kad.put({ key: 'x'.repeat(KAD_ENTRY_KEY_CHARS_MAX + 1), value: new Uint8Array(), expiresAt })
  data.kad.put({ key: 'large', value: new Uint8Array(KAD_ENTRY_BYTES_MAX + 1), expiresAt })
  data.kad.put({ key: 'good', value: new Uint8Array(KAD_ENTRY_BYTES_MAX), expiresAt })
  const database = new DatabaseSync(join(root, 'damaged', 'node.db'))
  database.exec(`INSERT INTO kad_entries VALUES ('late', x'00', 9223372036854775807)`)
  database.close()
  assert.deepEqual(keysOf(data, ''), ['good'])
})

test('the table is bounded: what expires first goes first', async t => {
  const data = await open(t, 'bounded')
  const database = new DatabaseSync(join(root, 'bounded', 'node.db'))
  database.exec(
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${KAD_ENTRIES_KEPT_MAX})
     INSERT INTO kad_entries SELECT 'k' || i, x'', ${NOW} + i FROM n`,
  )
  const count = (): number => Number(database.prepare('SELECT count(*) AS n FROM kad_entries').get()?.['n'])
  await data.close()
  const reopened = await open(t, 'bounded')
  reopened.kad.put({ key: 'new', value: new Uint8Array(), expiresAt: NOW + 1e9 })
  assert(count() <= KAD_ENTRIES_KEPT_MAX)
  assert.equal(reopened.kad.get('k1'), undefined)
  assert.notEqual(reopened.kad.get('new'), undefined)
  database.close()
})
