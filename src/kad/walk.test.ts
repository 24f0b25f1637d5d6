import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#base'
import { type Attacker, encodeMessage, startAttacker, TYPES } from '../../test/support/kad-attacker.ts'
import { startKadNode } from '../../test/support/kad-nodes.ts'
import { createMemoryFabric } from '../../test/support/memory-libp2p.ts'

test('the paths of a walk are disjoint: no peer is asked twice, whoever names it', async t => {
  const fabric = createMemoryFabric()
  const random = seededRandom(41)
  const targets: Attacker[] = []
  for (let i = 0; i < 6; i++) targets.push(await startAttacker({ random, fabric, address: `/ip4/198.51.${i}.1/tcp/1` }))
  const closer = targets.map(({ identity, address }) => ({
    peer: identity.peer,
    addresses: [address.replace(/\/p2p\/.*/, '')],
  }))
  // Eight peers that all name the same six, so that four paths would like to ask each of them.
  const answer = (type: number): Uint8Array => encodeMessage({ type, closer })
  const starts: Attacker[] = []
  for (let i = 0; i < 8; i++) {
    starts.push(await startAttacker({ random, fabric, address: `/ip4/198.52.${i}.1/tcp/1`, answer }))
  }
  const memory = { network: fabric, address: '/ip4/203.0.113.1/tcp/1' }
  // Nobody but the eight enters the table by itself, so that the six are met on the way.
  const mayRoute = (peer: string): boolean => starts.some(({ identity }) => identity.peer === peer)
  const node = await startKadNode({
    random,
    memory,
    gate: { mayRoute },
    kad: { disjointPaths: 4, selfLookupDelayMs: 0 },
  })
  t.after(async () => {
    await node.stop()
    for (const { libp2p } of [...starts, ...targets]) await libp2p.stop()
  })
  await node.kad.bootstrap(starts.map(({ address }) => address))
  await node.kad.closestPeers('/koinon/first')
  const counts = (): number[] =>
    [...starts, ...targets].map(({ asked }) => asked.filter(type => type === TYPES.findNode).length)
  for (let round = 0; round < 20; round++) {
    const before = counts()
    const found = await node.kad.closestPeers(`/koinon/${round}`)
    const asked = counts().map((count, index) => count - (before[index] ?? 0))
    assert(
      asked.every(count => count <= 1),
      `asked ${asked.join(' ')} times in round ${round}`,
    )
    assert.equal(found.length, 14)
    assert.equal(new Set(found.map(({ peer }) => peer)).size, 14)
  }
})
