import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { RelayStatus, ReachReport } from '#wire'
import { type MetadataParts, ownFacts } from './own-metadata.ts'

const [SELF, RELAY] = [
  '12D3KooWJNndPqQahSd7nSot5y1bUSbhqg5LiJJzPEgLv1MzqKGu',
  '12D3KooWC7sXbuA1GwfPk2upNL8ePxSWaMfsEBDB41ShHnB15Q5q',
]
const INSIDE = [`/ip4/192.168.1.5/tcp/4001/p2p/${SELF}`, `/ip4/192.168.1.5/udp/4001/quic-v1/p2p/${SELF}`]
const CIRCUIT = `/ip4/192.0.2.9/tcp/4001/p2p/${RELAY}/p2p-circuit/p2p/${SELF}`

type Given = {
  readonly type: ReachReport['type']
  readonly isLocalOnly?: boolean
  readonly external?: ReachReport['external']
  readonly held?: RelayStatus['held']
  readonly circuits?: readonly string[]
  readonly isServing?: boolean
}

function factsOf({ type, isLocalOnly = false, external = [], held = [], circuits = [], isServing = false }: Given) {
  const parts = {
    host: {
      addresses: () => [...INSIDE, ...circuits],
      listening: () => INSIDE,
      planePort: 5000,
      relay: { status: () => ({ serving: { isServing }, held }), addresses: () => circuits },
    },
    reach: { type, status: () => ({ external, isLocalOnly }) },
    capabilities: ['stage'],
  } as unknown as MetadataParts
  return ownFacts(parts)
}

describe('node / what it says of itself', () => {
  it('behind a NAT: where its relay is, once it holds a place there', () => {
    const { nodeType, isRelay, publicPlace, privatePlace, relay } = factsOf({ type: 'nat' })
    assert.deepEqual([nodeType, isRelay, publicPlace, relay], ['private', false, undefined, undefined])
    assert.deepEqual(privatePlace, { host: '192.168.1.5', tcp: 4001, quic: 4001, plane: 5000 })
    const held = [{ relay: RELAY, session: 'ab', score: 1, ageMs: 1 }]
    assert.deepEqual(factsOf({ type: 'nat', held, circuits: [CIRCUIT] }).relay, {
      peer: RELAY,
      session: 'ab',
      address: '/ip4/192.0.2.9/tcp/4001',
    })
    assert.equal(factsOf({ type: 'nat', circuits: [CIRCUIT] }).relay, undefined)
  })

  it('in public: what was proved, with its ports, and whether it relays', () => {
    const external = [
      { address: '/ip4/203.0.113.7/tcp/4001', source: 'peers', reach: 'reachable' },
      { address: '/ip4/203.0.113.7/udp/4001/quic-v1', source: 'peers', reach: 'reachable' },
      { address: '/ip4/198.51.100.1/tcp/9', source: 'gateway', reach: 'not' },
    ] as const
    const facts = factsOf({ type: 'public', external, isServing: true })
    assert.deepEqual([facts.nodeType, facts.isRelay], ['public', true])
    assert.deepEqual(facts.publicPlace, { host: '203.0.113.7', tcp: 4001, quic: 4001, plane: 5000 })
  })

  it('on one machine: what it listens at, for a swarm there is an internet of its own', () => {
    const { nodeType, publicPlace } = factsOf({ type: 'nat', isLocalOnly: true })
    assert.deepEqual([nodeType, publicPlace?.host, publicPlace?.tcp], ['public', '192.168.1.5', 4001])
  })
})
