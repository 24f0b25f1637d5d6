import assert from 'node:assert/strict'
import { test } from 'node:test'
import { planDial, endingIn } from './dial-plan.ts'
import type { PeerMetadata } from './peer-metadata.ts'

const metadata: PeerMetadata = {
  version: 1,
  timestamp: 0,
  nodeType: 'public',
  isRelay: false,
  publicPlace: { host: '203.0.113.9', tcp: 1, quic: 2 },
  privatePlace: { host: '192.168.1.5', tcp: 3 },
  addresses: ['/dns4/a.example/tcp/443/ws'],
  protocols: [],
  capabilities: [],
}
const relay = { peer: 'R', session: 's', address: '/ip4/198.51.100.7/tcp/4001' }
const facts = { isConnected: false, recordAddresses: [] }
const found = (over: Partial<PeerMetadata>, sequence = 4) => ({ metadata: { ...metadata, ...over }, sequence })

test('a connection is used again; a public peer is dialled directly', () => {
  assert.deepEqual(planDial('P', { ...facts, isConnected: true, found: found({}) }), { kind: 'reuse' })
  assert.deepEqual(planDial('P', { ...facts, found: found({}) }), {
    kind: 'direct',
    addresses: [
      '/ip4/203.0.113.9/udp/2/quic-v1/p2p/P',
      '/ip4/203.0.113.9/tcp/1/p2p/P',
      '/dns4/a.example/tcp/443/ws/p2p/P',
    ],
  })
})

test('a NAT peer goes by its relay, from its own network directly, and without a relay not at all', () => {
  const circuit = '/ip4/198.51.100.7/tcp/4001/p2p/R/p2p-circuit/p2p/P'
  assert.deepEqual(planDial('P', { ...facts, found: found({ nodeType: 'private', relay }) }), {
    kind: 'relay',
    relay: 'R',
    addresses: [circuit],
  })
  const near = { ...facts, ownPublicHost: '203.0.113.9' }
  assert.deepEqual(planDial('P', { ...near, found: found({ nodeType: 'private', relay }) }), {
    kind: 'relay',
    relay: 'R',
    addresses: ['/ip4/192.168.1.5/tcp/3/p2p/P', circuit],
  })
  assert.deepEqual(planDial('P', { ...facts, found: found({ nodeType: 'private' }) }), {
    kind: 'skip',
    reason: 'no-relay',
    sequence: 4,
  })
})

test('without metadata the record counts; without both nothing does', () => {
  const addresses = ['/ip4/10.0.0.1/tcp/1/p2p/P']
  assert.deepEqual(planDial('P', { ...facts, recordAddresses: addresses }), { kind: 'direct', addresses })
  assert.deepEqual(planDial('P', facts), { kind: 'skip', reason: 'unknown' })
})

test('an address ends in the peer that it leads to, also where it names a relay before', () => {
  const plain = '/ip4/198.51.100.7/tcp/4001'
  const circuit = `${plain}/p2p/R/p2p-circuit`
  for (const address of [plain, circuit]) {
    assert.equal(endingIn(address, 'P'), `${address}/p2p/P`)
    assert.equal(endingIn(`${address}/p2p/P`, 'P'), `${address}/p2p/P`)
  }
})
