import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { ManualClock, seededRandom, silentLogger, systemClock, systemRandom } from '#base'
import { PmpGateway } from '../../test/support/pmp-gateway.ts'
import { MAPPING_RETRY_MS, MAPPINGS_MAX } from './limits.ts'
import { PmpProtocol } from './mapping/pmp.ts'
import type { MappingProtocol, PortMapping } from './mapping/types.ts'
import { createPortMapper, type MappingChange, type PortMapper } from './port-mapper.ts'
import { openUdp } from './udp.ts'

const OUTSIDE = [203, 0, 113, 9] as const

type Setup = { readonly gateway: PmpGateway; readonly mapper: PortMapper; readonly changes: MappingChange[] }

/** The gateway answers in real time; leases and deadlines run by a clock that stands still. */
async function setUp(t: TestContext, speaks: 'pcp' | 'nat-pmp'): Promise<Setup> {
  const gateway = await PmpGateway.start({ speaks, outside: OUTSIDE })
  const changes: MappingChange[] = []
  const way = new PmpProtocol(
    { clock: systemClock, random: systemRandom, openUdp },
    { gateway: gateway.endpoint, localAddress: '127.0.0.1' },
  )
  const mapper = createPortMapper(
    { clock: new ManualClock(), random: seededRandom(1), log: silentLogger, protocols: async () => [way] },
    { onChanged: change => void changes.push(change), leaseSeconds: 100 },
  )
  t.after(async () => {
    await mapper.stop()
    await gateway.close()
  })
  return { gateway, mapper, changes }
}

for (const speaks of ['pcp', 'nat-pmp'] as const) {
  test(`${speaks}: a port is mapped, and taken back at the end`, async t => {
    const { gateway, mapper } = await setUp(t, speaks)
    const mapping = await mapper.map({ protocol: 'udp', internalPort: 4000, externalPort: 4321 })
    assert.deepEqual(mapping, {
      protocol: 'udp',
      internalPort: 4000,
      via: speaks,
      externalAddress: '203.0.113.9',
      externalPort: 4321,
      leaseSeconds: 100,
      isPublic: true,
    })
    await mapper.map({ protocol: 'tcp', internalPort: 4000 })
    assert.deepEqual(
      [...gateway.mappings],
      [
        ['udp 4000', 4321],
        ['tcp 4000', 4000],
      ],
    )
    await mapper.unmap({ protocol: 'udp', internalPort: 4000 })
    assert.deepEqual([...gateway.mappings.keys()], ['tcp 4000'])
    await mapper.stop()
    assert.equal(gateway.mappings.size, 0)
    await assert.rejects(mapper.map({ protocol: 'udp', internalPort: 4000 }), { code: 'NAT_CLOSED' })
  })

  test(`${speaks}: garbage from the gateway is passed over`, async t => {
    const { gateway, mapper } = await setUp(t, speaks)
    const seed = 0x9a7e
    t.diagnostic(`seed ${seed}`)
    const random = seededRandom(seed)
    for (let turn = 0; turn < 200; turn++) {
      const noise = random.bytes(random.uint32() % 64)
      // Never a version and opcode that would make it a true answer.
      noise[1] = 7
      gateway.garbage.push(noise)
    }
    const mapping = await mapper.map({ protocol: 'tcp', internalPort: 4001 })
    assert.equal(mapping.externalPort, 4001)
  })
}

/** A way whose gateway is the test. */
function scripted(): {
  readonly way: MappingProtocol
  grant: PortMapping | Error
  calls: number
  unmapped: PortMapping[]
} {
  const script = {
    grant: new Error('down') as PortMapping | Error,
    calls: 0,
    unmapped: [] as PortMapping[],
    way: {
      name: 'scripted',
      map: async () => {
        script.calls++
        if (script.grant instanceof Error) throw script.grant
        return script.grant
      },
      unmap: async (mapping: PortMapping) => void script.unmapped.push(mapping),
    },
  }
  return script
}

const GRANT: PortMapping = {
  protocol: 'udp',
  internalPort: 7,
  via: 'upnp',
  externalAddress: '203.0.113.9',
  externalPort: 70,
  leaseSeconds: 100,
  isPublic: true,
}

const settle = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

test('a mapping is renewed after half of its lease, and its owner hears where it moved', async () => {
  const clock = new ManualClock()
  const script = scripted()
  const changes: MappingChange[] = []
  script.grant = GRANT
  const deps = { clock, random: seededRandom(1), log: silentLogger, protocols: async () => [script.way] }
  const mapper = createPortMapper(deps, { onChanged: change => void changes.push(change) })
  await mapper.map({ protocol: 'udp', internalPort: 7 })
  clock.advance(49_999)
  await settle()
  assert.equal(script.calls, 1)
  clock.advance(12_501)
  await settle()
  assert.equal(script.calls, 2)
  assert.deepEqual(changes, [])
  script.grant = { ...GRANT, externalPort: 71 }
  clock.advance(62_500)
  await settle()
  assert.deepEqual(changes, [{ kind: 'moved', mapping: script.grant }])
  await mapper.stop()
  assert.deepEqual(script.unmapped, [script.grant])
})

