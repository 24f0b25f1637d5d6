import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, type TestContext, test } from 'node:test'
import * as fc from 'fast-check'
import { ManualClock, seededRandom, toHex } from '#base'
import { type Ed25519Signer, ed25519Signer, peerOfPublicKey } from '#crypto'
import type { AuditVerdict } from './audit-check.ts'
import { encodeFacts, hashEntry, utf8 } from './audit-entry.ts'
import { readAuditLog } from './audit-reader.ts'
import { type DataDir, openDataDir } from './data-dir.ts'
import { MIGRATIONS } from './migrations.ts'
import {
  AUDIT_AGE_MS_MAX,
  AUDIT_CHECKPOINT_ENTRIES,
  AUDIT_CHECKPOINT_MS_MAX,
  AUDIT_CLOSE_MS_MAX,
  AUDIT_ENTRIES_MAX,
  AUDIT_PRUNE_BATCH,
  AUDIT_PRUNE_PERIOD_MS,
} from './limits.ts'

const NOW = 1_700_000_000_000
const root = await mkdtemp(join(tmpdir(), 'koinon-audit-'))
after(() => rm(root, { recursive: true, force: true }))

const keyOf = (n: number): Ed25519Signer => ed25519Signer(seededRandom(n).bytes(32))
const key = keyOf(1)
const self = peerOfPublicKey(key.publicKey)

let count = 0
type Bench = { readonly clock: ManualClock; readonly path: string; data: DataDir; reopen(): Promise<void> }
async function bench(t: TestContext): Promise<Bench> {
  const path = join(root, `data-${count++}`)
  const clock = new ManualClock(NOW)
  const open = () => openDataDir(path, { clock, random: seededRandom(1) })
  const b: Bench = {
    clock,
    path,
    data: await open(),
    reopen: async () => {
      await b.data.close()
      b.data = await open()
    },
  }
  t.after(() => b.data.close())
  return b
}

/** Entries of different peers, so that none is folded. */
function fill({ data, clock }: Bench, entries: number): void {
  for (let i = 0; i < entries; i++) {
    data.audit.record('refused', { peer: `peer-${i}`, reason: 'proof-wrong', attempt: i })
    clock.advance(5_000)
  }
}

function withDatabase<T>(path: string, action: (database: DatabaseSync) => T): T {
  const database = new DatabaseSync(join(path, 'node.db'), { defensive: false })
  try {
    return action(database)
  } finally {
    database.close()
  }
}
const sql = (path: string, text: string): void => withDatabase(path, database => database.exec(text))

function verify(path: string, signer?: string): AuditVerdict {
  const reader = readAuditLog(path)
  try {
    return reader.verify(signer)
  } finally {
    reader.close()
  }
}

function entriesIn(path: string, query?: Parameters<ReturnType<typeof readAuditLog>['entries']>[0]) {
  const reader = readAuditLog(path)
  try {
    return reader.entries(query)
  } finally {
    reader.close()
  }
}

test('entries are read back as they were recorded, beside the running node and after it', async t => {
  const b = await bench(t)
  b.data.audit.record('node-started', { version: '0.2.0', first: true })
  b.clock.advance(10)
  b.data.audit.record('banned', { peer: self, minutes: 10 })
  const expected = [
    { seq: 1, at: NOW, kind: 'node-started', facts: { version: '0.2.0', first: true } },
    { seq: 2, at: NOW + 10, kind: 'banned', peer: self, facts: { minutes: 10 } },
  ]
  const plain = () => entriesIn(b.path).map(({ hash: _hash, ...entry }) => entry)
  assert.deepEqual(plain(), expected)
  await b.data.close()
  assert.deepEqual(plain(), expected)
  await b.reopen()
  b.data.audit.record('node-stopped', {})
  assert.deepEqual(
    plain().map(entry => entry.seq),
    [1, 2, 3],
  )
  assert.deepEqual(verify(b.path), { ok: true, entries: 3, checkpoints: 0, unsigned: 3 })
})

test('the hash of an entry is over all its fields, and stays what it is', () => {
  const entry = { seq: 1n, at: 2n, kind: utf8('k'), peer: utf8('p'), facts: utf8('{}'), previous: new Uint8Array(32) }
  const hash = toHex(hashEntry(entry))
  // Made with Python: hashlib.sha256 over the length-prefixed parts.
  assert.equal(hash, '2d19d0a540e09294089a924f495fa4d159008324c6b3fd6a451107a09bdf26ff')
  const others = [
    { ...entry, seq: 2n },
    { ...entry, at: -2n },
    { ...entry, kind: utf8('kp'), peer: utf8('') },
    { ...entry, kind: utf8(''), peer: utf8('kp') },
    { ...entry, facts: utf8('{ }') },
    { ...entry, previous: new Uint8Array(32).fill(1) },
  ]
  for (const other of others) assert.notEqual(toHex(hashEntry(other)), hash)
})

