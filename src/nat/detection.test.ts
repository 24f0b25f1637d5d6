import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  filteringOf,
  type FilteringTest,
  mappingOf,
  natKindOf,
  type Observation,
  tcpMappingFrom,
  udpVerdictOf,
} from './detection.ts'
import type { FilteringBehaviour, MappingBehaviour, NatKind } from './types.ts'

const LOCAL = ['192.168.1.5']

/** `'A:1 seen at X:9 from 7'` would be long; this is the same as a row. */
function seen(rows: readonly (readonly [localPort: number, remote: string, observed: string])[]): Observation[] {
  const endpoint = (text: string): { address: string; port: number } => {
    const [address = '', port = ''] = text.split(':')
    return { address, port: Number(port) }
  }
  return rows.map(([localPort, remote, observed]) => ({
    localPort,
    remote: endpoint(remote),
    observed: endpoint(observed),
  }))
}

const MAPPINGS: readonly (readonly [MappingBehaviour, Parameters<typeof seen>[0]])[] = [
  ['unknown', []],
  ['unknown', [[7, '1.1.1.1:1', '9.9.9.9:70']]],
  ['direct', [[7, '1.1.1.1:1', '192.168.1.5:7']]],
  ['unknown', [[7, '1.1.1.1:1', '192.168.1.5:8']]],
  [
    'unknown',
    [
      [7, '1.1.1.1:1', '9.9.9.9:70'],
      [7, '1.1.1.1:1', '9.9.9.9:71'],
    ],
  ],
  [
    'unknown',
    [
      [7, '1.1.1.1:1', '9.9.9.9:70'],
      [7, '1.1.1.1:2', '9.9.9.9:70'],
    ],
  ],
  [
    'unknown',
    [
      [7, '1.1.1.1:1', '9.9.9.9:70'],
      [8, '2.2.2.2:1', '9.9.9.9:71'],
    ],
  ],
  [
    'endpoint-independent',
    [
      [7, '1.1.1.1:1', '9.9.9.9:70'],
      [7, '2.2.2.2:1', '9.9.9.9:70'],
    ],
  ],
  [
    'endpoint-dependent',
    [
      [7, '1.1.1.1:1', '9.9.9.9:70'],
      [7, '2.2.2.2:1', '9.9.9.9:71'],
    ],
  ],
  [
    'endpoint-dependent',
    [
      [7, '1.1.1.1:1', '9.9.9.9:70'],
      [7, '2.2.2.2:1', '9.9.9.8:70'],
    ],
  ],
  [
    'address-dependent',
    [
      [7, '1.1.1.1:1', '9.9.9.9:70'],
      [7, '2.2.2.2:1', '9.9.9.9:71'],
      [7, '2.2.2.2:2', '9.9.9.9:71'],
    ],
  ],
  [
    'address-and-port-dependent',
    [
      [7, '1.1.1.1:1', '9.9.9.9:70'],
      [7, '1.1.1.1:2', '9.9.9.9:71'],
    ],
  ],
  [
    'address-and-port-dependent',
    [
      [7, '1.1.1.1:1', '9.9.9.9:70'],
      [7, '2.2.2.2:1', '9.9.9.9:71'],
      [7, '2.2.2.2:2', '9.9.9.9:72'],
    ],
  ],
]

for (const [expected, rows] of MAPPINGS) {
  test(`mapping ${expected}: ${rows.map(row => row.join(' ')).join(', ')}`, () => {
    assert.equal(mappingOf(seen(rows), LOCAL), expected)
  })
}

const FILTERINGS: readonly (readonly [FilteringTest, FilteringTest, FilteringBehaviour])[] = [
  ['answered', 'answered', 'endpoint-independent'],
  ['answered', 'silent', 'endpoint-independent'],
  ['silent', 'answered', 'address-dependent'],
  ['silent', 'silent', 'address-and-port-dependent'],
  ['silent', 'untested', 'unknown'],
  ['untested', 'untested', 'unknown'],
]

for (const [otherAddress, otherPort, expected] of FILTERINGS) {
  test(`filtering, other address ${otherAddress}, other port ${otherPort}: ${expected}`, () => {
    assert.equal(filteringOf({ otherAddress, otherPort }), expected)
  })
}

