import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { ManualClock, silentLogger } from '#base'
import type { KnownPeerRow } from './known-peers.ts'
import { KNOWN_PEERS_KEPT_MAX } from './limits.ts'
import { openNodeDatabase } from './node-database.ts'

function place(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'koinon-known-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  const path = join(directory, 'node.db')
  const open = () => openNodeDatabase(path, { clock: new ManualClock(1000), log: silentLogger })
  return { path, open }
}

const keyOf = (n: number): Uint8Array => {
  const key = new Uint8Array(32)
  new DataView(key.buffer).setUint32(0, n)
  return key
}
const rowOf = (n: number, over: Partial<KnownPeerRow> = {}): KnownPeerRow => ({
  publicKey: keyOf(n),
  isRelay: false,
  topic: 'koinon-mesh',
  source: 'peer_exchange',
  firstSeen: 1,
  lastSeen: n,
  ...over,
})

test('known peers and the number of the metadata outlive a restart, the last seen first', async t => {
  const { open } = place(t)
  const first = open()
  const rows = [
    rowOf(1, { dhtNodeId: new Uint8Array(20).fill(7), isRelay: true, source: 'identity_exchange' }),
    rowOf(2, { record: Uint8Array.of(1, 2, 3) }),
  ]
  for (const row of rows) first.stores.knownPeers.save(row)
  assert.equal(first.stores.knownPeers.sequence(), undefined)
  first.stores.knownPeers.setSequence(12)
  await first.close()
  const second = open()
  assert.deepEqual(second.stores.knownPeers.load(), rows.toReversed())
  assert.equal(second.stores.knownPeers.sequence(), 12)
  second.stores.knownPeers.touch(keyOf(1), 99)
  second.stores.knownPeers.remove(keyOf(2))
  assert.deepEqual(second.stores.knownPeers.load(), [{ ...rows[0], lastSeen: 99 }])
  await second.close()
})

test('a row is replaced, but keeps when it was first seen', async t => {
  const { stores, close } = place(t).open()
  stores.knownPeers.save(rowOf(1))
  stores.knownPeers.save(rowOf(1, { isRelay: true, firstSeen: 50, lastSeen: 60 }))
  assert.deepEqual(stores.knownPeers.load(), [rowOf(1, { isRelay: true, firstSeen: 1, lastSeen: 60 })])
  await close()
})

test('rows are bounded, small, and count as none where they are damaged', async t => {
  const { path, open } = place(t)
  const { stores, close } = open()
  for (let n = 1; n <= KNOWN_PEERS_KEPT_MAX + 50; n++)
    stores.knownPeers.save(rowOf(n, { dhtNodeId: new Uint8Array(20) }))
  const kept = stores.knownPeers.load()
  assert.ok(kept.length <= KNOWN_PEERS_KEPT_MAX && kept.length > 0.9 * KNOWN_PEERS_KEPT_MAX, String(kept.length))
  assert.equal(kept[0]?.lastSeen, KNOWN_PEERS_KEPT_MAX + 50)
  await close()
  const database = new DatabaseSync(path)
  database.exec('PRAGMA ignore_check_constraints = ON; UPDATE known_peers SET source = 9')
  const [{ payload } = { payload: 0 }] = database
    .prepare(`SELECT sum(payload) AS payload FROM dbstat WHERE name = 'known_peers'`)
    .all() as { payload: number }[]
  database.close()
  const bytesPerRow = payload / kept.length
  assert.ok(bytesPerRow < 120, `${bytesPerRow} bytes a row`)
  assert.ok(statSync(path).size < 1024 * 1024)
  const again = open()
  assert.deepEqual(again.stores.knownPeers.load(), [])
  await again.close()
})
