import assert from 'node:assert/strict'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, type TestContext, test } from 'node:test'
import * as fc from 'fast-check'
import { type LogFields, type Logger, ManualClock, seededRandom, silentLogger } from '#base'
import type { StoredPenalty, StoredSession } from '#protocol'
import { type DataDir, openDataDir } from './data-dir.ts'
import {
  HANDOVERS_KEPT_MAX,
  KEY_CHAIN_MAX,
  OBSERVED_PEERS_MAX,
  PENALTIES_KEPT_MAX,
  PENALTY_AGE_MS_MAX,
  RATINGS_PER_RATER_MAX,
  RATINGS_PER_SUBJECT_MAX,
  RATINGS_SHOWN_MAX,
  SESSIONS_KEPT_MAX,
  SESSIONS_KEPT_PER_PEER_MAX,
} from './limits.ts'

const NOW = 1_700_000_000_000
const root = await mkdtemp(join(tmpdir(), 'koinon-stores-'))
after(() => rm(root, { recursive: true, force: true }))

type Bench = {
  readonly clock: ManualClock
  readonly path: string
  readonly warnings: string[]
  data: DataDir
  reopen(): Promise<DataDir>
  /** As a person with an editor would. */
  sql(text: string): void
  rows(table: string): number
}

let count = 0
async function bench(t: TestContext): Promise<Bench> {
  const path = join(root, `data-${count++}`)
  const clock = new ManualClock(NOW)
  const warnings: string[] = []
  const warn = (message: string, fields?: LogFields): void => {
    warnings.push(`${message}: ${String(fields?.['error'])}`)
  }
  const log: Logger = { ...silentLogger, warn }
  const deps = { clock, random: seededRandom(1), log }
  const withDatabase = <T>(action: (database: DatabaseSync) => T): T => {
    const database = new DatabaseSync(join(path, 'node.db'), { defensive: false })
    try {
      return action(database)
    } finally {
      database.close()
    }
  }
  const self: Bench = {
    clock,
    path,
    warnings,
    data: await openDataDir(path, deps),
    reopen: async () => {
      await self.data.close()
      self.data = await openDataDir(path, deps)
      return self.data
    },
    sql: text => withDatabase(database => database.exec(text)),
    rows: table =>
      withDatabase(database => Number(database.prepare(`SELECT count(*) AS n FROM ${table}`).get()?.['n'])),
  }
  t.after(() => self.data.close())
  return self
}

const bytes = (size: number, value: number): Uint8Array => {
  const filled = new Uint8Array(size)
  new DataView(filled.buffer).setUint32(0, value)
  return filled
}
const sessionOf = (n: number, over: Partial<StoredSession> = {}): StoredSession => ({
  id: bytes(16, n),
  peer: 'peer-a',
  resumptionSecret: bytes(32, n),
  resumptions: 0,
  version: 1,
  suite: 'Noise_XXhfs_25519+MLKEM768_AESGCM_SHA256',
  createdAt: NOW + n,
  expiresAt: NOW + 1_000_000,
  ...over,
})
const penaltyOf = (subject: string, over: Partial<StoredPenalty> = {}): StoredPenalty => ({
  subject,
  score: 1.5,
  at: NOW,
  bannedUntil: 0,
  failures: 2,
  ...over,
})

test('the database and its files are for their owner alone, those of an earlier version too', {
  skip: process.platform === 'win32',
}, async t => {
  const b = await bench(t)
  b.data.sessions.save(sessionOf(1))
  const modes = async () =>
    Promise.all(['', '-wal', '-shm'].map(async end => (await stat(join(b.path, `node.db${end}`))).mode & 0o777))
  assert.deepEqual(await modes(), [0o600, 0o600, 0o600])
  assert.equal((await stat(b.path)).mode & 0o777, 0o700)
  await b.data.close()
  const { chmod } = await import('node:fs/promises')
  await chmod(join(b.path, 'node.db'), 0o644)
  await b.reopen()
  b.data.sessions.save(sessionOf(1))
  assert.deepEqual(await modes(), [0o600, 0o600, 0o600])
})

