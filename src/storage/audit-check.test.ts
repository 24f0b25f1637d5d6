import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, test } from 'node:test'
import * as fc from 'fast-check'
import { ManualClock, seededRandom } from '#base'
import { ed25519Signer, peerOfPublicKey } from '#crypto'
import { checkAuditLog } from './audit-check.ts'
import { hashEntry } from './audit-entry.ts'
import { openDataDir } from './data-dir.ts'

const root = await mkdtemp(join(tmpdir(), 'koinon-audit-check-'))
after(() => rm(root, { recursive: true, force: true }))

const key = ed25519Signer(seededRandom(1).bytes(32))
const self = peerOfPublicKey(key.publicKey)

// Every change of one row that the entries' order, text or signatures could hide, by SQL.
const ENTRIES = 12
const seq = fc.integer({ min: 1, max: ENTRIES })
const edit = fc.oneof(
  fc.record({
    kind: fc.constant('edit' as const),
    seq,
    change: fc.constantFrom(
      'at = at + 1',
      'at = -at',
      `kind = kind || ' '`,
      `kind = upper(kind)`,
      `peer = ''`,
      `peer = peer || char(0)`,
      `facts = replace(facts, ':', ': ')`,
      `facts = '{}'`,
      `facts = CAST(CAST(facts AS BLOB) || x'ff' AS TEXT)`,
      `facts = facts || zeroblob(10)`,
      `facts = facts || printf('%.5000c', ' ')`,
      'hash = randomblob(32)',
      'hash = substr(hash, 1, 31)',
      `hash = CAST(hash || x'00' AS BLOB)`,
      'previous = randomblob(32)',
      'seq = -seq',
      'seq = seq + 100',
    ),
  }),
  fc.record({ kind: fc.constant('delete' as const), seq }),
  fc.record({ kind: fc.constant('insert' as const), seq: fc.integer({ min: -2, max: ENTRIES + 3 }) }),
  fc.record({ kind: fc.constant('swap' as const), seq, other: seq }),
  fc.record({ kind: fc.constant('cut' as const), seq }),
  fc.record({ kind: fc.constant('rehash' as const), seq }),
  fc.record({
    kind: fc.constant('signature' as const),
    change: fc.constantFrom(
      'signature = randomblob(64)',
      'at = at + 1',
      'hash = randomblob(32)',
      'seq = seq - 1',
      'public_key = randomblob(32)',
      `signature = x''`,
    ),
  }),
  fc.record({
    kind: fc.constant('state' as const),
    change: fc.constantFrom(
      'anchor_seq = 1',
      'anchor_hash = randomblob(32)',
      'signer = randomblob(32)',
      `anchor_hash = x''`,
      'signer = NULL',
      'anchor_seq = -1',
    ),
  }),
)

test('every edit, deletion, insertion, swap and cut of signed entries is found', async t => {
  const data = await openDataDir(root, { clock: new ManualClock(1_700_000_000_000), random: seededRandom(1) })
  data.audit.setSigner(key)
  for (let i = 1; i < ENTRIES; i++)
    data.audit.record('refused', { peer: `peer-${i}`, reason: 'proof-wrong', attempt: i })
  data.audit.record('node-stopped', {})
  await data.close()
  const database = new DatabaseSync(join(root, 'node.db'), { defensive: false })
  t.after(() => database.close())
  // Inside a transaction that is rolled back, so that each edit starts from the same log.
  const rowsNow = () =>
    JSON.stringify(
      ['audit', 'audit_checkpoints', 'audit_state'].map(table => {
        const rows = database.prepare(
          `SELECT *, hex(CAST(facts AS BLOB)) FROM ${table === 'audit' ? table : `(SELECT *, '' AS facts FROM ${table})`}`,
        )
        rows.setReadBigInts(true)
        return rows.all()
      }),
      (_name, value: unknown) => (typeof value === 'bigint' ? String(value) : value),
    )
  const original = rowsNow()
  assert.equal(checkAuditLog(database).ok, true)
  let tried = 0
  fc.assert(
    fc.property(edit, change => {
      database.exec('BEGIN')
      try {
        apply(database, change)
        if (rowsNow() === original) return
        tried++
        const verdict = checkAuditLog(database, change.kind === 'state' ? self : undefined)
        const isHarmless = change.kind === 'state' && change.change.startsWith('signer')
        assert.equal(verdict.ok, isHarmless, JSON.stringify(change))
        if (change.kind === 'edit' || change.kind === 'delete') {
          const { seq: at } = verdict.firstBad ?? { seq: 0 }
          assert.ok(at <= change.seq, 'found where it is, or before')
        }
        // Nobody's key but the node's makes up for it.
        if (change.kind === 'state' && isHarmless) assert.equal(checkAuditLog(database).ok, false)
      } finally {
        database.exec('ROLLBACK')
      }
    }),
    { seed: 20261121, numRuns: 600 },
  )
  assert.ok(tried > 500, `${tried}`)
  assert.equal(checkAuditLog(database).ok, true)
})

