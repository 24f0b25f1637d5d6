import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { seededRandom } from '#base'
import { sha256 } from '#crypto'
import { type KadNode, startSwarm } from '../../test/support/kad-nodes.ts'
import { recordKey } from './record.ts'

async function swarm(t: TestContext, count: number): Promise<readonly KadNode[]> {
  const nodes = await startSwarm(count, index => ({ random: seededRandom(1_000 + index) }))
  t.after(() => Promise.all(nodes.map(node => node.stop())))
  return nodes
}

test('two nodes over TCP: one puts a record, the other gets it', async t => {
  const [a, b] = await swarm(t, 2)
  assert(a !== undefined && b !== undefined)
  const put = await a.kad.put(await a.record({ sequence: 7, value: Uint8Array.of(9) }))
  assert.deepEqual(put, { key: recordKey('peer', a.peer), acknowledged: 1, asked: 1 })
  const got = await b.kad.get(recordKey('peer', a.peer))
  assert.deepEqual([got.peer, got.sequence, [...got.value]], [a.peer, 7, [9]])
})

test('ten nodes over TCP: every node gets what one has put, and finds who provides', async t => {
  const nodes = await swarm(t, 10)
  const [first, second] = nodes
  assert(first !== undefined && second !== undefined)
  const put = await first.kad.put(await first.record({ sequence: 1 }), { quorum: 8 })
  assert(put.acknowledged >= 8, `${put.acknowledged} acknowledged`)
  const key = sha256(new TextEncoder().encode('a model'))
  const { sent } = await second.kad.provide(key)
  assert(sent >= 8, `${sent} were told`)
  for (const node of nodes) {
    const got = await node.kad.get(recordKey('peer', first.peer))
    assert.equal(got.sequence, 1)
    if (node === second) continue
    const providers: string[] = []
    for await (const { peer, addresses } of node.kad.findProviders(key)) {
      providers.push(peer)
      assert(addresses.length > 0)
    }
    assert.deepEqual(providers, [second.peer])
    const found = await node.kad.findPeer(second.peer)
    assert.equal(found.peer, second.peer)
    assert(found.addresses.some(address => second.addresses.includes(`${address}/p2p/${second.peer}`)))
  }
  const closest = await first.kad.closestPeers('/koinon/anything')
  assert.equal(closest.length, 9)
})