test('a session comes back as it was saved, after a restart too', async t => {
  const b = await bench(t)
  const session = sessionOf(1)
  b.data.sessions.save(session)
  assert.deepEqual(b.data.sessions.find('peer-a'), session)
  await b.reopen()
  assert.deepEqual(b.data.sessions.find('peer-a'), session)
  assert.equal(b.data.sessions.find('peer-b'), undefined)
  const resumed = { ...session, resumptions: 1, resumptionSecret: bytes(32, 9) }
  b.data.sessions.save(resumed)
  assert.deepEqual(b.data.sessions.find('peer-a'), resumed)
  b.data.sessions.remove(session.id)
  assert.equal(b.data.sessions.find('peer-a'), undefined)
})

test('the newest session with a peer is found until it expires or goes; then the one before it', async t => {
  const b = await bench(t)
  b.data.sessions.save(sessionOf(2, { expiresAt: NOW + 500 }))
  b.data.sessions.save(sessionOf(1))
  assert.deepEqual(b.data.sessions.find('peer-a')?.id, bytes(16, 2))
  b.clock.advance(500)
  assert.deepEqual(b.data.sessions.find('peer-a')?.id, bytes(16, 1))
  b.data.sessions.save(sessionOf(3))
  assert.equal(b.rows('sessions'), 2, 'the expired one is gone, secret and all')
})

test('sessions are bounded by peer and all together, the oldest go', async t => {
  const b = await bench(t)
  for (let n = 1; n <= SESSIONS_KEPT_PER_PEER_MAX + 3; n++) b.data.sessions.save(sessionOf(n))
  assert.equal(b.rows('sessions'), SESSIONS_KEPT_PER_PEER_MAX)
  assert.deepEqual(b.data.sessions.find('peer-a')?.id, bytes(16, SESSIONS_KEPT_PER_PEER_MAX + 3))
  b.sql(`WITH RECURSIVE n (i) AS (VALUES (100) UNION ALL SELECT i + 1 FROM n WHERE i < ${100 + SESSIONS_KEPT_MAX})
         INSERT INTO sessions SELECT randomblob(16), 'p' || i, zeroblob(32), 0, 1, 's', ${NOW} + i, ${NOW + 1e9} FROM n`)
  await b.reopen()
  b.data.sessions.save(sessionOf(1_000_000, { peer: 'newest' }))
  assert.ok(b.rows('sessions') <= SESSIONS_KEPT_MAX)
  assert.ok(b.data.sessions.find('newest'))
  assert.equal(b.data.sessions.find('p100'), undefined)
  assert.deepEqual(b.warnings, [])
})

test('the replay filter comes back as it was saved, the newest state only', async t => {
  const b = await bench(t)
  assert.equal(b.data.replay.load(), undefined)
  b.data.replay.save(bytes(100, 1))
  b.data.replay.save(bytes(200, 2))
  await b.reopen()
  assert.deepEqual(b.data.replay.load(), bytes(200, 2))
  b.data.replay.save(new Uint8Array(9 * 1024 * 1024))
  assert.equal(b.data.replay.load()?.byteLength, 200)
  assert.match(b.warnings.join(), /cannot store the replay filter: .*CHECK/)
})

test('penalties come back, those of no use any more are forgotten', async t => {
  const b = await bench(t)
  const [scored, banned] = [penaltyOf('peer-a'), penaltyOf('ip:10.0.0.1', { bannedUntil: NOW + PENALTY_AGE_MS_MAX })]
  b.data.penalties.save(penaltyOf('peer-a', { score: 9 }))
  b.data.penalties.save(scored)
  b.data.penalties.save(banned)
  b.data.penalties.save(penaltyOf('gone'))
  b.data.penalties.remove('gone')
  const bySubject = (list: readonly StoredPenalty[]) => [...list].sort((x, y) => x.subject.localeCompare(y.subject))
  assert.deepEqual(bySubject((await b.reopen()).penalties.load()), [banned, scored])
  b.clock.advance(PENALTY_AGE_MS_MAX + 1)
  assert.deepEqual(b.data.penalties.load(), [banned])
})