test('facts have one form, stay small, and survive every text', () => {
  assert.equal(encodeFacts({ b: 1, a: 'x', c: true }), '{"a":"x","b":1,"c":true}')
  assert.equal(encodeFacts({ n: Number.NaN, i: Number.POSITIVE_INFINITY }), '{"i":"Infinity","n":"NaN"}')
  fc.assert(
    fc.property(
      fc.dictionary(
        fc.string({ unit: 'binary', maxLength: 300 }),
        fc.oneof(fc.string({ unit: 'binary', maxLength: 3000 }), fc.double(), fc.boolean()),
      ),
      facts => {
        const text = encodeFacts(facts)
        assert.ok(utf8(text).byteLength <= 2048)
        assert.ok(text.isWellFormed())
        const again = JSON.parse(text) as Record<string, string | number | boolean>
        assert.deepEqual(Object.keys(again).length <= Object.keys(facts).length, true)
      },
    ),
    { seed: 7, numRuns: 50 },
  )
})

test('a flood is two entries, and what is still counted is written at the end', async t => {
  const b = await bench(t)
  for (let n = 1; n <= 1000; n++) b.data.audit.record('authentication-failed', { peer: 'p', n })
  assert.equal(entriesIn(b.path).length, 1)
  b.clock.advance(1_000)
  for (let n = 1; n <= 10; n++) b.data.audit.record('authentication-failed', { peer: 'p', n })
  await b.data.close()
  assert.deepEqual(
    entriesIn(b.path).map(entry => entry.facts),
    [{ n: 1 }, { n: 1000, folded: 999 }, { n: 10, folded: 10 }],
  )
})

test('entries are found by kind, peer, end of the peer id, time and number', async t => {
  const b = await bench(t)
  fill(b, 5)
  b.data.audit.record('banned', { peer: 'peer-3' })
  const seqs = (query: Parameters<typeof entriesIn>[1]) => entriesIn(b.path, query).map(entry => entry.seq)
  assert.deepEqual(seqs({ kind: 'banned' }), [6])
  assert.deepEqual(seqs({ peer: 'peer-3' }), [4, 6])
  assert.deepEqual(seqs({ peer: '-3' }), [4, 6])
  assert.deepEqual(seqs({ since: NOW + 15_000 }), [4, 5, 6])
  assert.deepEqual(seqs({ limit: 2 }), [5, 6])
  assert.deepEqual(seqs({ limit: 1, peer: 'peer-3', kind: 'refused' }), [4])
  assert.deepEqual(seqs({ kind: 'replay' }), [])
})

test('the node signs every so many entries, after a while, and at the end', async t => {
  const b = await bench(t)
  b.data.audit.setSigner(key)
  fill(b, 1)
  await b.data.audit.checkpoint()
  assert.deepEqual([verify(b.path).checkpoints, verify(b.path).unsigned], [1, 0])
  // Within the time: by number.
  for (let i = 0; i < AUDIT_CHECKPOINT_ENTRIES; i++) b.data.audit.record('replay', { peer: `r${i}` })
  await new Promise(resolve => setImmediate(resolve))
  assert.deepEqual([verify(b.path).checkpoints, verify(b.path).unsigned], [2, 0])
  b.data.audit.record('banned', { peer: 'x' })
  b.clock.advance(AUDIT_CHECKPOINT_MS_MAX - 1)
  assert.equal(verify(b.path).unsigned, 1)
  b.clock.advance(1)
  await new Promise(resolve => setImmediate(resolve))
  assert.equal(verify(b.path).unsigned, 0)
  b.data.audit.record('node-stopped', {})
  await b.data.close()
  const verdict = verify(b.path)
  assert.deepEqual([verdict.ok, verdict.checkpoints, verdict.unsigned, verdict.signer], [true, 4, 0, self])
  assert.equal(verdict.lastCheckpoint?.seq, 67)
  assert.equal(verdict.lastCheckpoint.hash, entriesIn(b.path).at(-1)?.hash)
})