const KINDS: readonly (readonly [MappingBehaviour, FilteringBehaviour, NatKind])[] = [
  ['direct', 'endpoint-independent', 'none'],
  ['direct', 'address-and-port-dependent', 'none'],
  ['endpoint-independent', 'endpoint-independent', 'full-cone'],
  ['endpoint-independent', 'address-dependent', 'restricted'],
  ['endpoint-independent', 'address-and-port-dependent', 'port-restricted'],
  ['endpoint-independent', 'unknown', 'port-restricted'],
  ['address-dependent', 'endpoint-independent', 'symmetric'],
  ['address-and-port-dependent', 'unknown', 'symmetric'],
  ['endpoint-dependent', 'unknown', 'symmetric'],
  ['unknown', 'endpoint-independent', 'unknown'],
]

for (const [mapping, filtering, expected] of KINDS) {
  test(`${mapping} mapping and ${filtering} filtering: ${expected}`, () => {
    assert.equal(natKindOf(mapping, filtering), expected)
  })
}

const UNTESTED = { otherAddress: 'untested', otherPort: 'untested' } as const

test('no answer from any server: blocked; nobody asked: unknown', () => {
  const evidence = { localAddresses: LOCAL, observations: [], filtering: UNTESTED }
  assert.equal(udpVerdictOf({ ...evidence, asked: 2 }).kind, 'blocked')
  assert.equal(udpVerdictOf({ ...evidence, asked: 0 }).kind, 'unknown')
})

test('a symmetric NAT that counts is found, with the step of its ports', () => {
  const observations = seen([
    [7, '1.1.1.1:1', '9.9.9.9:5000'],
    [7, '2.2.2.2:1', '9.9.9.9:5002'],
    [7, '3.3.3.3:1', '9.9.9.9:5004'],
  ])
  const verdict = udpVerdictOf({ localAddresses: LOCAL, asked: 3, observations, filtering: UNTESTED })
  assert.equal(verdict.kind, 'symmetric')
  assert.equal(verdict.address, '9.9.9.9')
  assert.deepEqual(verdict.ports, { kind: 'sequence', step: 2, share: 1, last: 5004 })
})

test('TCP: several peers see one port; the NAT keeps ports', () => {
  const verdict = tcpMappingFrom(
    seen([
      [4001, '1.1.1.1:1', '9.9.9.9:4001'],
      [4001, '2.2.2.2:1', '9.9.9.9:4001'],
      [6007, '3.3.3.3:1', '9.9.9.9:6007'],
    ]),
  )
  assert.equal(verdict.mapping, 'endpoint-independent')
  assert.deepEqual(verdict.ports, { kind: 'preserved' })
  assert.equal(verdict.address, '9.9.9.9')
})

test('TCP: a peer that lies about the address does not count against two that agree', () => {
  const verdict = tcpMappingFrom(
    seen([
      [4001, '1.1.1.1:1', '9.9.9.9:4001'],
      [4001, '6.6.6.6:1', '6.6.6.7:1'],
      [4001, '6.6.6.6:2', '6.6.6.7:2'],
      [4001, '6.6.6.6:3', '6.6.6.7:3'],
      [4001, '2.2.2.2:1', '9.9.9.9:4001'],
    ]),
  )
  assert.equal(verdict.address, '9.9.9.9')
  assert.equal(verdict.mapping, 'endpoint-independent')
})

test('TCP: this machine has the address itself', () => {
  const verdict = tcpMappingFrom(seen([[4001, '1.1.1.1:1', '9.9.9.9:4001']]), { localAddresses: ['9.9.9.9'] })
  assert.equal(verdict.kind, 'none')
})

test('malformed observations do not count, and too many are cut', () => {
  const bad = seen([
    [0, '1.1.1.1:1', '9.9.9.9:1'],
    [7, '1.1.1.1:1', '0.0.0.0:5'],
    [7, '1.1.1.1:1', 'x:5'],
  ])
  assert.deepEqual(tcpMappingFrom(bad).address, undefined)
  const many = Array.from(
    { length: 100_000 },
    (_, i) => [7, `1.1.${(i >> 8) & 255}.${i & 255}:1`, '9.9.9.9:70'] as const,
  )
  assert.equal(tcpMappingFrom(seen(many)).mapping, 'endpoint-independent')
})