test('a flood of penalties ends no ban', async t => {
  const b = await bench(t)
  b.data.penalties.save(penaltyOf('banned', { bannedUntil: NOW + 1e9 }))
  b.sql(`WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ${PENALTIES_KEPT_MAX + 50})
         INSERT INTO penalties SELECT 's' || i, 1, ${NOW} + i, 0, 0 FROM n`)
  await b.reopen()
  b.data.penalties.save(penaltyOf('last', { at: NOW + 1e6 }))
  const subjects = new Set(b.data.penalties.load().map(penalty => penalty.subject))
  assert.ok(subjects.size <= PENALTIES_KEPT_MAX)
  assert.ok(subjects.has('banned') && subjects.has('last') && !subjects.has('s1'))
})

const statement = (from: string, to: string, at = NOW) => ({
  from,
  to,
  bytes: new TextEncoder().encode(`${from}>${to}`),
  at,
})
const texts = (chain: readonly Uint8Array[]) => chain.map(one => new TextDecoder().decode(one))

test('hand-overs lead from any former key to the current one', async t => {
  const { data, ...b } = await bench(t)
  assert.equal(data.peerKeys.current('a'), 'a')
  assert.ok(data.peerKeys.record(statement('a', 'b')))
  assert.ok(data.peerKeys.record(statement('b', 'c')))
  await data.close()
  const { peerKeys } = await b.reopen()
  assert.equal(peerKeys.current('a'), 'c')
  assert.equal(peerKeys.current('c'), 'c')
  assert.deepEqual(texts(peerKeys.chain('a')), ['a>b', 'b>c'])
  assert.deepEqual(texts(peerKeys.chain('b')), ['b>c'])
  assert.deepEqual(peerKeys.chain('c'), [])
  assert.deepEqual(peerKeys.formerIds('c'), ['b', 'a'])
})

test('a key hands over once, not to itself, and not in a circle', async t => {
  const { data } = await bench(t)
  assert.ok(data.peerKeys.record(statement('a', 'b')))
  assert.ok(data.peerKeys.record(statement('a', 'b')), 'the same again is nothing new')
  assert.equal(data.peerKeys.record(statement('a', 'thief')), false)
  assert.equal(data.peerKeys.record(statement('b', 'b')), false)
  assert.ok(data.peerKeys.record(statement('b', 'c')))
  assert.equal(data.peerKeys.record(statement('c', 'a')), false)
  assert.equal(data.peerKeys.current('a'), 'c')
})

test('what is kept about a peer moves with its key, and becomes one with what is there', async t => {
  const { data } = await bench(t)
  data.sessions.save(sessionOf(1, { peer: 'old' }))
  data.penalties.save(penaltyOf('old', { score: 7, failures: 1 }))
  data.penalties.save(penaltyOf('new', { score: 3, failures: 4, bannedUntil: NOW + 5 }))
  data.reputation.observe('old', 'served')
  data.reputation.observe('new', 'served')
  data.reputation.observe('new', 'refused')
  data.reputation.rate({ rater: 'x', subject: 'old', score: 1, comment: 'newer', at: NOW })
  data.reputation.rate({ rater: 'x', subject: 'new', score: -1, comment: 'older', at: NOW - 5 })
  data.reputation.rate({ rater: 'new', subject: 'old', score: 1, comment: 'praise of oneself', at: NOW })
  data.reputation.rate({ rater: 'old', subject: 'y', score: 0.5, comment: '', at: NOW })
  assert.ok(data.peerKeys.record(statement('old', 'new')))
  assert.equal(data.sessions.find('old'), undefined)
  assert.equal(data.sessions.find('new')?.peer, 'new')
  assert.deepEqual(data.penalties.load(), [penaltyOf('new', { score: 7, failures: 4, bannedUntil: NOW + 5 })])
  const { mean, own, ratings } = data.reputation.of('new')
  assert.deepEqual([mean, own.served, own.refused], [1, 2, 1])
  assert.deepEqual(
    ratings.map(one => one.comment),
    ['newer'],
  )
  assert.equal(data.reputation.of('y').ratings[0]?.rater, 'new')
  // Whoever does not know of the hand-over yet speaks of the same peer.
  data.reputation.rate({ rater: 'z', subject: 'old', score: 0, comment: '', at: NOW })
  assert.equal(data.reputation.of('new').count, 2)
  assert.equal(data.reputation.of('old').count, 2)
})

