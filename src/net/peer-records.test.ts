import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ManualClock, seededRandom, silentLogger } from '#base'
import { createNodeIdentity } from '#identity'
import { RECORD_LIFE_MS } from './limits.ts'
import { PeerRecords } from './peer-records.ts'

async function setUp() {
  const clock = new ManualClock(1_700_000_000_000)
  const random = seededRandom(3)
  const [us, other, third] = [
    await createNodeIdentity(random),
    await createNodeIdentity(random),
    await createNodeIdentity(random),
  ]
  const records = new PeerRecords({ clock, log: silentLogger, signer: us.provider })
  const theirs = new PeerRecords({ clock, log: silentLogger, signer: other.provider })
  return { clock, us, other, third, records, theirs }
}

describe('net / peer records', () => {
  it('believe of a peer what it has signed itself, and of that only what can be dialled', async () => {
    const { other, third, records, theirs } = await setUp()
    const unnamed = '/ip4/192.0.2.1/udp/1/quic-v1'
    const good = [
      `/ip4/192.0.2.1/tcp/1/p2p/${other.peer}`,
      `${unnamed}/p2p/${other.peer}`,
      `/ip4/192.0.2.9/tcp/1/p2p/${third.peer}/p2p-circuit/p2p/${other.peer}`,
    ]
    const bad = ['/dnsaddr/example.org', '/unix/%2Ftmp%2Fx', `/ip4/192.0.2.2/tcp/1/p2p/${third.peer}`, '/ip4/1/tcp/1']
    await theirs.make([...bad, ...good.map(text => (text.startsWith(unnamed) ? unnamed : text))])
    assert.deepEqual(records.addressesOf(other.peer, theirs.own), good)
    assert.deepEqual(records.addressesOf(third.peer, theirs.own), [])
    assert.deepEqual(records.addressesOf(other.peer, undefined), [])
    assert.deepEqual(records.addressesOf(other.peer, Uint8Array.of(1, 2, 3)), [])
  })

  it('introduce nobody whose record is forged or has expired', async () => {
    const { clock, us, other, records, theirs } = await setUp()
    await theirs.make([`/ip4/192.0.2.1/tcp/1/p2p/${other.peer}`])
    const record = theirs.own
    assert.ok(record)
    for (let at = 0; at < record.byteLength; at += 7) {
      const forged = record.with(at, (record[at] ?? 0) ^ 1)
      assert.deepEqual(records.verified([{ id: other.peer, record: forged }]), [], `byte ${at}`)
    }
    assert.deepEqual(records.verified([{ id: us.peer, record }]), [])
    assert.equal(records.verified([{ id: other.peer, record }]).length, 1)
    clock.advance(RECORD_LIFE_MS)
    assert.deepEqual(records.verified([{ id: other.peer, record }]), [])
  })
})
