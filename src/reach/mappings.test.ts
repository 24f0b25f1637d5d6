import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { ManualClock, seededRandom, silentLogger } from '#base'
import { createPortMapper, MAPPING_LEASE_SECONDS, type MappingProtocol } from '#nat'
import { MAP_RETRY_MS } from './limits.ts'
import { Mappings } from './mappings.ts'

const WANTED = [
  { protocol: 'tcp', internalPort: 4001 },
  { protocol: 'udp', internalPort: 4001 },
] as const

/** Gateways, one after the other as the machine moves: each maps to its own address, or does not want to. */
class Gateways {
  readonly mapped: string[] = []
  address: string | undefined = '62.1.0.1'

  readonly way = (): MappingProtocol => ({
    name: 'a gateway',
    map: async ({ protocol, internalPort }, { leaseSeconds }) => {
      if (this.address === undefined) throw new Error('it does not map ports')
      this.mapped.push(`${this.address} ${protocol}`)
      const outside = { externalAddress: this.address, externalPort: internalPort, isPublic: true }
      return { protocol, internalPort, ...outside, leaseSeconds, via: 'pcp' }
    },
    unmap: async ({ protocol, externalAddress }) => {
      this.mapped.splice(this.mapped.indexOf(`${externalAddress} ${protocol}`), 1)
    },
  })
}

function setUp(t: TestContext) {
  const clock = new ManualClock()
  const gateways = new Gateways()
  let changes = 0
  const mappings = new Mappings({
    clock,
    log: silentLogger,
    createMapper: onChanged =>
      createPortMapper(
        { clock, random: seededRandom(1), log: silentLogger, protocols: async () => [gateways.way()] },
        { onChanged },
      ),
    onChanged: () => void changes++,
  })
  t.after(() => mappings.stop())
  const settle = async (): Promise<void> => {
    while (mappings.isAsking) await new Promise(resolve => setImmediate(resolve))
  }
  return { clock, gateways, mappings, settle, changes: () => changes }
}

test('ports are mapped once, renewed, and taken back at the end', async t => {
  const { clock, gateways, mappings, settle } = setUp(t)
  mappings.look(WANTED)
  assert.equal(mappings.isAsking, true)
  await settle()
  mappings.look(WANTED)
  assert.equal(mappings.isAsking, false)
  assert.deepEqual(gateways.mapped, ['62.1.0.1 tcp', '62.1.0.1 udp'])
  clock.advance((MAPPING_LEASE_SECONDS * 1_000 * 5) / 8)
  await new Promise(resolve => setImmediate(resolve))
  assert.equal(gateways.mapped.length, 4)
  gateways.mapped.splice(2)
  await mappings.stop()
  assert.deepEqual([gateways.mapped, mappings.ports], [[], []])
  mappings.look(WANTED)
  assert.equal(mappings.isAsking, false)
})

test('a gateway that would not is asked again later, and it is told when the answer is there', async t => {
  const { clock, gateways, mappings, settle, changes } = setUp(t)
  gateways.address = undefined
  mappings.look(WANTED)
  await settle()
  assert.deepEqual([mappings.ports, changes()], [[], 2])
  gateways.address = '62.1.0.1'
  mappings.look(WANTED)
  assert.equal(mappings.isAsking, false)
  clock.advance(MAP_RETRY_MS)
  mappings.look(WANTED)
  await settle()
  assert.equal(mappings.ports.length, 2)
})

test('in another network another gateway is asked, and the first one is told', async t => {
  const { gateways, mappings, settle } = setUp(t)
  mappings.look(WANTED)
  await settle()
  await mappings.moved()
  assert.deepEqual(gateways.mapped, [])
  gateways.address = '77.1.0.1'
  mappings.look(WANTED)
  await settle()
  assert.deepEqual(
    mappings.ports.map(port => port.externalAddress),
    ['77.1.0.1', '77.1.0.1'],
  )
})