test('all of a hand-over is recorded or nothing', async t => {
  const b = await bench(t)
  b.data.penalties.save(penaltyOf('old'))
  b.sql(`CREATE TRIGGER broken BEFORE DELETE ON penalties BEGIN SELECT RAISE(ABORT, 'disk full'); END`)
  assert.throws(() => b.data.peerKeys.record(statement('old', 'new')), {
    code: 'STORAGE_DATABASE',
    message: /disk full/,
  })
  assert.equal(b.data.peerKeys.current('old'), 'old')
  assert.deepEqual(b.data.penalties.load(), [penaltyOf('old')])
})

test('chains of keys and hand-overs all together are bounded, those of this node stay', async t => {
  const b = await bench(t)
  for (let i = 0; i < KEY_CHAIN_MAX + 6; i++) assert.ok(b.data.peerKeys.record(statement(`k${i}`, `k${i + 1}`)))
  const newest = `k${KEY_CHAIN_MAX + 6}`
  assert.equal(b.data.peerKeys.current('k6'), newest)
  assert.equal(b.data.peerKeys.chain('k6').length, KEY_CHAIN_MAX)
  assert.equal(b.data.peerKeys.current('k5'), 'k5')
  assert.equal(b.data.peerKeys.formerIds(newest).length, KEY_CHAIN_MAX)
  b.sql('DELETE FROM handovers')
  const own = '12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf'
  b.data.peerKeys.record(statement('own-old', own, 1))
  b.data.peerKeys.record(statement('other-old', 'other-new', 2))
  b.sql(`WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ${HANDOVERS_KEPT_MAX})
         INSERT INTO handovers SELECT 'f' || i, 't' || i, x'00', ${NOW} FROM n`)
  const { publicKeyOfPeer } = await import('#crypto')
  const publicKey = publicKeyOfPeer(own)
  assert.ok(publicKey)
  b.data.audit.setSigner({ publicKey, sign: () => new Uint8Array(64) })
  b.data.peerKeys.record(statement('last-old', 'last-new', NOW + 1))
  assert.equal(b.rows('handovers'), HANDOVERS_KEPT_MAX)
  assert.equal(b.data.peerKeys.current('own-old'), own)
  assert.equal(b.data.peerKeys.current('other-old'), 'other-old')
  assert.equal(b.data.peerKeys.current('last-old'), 'last-new')
})

test('one rating a rater and peer is kept, the newest', async t => {
  const b = await bench(t)
  const rate = (rater: string, score: number, at: number) =>
    b.data.reputation.rate({ rater, subject: 's', score, comment: `${rater} ${score}`, at })
  assert.deepEqual(b.data.reputation.of('s'), {
    mean: undefined,
    count: 0,
    own: { served: 0, failed: 0, refused: 0 },
    ratings: [],
  })
  assert.ok(rate('a', 1, NOW - 10))
  assert.ok(rate('b', -0.5, NOW - 5))
  assert.ok(rate('a', 0.5, NOW - 1))
  assert.equal(rate('a', -1, NOW - 3), false, 'older than what is kept')
  assert.ok(rate('c', 0, NOW + 1e9), 'a time ahead of ours counts as now')
  assert.ok(rate('c', 0.3, NOW))
  b.data.reputation.observe('s', 'failed')
  b.data.reputation.observe('s', 'failed')
  const { reputation } = await b.reopen()
  const found = reputation.of('s')
  assert.ok(Math.abs((found.mean ?? 0) - 0.1) < 1e-12)
  assert.equal(found.count, 3)
  assert.deepEqual(found.own, { served: 0, failed: 2, refused: 0 })
  assert.deepEqual(
    found.ratings.map(one => [one.rater, one.score, one.at]),
    [
      ['c', 0.3, NOW],
      ['a', 0.5, NOW - 1],
      ['b', -0.5, NOW - 5],
    ],
  )
})

