import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ReachReport } from '#wire'
import { networkChecks, surveyChecks } from './network-checks.ts'

const NAT_NODE: ReachReport = {
  type: 'nat',
  mayRelay: false,
  isLocalOnly: false,
  nat: {
    kind: 'port-restricted',
    mapping: 'endpoint-independent',
    filtering: 'address-and-port-dependent',
    ports: 'preserved',
    address: '62.20.5.10',
    servers: 2,
    ageMs: 1,
  },
  external: [],
  transports: { tcp: 'not', quic: 'off', ws: 'off', plane: 'not' },
  mapping: { state: 'none', ports: [] },
  paths: [
    { kind: 'none', tcp: 'direct', udp: 'direct' },
    { kind: 'full-cone', tcp: 'punched', udp: 'punched' },
    { kind: 'symmetric', tcp: 'relayed', udp: 'guessed' },
  ],
}

const shown = (report: ReachReport): string[] => networkChecks(report).map(check => `${check.state} ${check.text}`)

test('a node behind a NAT is told what it is, what works with whom, and what would help', () => {
  assert.deepEqual(shown(NAT_NODE), [
    'warn no: others cannot dial this node',
    'ok port-restricted cone: one port outside for everybody; only who was called may send in\n' +
      'ports outside are those inside; others see 62.20.5.10',
    'warn maps no ports',
    'ok directly: public nodes\nby hole punching: full cone\nby a guessed port (UDP): symmetric\nthrough a relay (TCP): symmetric',
  ])
  assert.ok(networkChecks(NAT_NODE)[0]?.advice !== undefined)
})

test('a public node has nothing to solve, and is told how it is known to be one', () => {
  const external = [{ address: '/ip4/62.20.5.10/tcp/4001', source: 'gateway', reach: 'reachable' }] as const
  const port = { protocol: 'tcp', internalPort: 4001, externalPort: 4001, via: 'pcp', isPublic: true } as const
  const report: ReachReport = {
    ...NAT_NODE,
    type: 'public',
    external,
    transports: { tcp: 'reachable', quic: 'off', ws: 'off', plane: 'reachable' },
    mapping: { state: 'mapped', ports: [{ ...port, externalAddress: '62.20.5.10' }] },
  }
  assert.deepEqual(shown(report), [
    'ok yes: others can dial this node\n/ip4/62.20.5.10/tcp/4001 (mapped by the gateway; a peer dialled it)',
    'ok port-restricted cone: one port outside for everybody; only who was called may send in\n' +
      'ports outside are those inside; others see 62.20.5.10',
    'ok TCP 4001 is 62.20.5.10:4001 outside (PCP)',
  ])
  const closed = networkChecks({ ...report, transports: { ...report.transports, plane: 'not' } })[0]
  assert.deepEqual([closed?.state, /the data plane/.test(closed?.advice ?? '')], ['warn', true])
})

test('a second NAT, a symmetric one, blocked UDP and a firewall are each said', () => {
  const port = {
    protocol: 'tcp',
    internalPort: 1,
    externalPort: 1,
    externalAddress: '100.64.0.1',
    via: 'upnp',
  } as const
  const behind = networkChecks({ ...NAT_NODE, mapping: { state: 'mapped', ports: [{ ...port, isPublic: false }] } })
  assert.match(behind[2]?.advice ?? '', /another NAT/)
  const states = (['symmetric', 'blocked', 'unknown', 'none'] as const).map(kind => {
    const [, check] = networkChecks({ ...NAT_NODE, nat: { ...NAT_NODE.nat, kind } })
    return `${check?.state} ${check?.text.split(/[:\n]/)[0]}`
  })
  assert.deepEqual(states, ['warn symmetric', 'warn UDP does not get out', 'ok kind not known', 'ok none'])
  const [, walled] = networkChecks({ ...NAT_NODE, nat: { ...NAT_NODE.nat, kind: 'none' } })
  assert.match(walled?.text ?? '', /firewall/)
})

test('without a node it says what was not looked at, and how it can be', () => {
  const checks = surveyChecks({ publicAddresses: [], paths: [], gateways: 1 })
  assert.deepEqual(
    checks.map(check => check.name),
    ['Reachable', 'NAT', 'Gateway'],
  )
  assert.match(checks[1]?.advice ?? '', /--stun/)
  const mapping = { via: 'nat-pmp', externalAddress: '62.20.5.10', isPublic: true } as const
  const found = surveyChecks({
    publicAddresses: ['62.1.0.1'],
    paths: NAT_NODE.paths,
    gateways: 1,
    nat: NAT_NODE.nat,
    mapping,
  })
  assert.deepEqual(
    found.map(check => check.state),
    ['ok', 'ok', 'ok', 'ok'],
  )
})