type Edit = typeof edit extends fc.Arbitrary<infer T> ? T : never

function apply(database: DatabaseSync, change: Edit): void {
  const columns = 'at, kind, peer, facts, previous, hash'
  switch (change.kind) {
    case 'edit':
      database.exec(`UPDATE audit SET ${change.change} WHERE seq = ${change.seq}`)
      return
    case 'delete':
      database.exec(`DELETE FROM audit WHERE seq = ${change.seq}`)
      return
    case 'insert': {
      const { seq } = change
      // What is behind moves on, as an insertion would want it, numbers and all.
      database.exec(`UPDATE audit SET seq = -seq - 1 WHERE seq >= ${seq} AND seq > 0; UPDATE audit SET seq = -seq WHERE seq < -1;
        INSERT INTO audit SELECT ${seq}, ${columns} FROM audit ORDER BY random() LIMIT 1`)
      return
    }
    case 'swap':
      database.exec(`CREATE TEMP TABLE two AS SELECT * FROM audit WHERE seq IN (${change.seq}, ${change.other});
        DELETE FROM audit WHERE seq IN (${change.seq}, ${change.other});
        INSERT INTO audit SELECT CASE seq WHEN ${change.seq} THEN ${change.other} ELSE ${change.seq} END, ${columns} FROM two`)
      return
    case 'cut':
      database.exec(`DELETE FROM audit WHERE seq >= ${change.seq}`)
      return
    case 'rehash':
      rehash(database, change.seq)
      return
    case 'signature':
      database.exec(
        `UPDATE audit_checkpoints SET ${change.change} WHERE seq = (SELECT max(seq) FROM audit_checkpoints)`,
      )
      return
    case 'state':
      database.exec(`UPDATE audit_state SET ${change.change}`)
  }
}

/** Changes an entry and makes the whole chain behind it right again: only the signature stands against it. */
function rehash(database: DatabaseSync, from: number): void {
  const blobs = 'at, CAST(kind AS BLOB) AS kind, CAST(peer AS BLOB) AS peer, CAST(facts AS BLOB) AS facts'
  database.exec(`UPDATE audit SET facts = '{"forged":true}' WHERE seq = ${from}`)
  const rows = database.prepare(`SELECT seq, ${blobs}, previous FROM audit WHERE seq >= ${from} ORDER BY seq`).all()
  const update = database.prepare('UPDATE audit SET previous = ?, hash = ? WHERE seq = ?')
  let previous = rows[0]?.['previous'] as Uint8Array
  for (const { seq, at, kind, peer, facts } of rows) {
    const hash = hashEntry({
      seq: BigInt(seq as number),
      at: BigInt(at as number),
      kind: kind as Uint8Array,
      peer: peer as Uint8Array,
      facts: facts as Uint8Array,
      previous,
    })
    update.run(previous, hash, seq as number)
    previous = hash
  }
}
