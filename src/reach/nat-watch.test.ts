import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock, seededRandom, silentLogger } from '#base'
import { createStunServer, type NatReport } from '#nat'
import { SimulatedNetwork } from '../../test/support/simulated-network.ts'
import { DETECT_PERIOD_MS, DETECT_RETRY_MS } from './limits.ts'
import { NatWatch } from './nat-watch.ts'

const INSIDE = '192.168.1.5'
const SERVERS = ['198.51.100.1', '203.0.113.9'].map(address => ({ address, port: 3478 }))

/** A call, so that the compiler does not take it for the same as before. */
const reportOf = (watch: NatWatch): NatReport | undefined => watch.report

async function setUp() {
  const clock = new ManualClock()
  const network = new SimulatedNetwork()
  for (const { address, port } of SERVERS) {
    createStunServer({ clock, sockets: { first: await network.machine(address)({ port }) } })
  }
  let port = 50_000
  const openUdp = network.machine(INSIDE, {
    outside: '198.18.0.7',
    mapping: 'address-and-port-dependent',
    filtering: 'address-and-port-dependent',
    nextPort: () => (port += 7),
  })
  let detections = 0
  const watch = new NatWatch({
    clock,
    random: seededRandom(1),
    log: silentLogger,
    openUdp,
    localAddresses: () => [INSIDE],
    onDetected: () => void detections++,
  })
  /** Looks, and lets what begins come to its end. */
  const look = async (servers: readonly (typeof SERVERS)[number][], where = 'home'): Promise<number> => {
    const before = clock.monotonic()
    watch.look({ servers, network: where })
    for (let turn = 0; turn < 400 && watch.isRunning; turn++) {
      await new Promise(resolve => setImmediate(resolve))
      clock.advance(100)
    }
    assert.ok(clock.monotonic() - before < DETECT_RETRY_MS)
    return detections
  }
  return { clock, watch, look }
}

test('nobody to ask: nothing is found out; one server, then two: again each time', async () => {
  const { watch, look } = await setUp()
  assert.equal(await look([]), 0)
  assert.equal(reportOf(watch), undefined)
  assert.equal(await look(SERVERS.slice(0, 1)), 1)
  assert.equal(await look(SERVERS), 2)
  const found = reportOf(watch)
  assert.deepEqual([found?.kind, found?.address], ['symmetric', '198.18.0.7'])
  assert.equal(await look(SERVERS), 2)
})

test('again after a while, and at once in another network', async () => {
  const { clock, watch, look } = await setUp()
  assert.equal(await look(SERVERS), 1)
  clock.advance(DETECT_PERIOD_MS)
  assert.equal(await look(SERVERS), 2)
  watch.clear()
  assert.equal(reportOf(watch), undefined)
  assert.equal(await look(SERVERS, 'a café'), 3)
})

test('sooner where nothing was found out; never after the stop', async () => {
  const { clock, watch, look } = await setUp()
  const silent = [{ address: '203.0.113.200', port: 3478 }]
  assert.equal(await look(silent), 1)
  assert.equal(watch.report?.kind, 'blocked')
  clock.advance(DETECT_RETRY_MS)
  assert.equal(await look(silent), 2)
  await watch.stop()
  assert.equal(await look(SERVERS), 2)
})