test('a lease of 136 years, or without end, is renewed as if it were one of two hours', async () => {
  for (const leaseSeconds of [2 ** 32 - 1, 0]) {
    const clock = new ManualClock()
    const script = scripted()
    script.grant = { ...GRANT, leaseSeconds }
    const deps = { clock, random: seededRandom(1), log: silentLogger, protocols: async () => [script.way] }
    const mapper = createPortMapper(deps)
    await mapper.map({ protocol: 'udp', internalPort: 7 })
    clock.advance(3_599_999)
    await settle()
    assert.equal(script.calls, 1)
    clock.advance(900_002)
    await settle()
    assert.equal(script.calls, 2)
    await mapper.stop()
  }
})

test('a mapping whose gateway falls silent is lost when the lease ends, and found again', async () => {
  const clock = new ManualClock()
  const script = scripted()
  const changes: MappingChange[] = []
  script.grant = GRANT
  const deps = { clock, random: seededRandom(1), log: silentLogger, protocols: async () => [script.way] }
  const mapper = createPortMapper(deps, { onChanged: change => void changes.push(change) })
  await mapper.map({ protocol: 'udp', internalPort: 7 })
  script.grant = new Error('down')
  for (let second = 0; second < 99; second++) {
    clock.advance(1_000)
    await settle()
  }
  assert.equal(mapper.mappings.length, 1)
  assert.deepEqual(changes, [])
  clock.advance(1_001)
  await settle()
  assert.deepEqual(changes, [{ kind: 'lost', mapping: GRANT }])
  assert.deepEqual(mapper.mappings, [])
  script.grant = GRANT
  clock.advance(MAPPING_RETRY_MS)
  await settle()
  assert.deepEqual(changes.at(-1), { kind: 'moved', mapping: GRANT })
  await mapper.stop()
  clock.advance(1e6)
  await settle()
  assert.equal(mapper.mappings.length, 0)
})

test('a way that fails gives place to the next, one that never answers is bounded, and reasons are told', async () => {
  const clock = new ManualClock()
  const never: MappingProtocol = {
    name: 'never',
    map: () => new Promise(() => undefined),
    unmap: async () => undefined,
  }
  const script = scripted()
  const deps = { clock, random: seededRandom(1), log: silentLogger, protocols: async () => [never, script.way] }
  const mapper = createPortMapper(deps)
  const failing = mapper.map({ protocol: 'udp', internalPort: 7 })
  failing.catch(() => undefined)
  await settle()
  clock.advance(5_000)
  await assert.rejects(failing, {
    fault: { code: 'NAT_MAPPING_FAILED', reasons: ['never: never took longer than 5000 ms', 'scripted: down'] },
  })
  assert.deepEqual(mapper.mappings, [])
  script.grant = GRANT
  const working = mapper.map({ protocol: 'udp', internalPort: 7 })
  await settle()
  clock.advance(5_000)
  assert.deepEqual(await working, GRANT)
  await mapper.stop()
})

test('mappings are bounded, and one port is mapped once', async () => {
  const script = scripted()
  script.grant = GRANT
  const deps = {
    clock: new ManualClock(),
    random: seededRandom(1),
    log: silentLogger,
    protocols: async () => [script.way],
  }
  const mapper = createPortMapper(deps)
  await Promise.all([7, 7, 7].map(internalPort => mapper.map({ protocol: 'udp', internalPort })))
  assert.equal(script.calls, 1)
  for (let port = 100; port < 99 + MAPPINGS_MAX; port++) await mapper.map({ protocol: 'udp', internalPort: port })
  await assert.rejects(mapper.map({ protocol: 'udp', internalPort: 1 }), { code: 'NAT_MAPPINGS_FULL' })
  await mapper.stop()
  assert.equal(script.unmapped.length, MAPPINGS_MAX)
})

test('a machine without a gateway: no mapping, and no wait', async () => {
  const deps = { clock: new ManualClock(), random: seededRandom(1), log: silentLogger, protocols: async () => [] }
  const mapper = createPortMapper(deps)
  await assert.rejects(mapper.map({ protocol: 'udp', internalPort: 7 }), { code: 'NAT_MAPPING_FAILED' })
  await mapper.stop()
})

test('stop ends a call that is under way', async () => {
  const never: MappingProtocol = {
    name: 'never',
    map: () => new Promise(() => undefined),
    unmap: async () => undefined,
  }
  const deps = { clock: new ManualClock(), random: seededRandom(1), log: silentLogger, protocols: async () => [never] }
  const mapper = createPortMapper(deps)
  const pending = mapper.map({ protocol: 'udp', internalPort: 7 })
  pending.catch(() => undefined)
  await settle()
  await mapper.stop()
  await assert.rejects(pending, { code: 'NAT_CLOSED' })
})