test('a key that answers late, fails or errs holds nothing up, and leaves no bad signature', async t => {
  const b = await bench(t)
  const publicKey = key.publicKey
  const asked: PromiseWithResolvers<Uint8Array>[] = []
  const messages: Uint8Array[] = []
  const sign = (message: Uint8Array): Promise<Uint8Array> => {
    messages.push(message)
    const answer = Promise.withResolvers<Uint8Array>()
    asked.push(answer)
    return answer.promise
  }
  b.data.audit.setSigner({ publicKey, sign })
  fill(b, 1)
  const first = b.data.audit.checkpoint()
  await new Promise(resolve => setImmediate(resolve))
  fill(b, 3)
  assert.equal(asked.length, 1, 'one at a time')
  asked[0]?.resolve(key.sign(messages[0] ?? new Uint8Array()))
  await first
  assert.deepEqual([verify(b.path).checkpoints, verify(b.path).unsigned], [1, 3])
  const second = b.data.audit.checkpoint()
  await new Promise(resolve => setImmediate(resolve))
  asked[1]?.reject(new Error('the token was pulled out'))
  await second
  const third = b.data.audit.checkpoint()
  await new Promise(resolve => setImmediate(resolve))
  asked[2]?.resolve(new Uint8Array(64))
  await third
  assert.deepEqual([verify(b.path).ok, verify(b.path).checkpoints, verify(b.path).unsigned], [true, 1, 3])
  // A key that never answers holds the end up for a while only.
  const closed = b.data.close()
  await new Promise(resolve => setImmediate(resolve))
  b.clock.advance(AUDIT_CLOSE_MS_MAX)
  await closed
  assert.deepEqual([verify(b.path).ok, verify(b.path).unsigned], [true, 3])
})

