import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { silentLogger } from '#base'
import { AGENT, type NodeOffer } from '#wire'
import { CONNECTIONS_PER_PEER_MAX, PEERS_MAX, SETTLED_MS } from './limits.ts'
import { PeerTable } from './peer-table.ts'
import type { Session } from './session.ts'
import type { PeerPath } from './types.ts'

const OFFER: NodeOffer = {
  agent: AGENT,
  addresses: [],
  memoryBytes: 0,
  threads: 1,
  weightBytesPerSecond: 0,
  stages: [],
}

const DIRECT: PeerPath = { kind: 'direct', transport: 'tcp' }

type Facts = { readonly streams?: number; readonly path?: PeerPath }

/** Only what the table looks at: hello is one stream. */
function session(peer: string, direction: 'inbound' | 'outbound', { streams = 1, path = DIRECT }: Facts = {}): Session {
  const connection = { streams: Array.from({ length: streams }), remoteAddr: `/ip4/192.0.2.1/tcp/1/p2p/${peer}` }
  const rest = {
    connection,
    facts: FACTS,
    streams: { plane: 0, libp2p: streams - 1 },
    traffic: { bytesIn: 1, bytesOut: 2 },
  }
  return { peer, direction, path, joinedAt: 0, pingFailures: 0, ...rest } as unknown as Session
}

/** The table shows them and looks at none. */
const FACTS = { version: 1, suite: 'test', session: 'test' }

const LIFE = { stateOf: () => 'connected' as const, holdsOf: () => [] }

function setUp(self = 'm') {
  const table = new PeerTable({ log: silentLogger, life: LIFE }, { self })
  const events: string[] = []
  table.onPeer(event => events.push(`${event.kind} ${event.peer.id}`))
  return { table, events }
}

describe('net / peer-table', () => {
  it('lets a peer join with its first connection and leave with its last', () => {
    const { table, events } = setUp()
    const [first, second] = [session('p', 'inbound'), session('p', 'outbound')]
    assert.equal(table.join(first, { offer: OFFER }), true)
    assert.equal(table.join(second, { offer: OFFER }), false)
    assert.equal(table.leave(first), false)
    assert.equal(table.leave(first), false)
    assert.equal(table.leave(second), true)
    assert.deepEqual(events, ['joined p', 'changed p', 'left p'])
  })

  it('prefers the better path, whoever made it and whenever', () => {
    const { table } = setUp('a')
    const relayed = session('z', 'outbound', { path: { kind: 'relayed', transport: 'tcp', via: 'r' } })
    const punched = session('z', 'inbound', { path: { kind: 'punched', transport: 'tcp' } })
    const ice = session('z', 'outbound', { path: { kind: 'ice', transport: 'quic' } })
    table.join(relayed, { offer: OFFER })
    table.join(punched, { offer: OFFER })
    table.join(ice, { offer: OFFER })
    assert.equal(table.session('z'), punched)
    assert.equal(table.isRedundant(relayed, SETTLED_MS), true)
    assert.deepEqual(table.peers()[0]?.path, { kind: 'punched', transport: 'tcp' })
  })

  it('makes both sides of two connections prefer the same one: what the smaller id dialled', () => {
    // "a" and "z" dialled each other; each sees its own dial as outbound.
    const atA = setUp('a').table
    const [aDialled, zDialled] = [session('z', 'outbound'), session('z', 'inbound')]
    atA.join(aDialled, { offer: OFFER })
    atA.join(zDialled, { offer: OFFER })
    assert.equal(atA.session('z'), aDialled)
    const atZ = setUp('z').table
    const [fromA, toA] = [session('a', 'inbound'), session('a', 'outbound')]
    atZ.join(fromA, { offer: OFFER })
    atZ.join(toA, { offer: OFFER })
    assert.equal(atZ.session('a'), fromA)
    // Only who dialled the other one closes it, once both must know of the better one.
    assert.equal(atZ.isRedundant(toA, SETTLED_MS), true)
    assert.equal(atZ.isRedundant(toA, SETTLED_MS - 1), false)
    assert.equal(atZ.isRedundant(fromA, SETTLED_MS), false)
    assert.equal(atA.isRedundant(zDialled, SETTLED_MS), false)
    assert.equal(atA.isRedundant(aDialled, SETTLED_MS), false)
  })

  it('does not close a connection that carries a stream', () => {
    const { table } = setUp('z')
    table.join(session('a', 'inbound'), { offer: OFFER })
    const busy = session('a', 'outbound', { streams: 2 })
    table.join(busy, { offer: OFFER })
    assert.equal(table.isRedundant(busy, SETTLED_MS), false)
  })

  it('has room for so many peers and so many connections of each', () => {
    const { table } = setUp()
    for (let i = 0; i < PEERS_MAX; i++) {
      assert.equal(table.hasRoom(`p${i}`), true)
      table.join(session(`p${i}`, 'inbound'), { offer: OFFER })
    }
    assert.equal(table.hasRoom('another'), false)
    for (let i = 1; i < CONNECTIONS_PER_PEER_MAX; i++) table.join(session('p0', 'inbound'), { offer: OFFER })
    assert.deepEqual([table.hasRoom('p0'), table.hasRoom('p1')], [false, true])
  })

  it('goes on after a listener that fails', () => {
    const table = new PeerTable({ log: silentLogger, life: LIFE }, { self: 'm' })
    table.onPeer(() => {
      throw new Error('a bug')
    })
    let heard = 0
    table.onPeer(() => heard++)
    table.join(session('p', 'inbound'), { offer: OFFER })
    assert.equal(heard, 1)
  })
})
