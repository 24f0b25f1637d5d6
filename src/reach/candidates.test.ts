import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PortMapping } from '#nat'
import { decodePlace, encodePlace, type Place } from './address.ts'
import { candidatesOf, type Evidence, externalOf, transportsOf, typeOf } from './candidates.ts'
import { CANDIDATES_MAX } from './limits.ts'
import type { Reachability } from './proofs.ts'

const place = (text: string): Place => {
  const decoded = decodePlace(text)
  assert.ok(decoded !== undefined, text)
  return decoded
}
const NOTHING: Evidence = {
  listening: [],
  planePort: undefined,
  owned: [],
  mappings: [],
  agreed: [],
  dialled: [],
}
const INSIDE = place('/ip4/192.168.1.5/tcp/4001')
const MAPPING: PortMapping = {
  protocol: 'tcp',
  internalPort: 4001,
  externalPort: 5001,
  externalAddress: '62.1.0.1',
  isPublic: true,
  via: 'pcp',
  leaseSeconds: 100,
}
const shown = (evidence: Evidence): string[] =>
  candidatesOf(evidence).map(each => `${each.source} ${each.place.transport} ${encodePlace(each.place)}`)
const judge = (evidence: Evidence, reach: Reachability) => candidatesOf(evidence).map(each => ({ ...each, reach }))

test('a private address alone is no candidate', () => {
  assert.deepEqual(shown({ ...NOTHING, listening: [INSIDE], planePort: 4002 }), [])
  assert.equal(typeOf([], false, true), 'nat')
  assert.equal(typeOf([], false, false), 'unknown')
  assert.equal(typeOf([], true, true), 'public')
})

test('a mapped port is one, unless the gateway sits behind another NAT', () => {
  const evidence = { ...NOTHING, listening: [INSIDE], mappings: [MAPPING] }
  assert.deepEqual(shown(evidence), ['gateway tcp /ip4/62.1.0.1/tcp/5001'])
  assert.deepEqual(shown({ ...evidence, mappings: [{ ...MAPPING, isPublic: false }] }), [])
  assert.deepEqual(shown({ ...evidence, agreed: ['77.1.0.1'] }), ['peers tcp /ip4/77.1.0.1/tcp/4001'])
  // Nothing listens there over UDP.
  assert.deepEqual(shown({ ...evidence, mappings: [{ ...MAPPING, protocol: 'udp' }] }), [])
})

test('where peers see us, the ports that we listen at may be forwarded', () => {
  const evidence = {
    ...NOTHING,
    listening: [INSIDE, place('/ip4/192.168.1.5/udp/4001/quic-v1')],
    planePort: 4002,
    agreed: ['62.1.0.1'],
    dialled: [place('/ip4/62.1.0.1/tcp/9000'), place('/ip4/77.7.7.7/tcp/9000')],
  }
  assert.deepEqual(shown(evidence), [
    'peers tcp /ip4/62.1.0.1/tcp/4001',
    'peers quic /ip4/62.1.0.1/udp/4001/quic-v1',
    'peers tcp /ip4/62.1.0.1/tcp/9000',
    'peers plane /ip4/62.1.0.1/tcp/4002',
  ])
  // What peers say is told to nobody before it is proved; and it keeps nobody from being a NAT node.
  assert.deepEqual(externalOf(judge(evidence, 'unknown')), [])
  assert.equal(typeOf(judge(evidence, 'unknown'), false, true), 'nat')
  assert.equal(externalOf(judge(evidence, 'reachable')).length, 3)
  assert.equal(typeOf(judge(evidence, 'reachable'), false, true), 'public')
})

test('a public address of the machine is not believed to be reachable before it is proved', () => {
  const evidence = { ...NOTHING, listening: [place('/ip4/62.1.0.1/tcp/4001')] }
  const types = (['unknown', 'not', 'reachable'] as const).map(reach => typeOf(judge(evidence, reach), false, true))
  assert.deepEqual(types, ['unknown', 'nat', 'public'])
  const transports = transportsOf(judge(evidence, 'not'), evidence, 'nat')
  assert.deepEqual(transports, { tcp: 'not', quic: 'off', ws: 'off', plane: 'off' })
})

test('the gateway is believed until the contrary is shown', () => {
  const evidence = { ...NOTHING, listening: [INSIDE], mappings: [MAPPING] }
  const told = (['unknown', 'not', 'reachable'] as const).map(reach => externalOf(judge(evidence, reach)).length)
  assert.deepEqual(told, [1, 0, 1])
})

test('a data plane alone does not make a node public', () => {
  const evidence = { ...NOTHING, planePort: 4002, agreed: ['62.1.0.1'] }
  assert.deepEqual(shown(evidence), ['peers plane /ip4/62.1.0.1/tcp/4002'])
  assert.equal(typeOf(judge(evidence, 'reachable'), false, true), 'nat')
})

test('candidates are bounded', () => {
  const dialled = Array.from({ length: 100 }, (_, port) => place(`/ip4/62.1.0.1/tcp/${port + 1}`))
  assert.equal(candidatesOf({ ...NOTHING, agreed: ['62.1.0.1'], dialled }).length, CANDIDATES_MAX)
})
