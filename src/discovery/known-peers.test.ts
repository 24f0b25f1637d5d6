import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock, seededRandom } from '#base'
import { ed25519Signer, peerOfPublicKey } from '#crypto'
import { createPeerRecord } from '#identity'
import { KnownPeers } from './known-peers.ts'
import { MET_PEER_MS_MAX, TOLD_BY_ONE_MAX, TOLD_PEER_MS_MAX } from './limits.ts'
import type { KnownPeerRow, KnownPeerStore } from '#storage'

const NOW = 1_700_000_000_000
const TOPIC = 'koinon-mesh'
const random = seededRandom(5)
const key = (): Uint8Array => ed25519Signer(random.bytes(32)).publicKey

class MemoryStore implements Pick<KnownPeerStore, 'load' | 'save' | 'touch' | 'remove'> {
  readonly rows = new Map<string, KnownPeerRow>()
  load = () => [...this.rows.values()]
  save = (row: KnownPeerRow): void => void this.rows.set(String(row.publicKey), row)
  remove = (publicKey: Uint8Array): void => void this.rows.delete(String(publicKey))
  touch = (publicKey: Uint8Array, lastSeen: number): void => {
    const row = this.rows.get(String(publicKey))
    if (row !== undefined) this.save({ ...row, lastSeen })
  }
}

function bench(options: { readonly peersMax?: number } = {}) {
  const clock = new ManualClock(NOW)
  const store = new MemoryStore()
  const make = (): KnownPeers => new KnownPeers({ clock, self: 'us', store }, { topic: TOPIC, ...options })
  return { clock, store, make, peers: make() }
}

test('what others say of a known peer changes when it was last seen, and nothing else', () => {
  const { clock, store, peers } = bench()
  const publicKey = key()
  const first = { publicKey, isRelay: false, lastSeen: NOW - 5_000, dhtNodeId: new Uint8Array(20).fill(1) }
  assert.equal(peers.told(first, 'alice')?.source, 'peer_exchange')
  clock.advance(10_000)
  const again = { ...first, isRelay: true, dhtNodeId: new Uint8Array(20).fill(2), lastSeen: NOW + 99_000 }
  assert.equal(peers.told(again, 'bob'), undefined)
  const row = peers.get(peerOfPublicKey(publicKey))
  assert.deepEqual([row?.isRelay, row?.dhtNodeId, row?.lastSeen], [false, first.dhtNodeId, NOW + 10_000])
  assert.equal(store.load()[0]?.lastSeen, NOW + 10_000)
  const met = peers.met({ ...again, lastSeen: clock.now() })
  assert.deepEqual([met?.isRelay, met?.source, met?.firstSeen], [true, 'identity_exchange', NOW], 'its own word counts')
})

test('rows, and records that have expired meanwhile, come back after a restart', async () => {
  const { clock, store, make, peers } = bench()
  const signer = ed25519Signer(random.bytes(32))
  const addresses = ['/ip4/10.0.0.1/tcp/1']
  const expiresAt = NOW + 60_000
  const bytes = await createPeerRecord(signer, { sequence: 3, addresses, expiresAt })
  const record = { bytes, sequence: 3, addresses, expiresAt }
  peers.met({ publicKey: signer.publicKey, isRelay: false, lastSeen: NOW, record })
  store.save({ ...(store.load()[0] ?? assert.fail()), publicKey: key(), topic: 'another' })
  clock.advance(MET_PEER_MS_MAX / 2)
  const later = make()
  const peer = peerOfPublicKey(signer.publicKey)
  assert.equal(later.size, 1, 'of this topic')
  assert.deepEqual(later.addressesOf(peer), addresses, 'still a hint')
  const forged = { ...(store.load()[0] ?? assert.fail()), publicKey: key() }
  store.save(forged)
  assert.deepEqual(make().addressesOf(peerOfPublicKey(forged.publicKey)), [], "another peer's record is none")
})

test('who was not seen for too long is forgotten, and ghosts are not passed on for ever', () => {
  const { clock, store, peers } = bench()
  const [met, told] = [key(), key()]
  peers.met({ publicKey: met, isRelay: false, lastSeen: NOW })
  peers.told({ publicKey: told, isRelay: false, lastSeen: NOW }, 'alice')
  clock.advance(TOLD_PEER_MS_MAX)
  assert.equal(peers.sweep(), 1)
  const ghost = { publicKey: told, isRelay: false, lastSeen: NOW }
  assert.equal(peers.told(ghost, 'bob'), undefined, 'nobody has seen it since')
  clock.advance(MET_PEER_MS_MAX - TOLD_PEER_MS_MAX)
  assert.equal(peers.sweep(), 1)
  assert.deepEqual([peers.size, store.rows.size], [0, 0])
})

test('a peer that tells of many fills its own share only, and pushes out nobody whom we met', () => {
  const { peers, store } = bench({ peersMax: TOLD_BY_ONE_MAX + 10 })
  const met = Array.from({ length: 10 }, key)
  for (const publicKey of met) peers.met({ publicKey, isRelay: false, lastSeen: NOW - 1_000 })
  for (let i = 0; i < TOLD_BY_ONE_MAX + 50; i++)
    peers.told({ publicKey: key(), isRelay: false, lastSeen: NOW }, 'mallory')
  assert.equal(peers.size, TOLD_BY_ONE_MAX + 10)
  for (let i = 0; i < 40; i++) peers.told({ publicKey: key(), isRelay: false, lastSeen: NOW }, `sybil ${i}`)
  assert.equal(peers.size, TOLD_BY_ONE_MAX + 10)
  assert.ok(met.every(publicKey => peers.get(peerOfPublicKey(publicKey)) !== undefined))
  assert.equal(store.rows.size, peers.size)
})
