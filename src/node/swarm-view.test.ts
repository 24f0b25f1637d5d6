import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Peer } from '#net'
import { offerOf } from '../../test/support/net-hosts.ts'
import { SwarmView } from './swarm-view.ts'

const PROTOCOL = {
  version: 1,
  suite: 's',
  session: 's',
  resumptions: 0,
  rekeys: 0,
  capabilities: [],
  agent: 'test',
  key: 'k',
  clockOffsetMs: 0,
}

function peer(id: string, pingFailures = 0): Peer {
  const path = { kind: 'direct', transport: 'tcp' } as const
  const facts = {
    id,
    addresses: [],
    direction: 'inbound',
    path,
    state: 'connected',
    holds: [],
    connectedAt: 0,
  } as const
  const counts = { streams: { plane: 0, libp2p: 0 }, traffic: { bytesIn: 0, bytesOut: 0 }, pingFailures }
  return { ...facts, ...counts, offer: offerOf('stage of a peer'), protocol: PROTOCOL }
}

test('offers of a route say how many generations of ours pass each stage, and which peers have gone silent', () => {
  const offer = offerOf('own stage')
  const model = offer.stages[0]?.model ?? ''
  const layers = { first: 0, last: 4 }
  const view = new SwarmView({
    host: { id: 'self', peers: () => [peer('a'), peer('b', 1)], addresses: () => [] },
    ownOffer: () => offer,
    routes: () => [
      [
        { peer: 'self', layers },
        { peer: 'a', layers },
      ],
      [{ peer: 'a', layers }],
    ],
  })
  assert.deepEqual(
    view.routeOffers(model).map(({ peer, inFlight, isSilent = false }) => [peer, inFlight, isSilent]),
    [
      ['self', 1, false],
      ['a', 2, false],
      ['b', 0, true],
    ],
  )
})