test('ratings out of bounds, and of oneself, are not taken', async t => {
  const { data, warnings } = await bench(t)
  const rating = { rater: 'a', subject: 's', score: 0, comment: '', at: NOW }
  assert.equal(data.reputation.rate({ ...rating, score: 1.01 }), false)
  assert.equal(data.reputation.rate({ ...rating, score: Number.NaN }), false)
  assert.equal(data.reputation.rate({ ...rating, comment: 'x'.repeat(201) }), false)
  assert.equal(data.reputation.rate({ ...rating, rater: 's' }), false)
  assert.deepEqual(warnings, [])
  assert.equal(data.reputation.of('s').count, 0)
})

test('ratings are bounded by rater and by subject, and 20 are shown', async t => {
  const b = await bench(t)
  b.sql(`WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
         INSERT INTO ratings SELECT 's', 'r' || i, 0, '', ${NOW} + i FROM n
         UNION ALL SELECT 's' || i, 'r', 0, '', ${NOW} + i FROM n`)
  b.clock.advance(10_000)
  b.data.reputation.rate({ rater: 'r', subject: 's', score: 1, comment: 'last', at: NOW + 5000 })
  const { count, ratings } = b.data.reputation.of('s')
  assert.equal(count, RATINGS_PER_SUBJECT_MAX)
  assert.equal(ratings.length, RATINGS_SHOWN_MAX)
  assert.deepEqual([ratings[0]?.rater, ratings[1]?.rater], ['r', 'r1200'])
  assert.equal(b.data.reputation.of('s1').count, 0)
  assert.equal(b.data.reputation.of('s1200').count, 1)
  assert.equal(b.rows('ratings'), RATINGS_PER_SUBJECT_MAX + RATINGS_PER_RATER_MAX - 1)
})

test('observed peers are bounded', async t => {
  const b = await bench(t)
  b.sql(`WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ${OBSERVED_PEERS_MAX + 10})
         INSERT INTO observations SELECT 'p' || i, 1, 0, 0, ${NOW - 1e6} + i FROM n`)
  await b.reopen()
  b.data.reputation.observe('newest', 'served')
  assert.ok(b.rows('observations') <= OBSERVED_PEERS_MAX)
  assert.equal(b.data.reputation.of('newest').own.served, 1)
  assert.equal(b.data.reputation.of('p1').own.served, 0)
})

/** Values that have no business in any column, as SQL. */
const damage = fc.constantFrom(
  'NULL',
  '-1',
  '9223372036854775807',
  '-9223372036854775808',
  '9e999',
  '-1.5e300',
  `'text'`,
  `x'ff00'`,
  `zeroblob(100000)`,
  `CAST(x'c0ff00' AS TEXT)`,
  `'12D3KooW' || char(0) || 'x'`,
)
const COLUMNS: Readonly<Record<string, readonly string[]>> = {
  sessions: ['id', 'peer', 'resumption_secret', 'resumptions', 'version', 'suite', 'created_at', 'expires_at'],
  replay: ['state'],
  handovers: ['from_peer', 'to_peer', 'statement', 'at'],
  penalties: ['subject', 'score', 'at', 'banned_until', 'failures'],
  ratings: ['subject', 'rater', 'score', 'comment', 'at'],
  observations: ['peer', 'served', 'failed', 'refused', 'at'],
}
const columns = Object.entries(COLUMNS).flatMap(([table, names]) => names.map(name => [table, name] as const))

