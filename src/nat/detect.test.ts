import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock, seededRandom, systemClock, systemRandom } from '#base'
import { type SimulatedNatOptions, SimulatedNetwork } from '../../test/support/simulated-network.ts'
import { detectNat, type NatReport } from './detect.ts'
import { closeStunSockets, createStunServer, openStunSockets } from './stun/server.ts'
import type { NatKind } from './types.ts'
import { openUdp } from './udp.ts'

const INSIDE = '192.168.1.5'
const OUTSIDE = '203.0.113.7'

const kept = (port: number): number => port

function counting(step: number): (port: number) => number {
  let next = 50_000
  return () => (next += step)
}

function shuffled(seed: number): (port: number) => number {
  const random = seededRandom(seed)
  return () => 1024 + (random.uint32() % 64_000)
}

/** Detects from a machine behind such a NAT, or none, with a server of two addresses and one of one. */
async function detectBehind(
  nat: SimulatedNatOptions | undefined,
  options: { readonly isServing?: boolean; readonly hasTwoAddresses?: boolean } = {},
): Promise<NatReport> {
  const network = new SimulatedNetwork()
  const clock = new ManualClock()
  if (options.isServing !== false) {
    const two = options.hasTwoAddresses !== false
    const addresses = two ? (['192.0.2.1', '192.0.2.2'] as const) : (['192.0.2.1'] as const)
    const sockets = await openStunSockets(network.machine('192.0.2.1'), addresses, [3478, 3479])
    createStunServer({ clock, sockets })
    createStunServer({ clock, sockets: { first: await network.machine('198.51.100.1')({ port: 3478 }) } })
  }
  const servers = ['192.0.2.1', '198.51.100.1'].map(address => ({ address, port: 3478 }))
  const deps = { clock, random: seededRandom(1), openUdp: network.machine(INSIDE, nat) }
  let isDone = false
  const report = detectNat(deps, { servers, localAddresses: [INSIDE] }).finally(() => (isDone = true))
  while (!isDone) {
    await new Promise(resolve => setImmediate(resolve))
    clock.advance(100)
  }
  return report
}

const CONES: readonly (readonly [SimulatedNatOptions['filtering'], NatKind])[] = [
  ['endpoint-independent', 'full-cone'],
  ['address-dependent', 'restricted'],
  ['address-and-port-dependent', 'port-restricted'],
]

for (const [filtering, kind] of CONES) {
  test(`a NAT that maps alike for all and filters ${filtering} is ${kind}`, async () => {
    const nat = { outside: OUTSIDE, mapping: 'endpoint-independent', filtering, nextPort: kept } as const
    const report = await detectBehind(nat)
    assert.equal(report.kind, kind)
    assert.equal(report.filtering, filtering)
    assert.equal(report.mapping, 'endpoint-independent')
    assert.equal(report.address, OUTSIDE)
    assert.deepEqual(report.ports, { kind: 'preserved' })
  })
}

for (const mapping of ['address-dependent', 'address-and-port-dependent'] as const) {
  test(`a NAT with ${mapping} mapping is symmetric`, async () => {
    const nat = { outside: OUTSIDE, mapping, filtering: 'address-and-port-dependent', nextPort: shuffled(7) } as const
    const report = await detectBehind(nat)
    assert.equal(report.kind, 'symmetric')
    assert.equal(report.mapping, mapping)
    assert.deepEqual(report.ports, { kind: 'random' })
  })
}

for (const step of [1, 2]) {
  test(`a symmetric NAT that counts by ${step} is foreseen`, async () => {
    const nat = {
      outside: OUTSIDE,
      mapping: 'address-and-port-dependent',
      filtering: 'address-and-port-dependent',
      nextPort: counting(step),
    } as const
    const { ports } = await detectBehind(nat)
    assert.ok(ports.kind === 'sequence')
    assert.equal(ports.step, step)
  })
}

test('no NAT, and one that nobody can test for filtering', async () => {
  assert.equal((await detectBehind(undefined)).kind, 'none')
  const nat = {
    outside: OUTSIDE,
    mapping: 'endpoint-independent',
    filtering: 'endpoint-independent',
    nextPort: kept,
  } as const
  const report = await detectBehind(nat, { hasTwoAddresses: false })
  assert.equal(report.kind, 'port-restricted')
  assert.equal(report.filtering, 'unknown')
})

test('servers that say nothing: blocked, within the deadline', async () => {
  const report = await detectBehind(undefined, { isServing: false })
  assert.equal(report.kind, 'blocked')
  assert.deepEqual(report.observations, [])
})

test('real sockets on loopback: no NAT', async t => {
  const sockets = await openStunSockets(openUdp, ['127.0.0.1', '127.0.0.2']).catch(() => undefined)
  if (sockets === undefined) return t.skip('this system has no second loopback address')
  const server = createStunServer({ clock: systemClock, sockets })
  try {
    const report = await detectNat(
      { clock: systemClock, random: systemRandom, openUdp },
      { servers: [sockets.first.local], localAddresses: ['127.0.0.1'], bindAddress: '127.0.0.1' },
    )
    assert.equal(report.kind, 'none')
    assert.equal(report.filtering, 'endpoint-independent')
  } finally {
    server.close()
    await closeStunSockets(sockets)
  }
})