test('after a rotation the new key vouches for the whole log, and old signatures hold by the hand-over', async t => {
  const b = await bench(t)
  const next = keyOf(2)
  b.data.audit.setSigner(key)
  fill(b, 3)
  await b.data.audit.checkpoint()
  const to = peerOfPublicKey(next.publicKey)
  b.data.peerKeys.record({ from: self, to, bytes: utf8('statement'), at: NOW })
  b.data.audit.record('key-rotated', { from: self, to })
  assert.equal(verify(b.path).unsigned, 1)
  b.data.audit.setSigner(next)
  assert.deepEqual([verify(b.path).ok, verify(b.path).unsigned], [true, 4], 'the old key vouches no more')
  await new Promise(resolve => setImmediate(resolve))
  const verdict = verify(b.path)
  assert.deepEqual([verdict.ok, verdict.checkpoints, verdict.unsigned, verdict.signer], [true, 3, 0, to])
  assert.deepEqual(verify(b.path, to), verdict)
  assert.match(verify(b.path, self).firstBad?.what ?? '', /by another key than the node's/)
  sql(b.path, 'DELETE FROM handovers')
  assert.equal(verify(b.path).firstBad?.seq, 1)
})

test('whoever replaces the signatures by their own is found out by the key that one knows', async t => {
  const b = await bench(t)
  const thief = keyOf(3)
  b.data.audit.setSigner(thief)
  fill(b, 3)
  await b.data.audit.checkpoint()
  assert.equal(verify(b.path).ok, true, 'the file alone cannot tell')
  assert.match(verify(b.path, self).firstBad?.what ?? '', /by another key/)
})

test('old entries go by number, and the rest is still tied to them', async t => {
  const b = await bench(t)
  b.data.audit.setSigner(key)
  fill(b, 3)
  await b.data.audit.checkpoint()
  await b.data.close()
  // As a long life would leave it: rows are copied with right hashes, far faster than they can be recorded.
  withDatabase(b.path, database => {
    const last = database.prepare('SELECT seq, hash FROM audit ORDER BY seq DESC').get() as {
      seq: number
      hash: Uint8Array
    }
    const insert = database.prepare('INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)')
    database.exec('BEGIN')
    let previous = last.hash
    for (let seq = last.seq + 1; seq < AUDIT_ENTRIES_MAX + AUDIT_PRUNE_BATCH + 2500; seq++) {
      const entry = {
        seq: BigInt(seq),
        at: BigInt(NOW),
        kind: utf8('replay'),
        peer: utf8(''),
        facts: utf8('{}'),
        previous,
      }
      const hash = hashEntry(entry)
      insert.run(seq, NOW, 'replay', '', '{}', previous, hash)
      previous = hash
    }
    database.exec('COMMIT')
  })
  await b.reopen()
  b.data.audit.setSigner(key)
  b.clock.advance(10_000)
  await b.data.audit.checkpoint()
  const verdict = verify(b.path)
  assert.deepEqual([verdict.ok, verdict.firstBad], [true, undefined])
  assert.ok(verdict.entries <= AUDIT_ENTRIES_MAX, `${verdict.entries}`)
  const pruned = entriesIn(b.path, { kind: 'log-pruned' })
  assert.ok(pruned.length >= 3)
  assert.equal(pruned.at(-1)?.facts['reason'], 'count')
  // What went cannot be put back, and more cannot be taken away.
  const first = Number(pruned.at(-1)?.facts['through']) + 1
  sql(b.path, `DELETE FROM audit WHERE seq = ${first}`)
  assert.equal(verify(b.path).firstBad?.seq, first)
  sql(
    b.path,
    `UPDATE audit_state SET anchor_seq = ${first}, anchor_hash = (SELECT previous FROM audit WHERE seq = ${first + 1})`,
  )
  assert.match(verify(b.path).firstBad?.what ?? '', /not pruned by the node/)
})

test('old entries go by age, while the node runs', async t => {
  const b = await bench(t)
  fill(b, 3)
  b.clock.advance(AUDIT_AGE_MS_MAX - 2 * AUDIT_PRUNE_PERIOD_MS)
  b.data.audit.record('banned', { peer: 'y' })
  b.clock.advance(3 * AUDIT_PRUNE_PERIOD_MS)
  assert.deepEqual(
    entriesIn(b.path).map(({ seq, kind }) => [seq, kind]),
    [
      [4, 'banned'],
      [5, 'log-pruned'],
    ],
  )
  assert.equal(verify(b.path).ok, true)
  b.clock.advance(2 * AUDIT_AGE_MS_MAX)
  await b.reopen()
  const rest = entriesIn(b.path)
  assert.ok(rest.length > 0 && rest.every(entry => entry.kind === 'log-pruned'))
  assert.deepEqual([verify(b.path).ok, verify(b.path).firstBad], [true, undefined])
})

test('a log that was cut goes on behind the gap, so that the gap is found for ever', async t => {
  const b = await bench(t)
  b.data.audit.setSigner(key)
  fill(b, 5)
  await b.data.close()
  sql(b.path, 'DELETE FROM audit WHERE seq > 2')
  await b.reopen()
  b.data.audit.setSigner(key)
  fill(b, 2)
  await b.data.audit.checkpoint()
  assert.deepEqual(
    entriesIn(b.path).map(entry => entry.seq),
    [1, 2, 6, 7],
  )
  assert.equal(verify(b.path).firstBad?.seq, 3)
})

test('a node starts and records whatever was done to the log', async t => {
  for (const edit of [
    'DELETE FROM audit_state',
    'DELETE FROM audit',
    `UPDATE audit_state SET anchor_seq = -5, anchor_hash = x'00', signer = x'01'`,
    'UPDATE audit_state SET anchor_seq = 9223372036854775807',
    `UPDATE audit SET hash = x'00' WHERE seq = 3`,
    'UPDATE audit SET seq = 9223372036854775807 WHERE seq = 3',
    'UPDATE audit SET seq = -9223372036854775808, at = -9223372036854775808 WHERE seq = 1',
    'UPDATE audit SET at = 9223372036854775807',
    'UPDATE audit_checkpoints SET seq = 9223372036854775807 WHERE seq = 3',
    `INSERT INTO audit_checkpoints VALUES (40, 0, x'', x'', x'')`,
  ]) {
    const b = await bench(t)
    b.data.audit.setSigner(key)
    fill(b, 3)
    await b.data.close()
    sql(b.path, edit)
    await b.reopen()
    b.data.audit.setSigner(key)
    b.data.audit.record('node-started', {})
    await b.data.audit.checkpoint()
    assert.ok(
      entriesIn(b.path).some(entry => entry.kind === 'node-started'),
      edit,
    )
    assert.equal(typeof verify(b.path).ok, 'boolean')
  }
})

test('recording never throws: not without a table, not when closed, and what was lost is said later', async t => {
  const b = await bench(t)
  sql(b.path, 'ALTER TABLE audit RENAME TO away')
  b.data.audit.record('banned', { peer: 'a' })
  b.data.audit.record('banned', { peer: 'b' })
  sql(b.path, 'ALTER TABLE away RENAME TO audit')
  b.data.audit.record('banned', { peer: 'c' })
  assert.deepEqual(
    entriesIn(b.path).map(entry => [entry.peer, entry.facts]),
    [['c', { lost: 2 }]],
  )
  await b.data.close()
  b.data.audit.record('banned', { peer: 'd' })
  await b.data.audit.checkpoint()
  b.data.audit.setSigner(key)
  assert.equal(entriesIn(b.path).length, 1)
})

test('what is no log of a node is a clear error', async t => {
  assert.throws(() => readAuditLog(join(root, 'nowhere')), { code: 'STORAGE_FILE', message: /no node has run/ })
  const b = await bench(t)
  await b.data.close()
  sql(b.path, 'PRAGMA user_version = 1')
  assert.throws(() => readAuditLog(b.path), { code: 'STORAGE_DATABASE', message: /start the node once/ })
  sql(b.path, 'PRAGMA user_version = 99')
  assert.throws(() => readAuditLog(b.path), { code: 'STORAGE_DATABASE', message: /update it/ })
  sql(b.path, `PRAGMA user_version = ${MIGRATIONS.length}; DROP TABLE audit_checkpoints`)
  const reader = readAuditLog(b.path)
  assert.throws(() => reader.verify(), { code: 'STORAGE_DATABASE', message: /audit_checkpoints/ })
  reader.close()
  reader.close()
})