test('damaged rows are as good as none: nothing throws, and good rows beside them are found', async t => {
  const b = await bench(t)
  // An editor can take STRICT's help away; CHECK's below.
  b.sql(`PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, ' STRICT', '') WHERE type = 'table';
         PRAGMA schema_version = 99`)
  await b.reopen()
  let kept = 0
  const fill = (): void => {
    for (const table of Object.keys(COLUMNS)) b.sql(`DELETE FROM ${table}`)
    b.data.sessions.save(sessionOf(1))
    b.data.sessions.save(sessionOf(2))
    b.data.replay.save(bytes(10, 1))
    b.data.peerKeys.record(statement('a', 'b'))
    b.data.penalties.save(penaltyOf('p'))
    b.data.penalties.save(penaltyOf('q'))
    b.data.reputation.rate({ rater: 'r', subject: 's', score: 1, comment: '', at: NOW })
    b.data.reputation.observe('s', 'served')
  }
  fc.assert(
    fc.property(fc.constantFrom(...columns), damage, ([table, column], value) => {
      fill()
      try {
        b.sql(`PRAGMA ignore_check_constraints = ON;
               UPDATE ${table} SET ${column} = ${value} WHERE rowid = (SELECT min(rowid) FROM ${table})`)
      } catch {
        return // NOT NULL still holds.
      }
      kept++
      b.data.sessions.find('peer-a')
      b.data.replay.load()
      b.data.peerKeys.current('a')
      b.data.peerKeys.chain('a')
      b.data.peerKeys.formerIds('b')
      b.data.reputation.of('s')
      assert.ok(b.data.penalties.load().some(penalty => penalty.subject === 'q'))
      b.data.reputation.observe('s', 'served')
      b.data.reputation.rate({ rater: 'r', subject: 's', score: 1, comment: '', at: NOW })
      b.data.sessions.save(sessionOf(3))
      assert.deepEqual(b.data.sessions.find('peer-a')?.id, bytes(16, 3))
    }),
    { seed: 20261121, numRuns: 300 },
  )
  assert.ok(kept > 200)
})

test('a circle of keys in a damaged file has no end, and every key in it speaks for itself', async t => {
  const b = await bench(t)
  b.data.peerKeys.record(statement('a', 'b'))
  b.sql(`INSERT INTO handovers VALUES ('b', 'a', x'00', 1)`)
  assert.equal(b.data.peerKeys.current('a'), 'a')
  assert.deepEqual(b.data.peerKeys.chain('a'), [])
  assert.deepEqual(b.data.peerKeys.formerIds('a'), ['b'])
  assert.equal(b.data.peerKeys.record(statement('c', 'a')), false)
})

test('a database that takes nothing any more is warned of once a minute, and the node goes on', async t => {
  const b = await bench(t)
  b.sql('DROP TABLE penalties; DROP TABLE sessions; DROP TABLE ratings')
  b.data.penalties.save(penaltyOf('p'))
  b.data.sessions.save(sessionOf(1))
  assert.equal(b.data.sessions.find('peer-a'), undefined)
  assert.deepEqual(b.data.penalties.load(), [])
  assert.equal(b.data.reputation.rate({ rater: 'a', subject: 's', score: 1, comment: '', at: NOW }), false)
  assert.equal(b.data.reputation.of('s').count, 0)
  assert.equal(b.warnings.length, 1)
  assert.match(b.warnings[0] ?? '', /^cannot store a penalty: the node goes on without it: /)
  b.clock.advance(60_000)
  b.data.penalties.remove('p')
  assert.equal(b.warnings.length, 2)
})

test('a database of the first version gets the new tables, and computes its model ids again', async t => {
  const b = await bench(t)
  const stamp = { path: '/m.gguf', size: 3, modifiedNs: 5n, changedNs: 6n, inode: 7n }
  b.data.modelIds.remember(stamp, 'ab')
  await b.data.close()
  const tables = ['sessions', 'replay', 'handovers', 'penalties', 'ratings', 'observations']
  b.sql(`${[...tables, 'audit', 'audit_checkpoints', 'audit_state', 'hybrid_keys', 'known_peers', 'discovery', 'kad_entries', 'models', 'model_votes'].map(name => `DROP TABLE ${name};`).join('')}
         PRAGMA user_version = 1`)
  await b.reopen()
  assert.equal(b.data.modelIds.find(stamp), undefined)
  b.data.modelIds.remember(stamp, 'ab')
  assert.equal(b.data.modelIds.find(stamp), 'ab')
  b.data.sessions.save(sessionOf(1))
  assert.ok(b.data.sessions.find('peer-a'))
})
