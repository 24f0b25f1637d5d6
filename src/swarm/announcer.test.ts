/** What is here is announced in the DHT as long as it is here, and no more often than the DHT needs. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SwarmDht } from '#swarm'
import { fullBlob } from '../../test/support/memory-blobs.ts'
import { startSwarm, swarmNetwork } from '../../test/support/swarm-hosts.ts'
import { testModel } from '../../test/support/swarm-models.ts'
import { ANNOUNCE_INTERVAL_MS, ANNOUNCE_MS_MAX, ANNOUNCE_RETRY_MS, ANNOUNCES_MAX, ROUND_MS } from './limits.ts'

const PORT = 6_881
const SIZE = 40 * 1024

type Announcement = { readonly key: string; readonly port: number; readonly at: number }

/** A DHT that counts. */
function countingDht(now: () => number, answer: () => Promise<number>): SwarmDht & { readonly all: Announcement[] } {
  const all: Announcement[] = []
  return {
    all,
    announce: (infoHash, port) => {
      all.push({ key: Buffer.from(infoHash).toString('hex'), port, at: now() })
      return answer()
    },
    getPeers: async function* () {},
  }
}

test('a shared model is announced at once, again before it is forgotten, and no more once it is not shared', async t => {
  const network = swarmNetwork()
  const dht = countingDht(
    () => network.clock.monotonic(),
    () => Promise.resolve(8),
  )
  const { swarm } = startSwarm(t, { host: network.host('a'), seed: 1, dht, listenPort: PORT })
  const model = await testModel(1, SIZE)
  swarm.share({ core: model.core, blob: fullBlob(model) })
  await network.until(() => dht.all.length === 1)
  const key = Buffer.from(swarm.facts()[0]?.infoHash ?? [])
    .toString('hex')
    .slice(0, 40)
  const startedAt = network.clock.monotonic()
  await network.until(() => dht.all.length === 3, ROUND_MS)
  const waitedMs = network.clock.monotonic() - startedAt
  assert.ok(waitedMs <= 2 * ANNOUNCE_INTERVAL_MS && waitedMs >= 1.5 * ANNOUNCE_INTERVAL_MS, `${waitedMs} ms`)
  assert.ok(dht.all.every(each => each.key === key && each.port === PORT))
  swarm.unshare(model.id)
  const endsAt = network.clock.monotonic() + 3 * ANNOUNCE_INTERVAL_MS
  await network.until(() => network.clock.monotonic() > endsAt, ROUND_MS)
  assert.equal(dht.all.length, 3)
})

test('a model that is only pulled is announced while the pull is under way', async t => {
  const network = swarmNetwork()
  const dht = countingDht(
    () => network.clock.monotonic(),
    () => Promise.resolve(8),
  )
  const { swarm } = startSwarm(t, { host: network.host('a'), seed: 2, dht, listenPort: PORT, noPeersMs: 10_000 })
  const model = await testModel(2, SIZE)
  const pull = swarm.pull({ subject: { core: model.core }, wanted: 'all', signal: new AbortController().signal })
  await assert.rejects(network.pass(pull), { code: 'SWARM_NO_PEERS' })
  assert.equal(dht.all.length, 1)
})

test('what nobody took note of is announced again soon, and few are announced at once', async t => {
  const network = swarmNetwork()
  let stored = 0
  let hanging = 0
  const hang = (): Promise<number> => {
    hanging++
    return new Promise<number>(() => undefined)
  }
  const dht = countingDht(
    () => network.clock.monotonic(),
    () => (stored === 0 ? Promise.resolve(0) : hang()),
  )
  const { swarm } = startSwarm(t, { host: network.host('a'), seed: 3, dht, listenPort: PORT })
  const first = await testModel(3, SIZE)
  swarm.share({ core: first.core, blob: fullBlob(first) })
  await network.until(() => dht.all.length === 2, ROUND_MS)
  assert.ok((dht.all[1]?.at ?? 0) - (dht.all[0]?.at ?? 0) <= ANNOUNCE_RETRY_MS + 100)
  stored = 8
  for (let at = 0; at < 2 * ANNOUNCES_MAX; at++) {
    const model = await testModel(10 + at, SIZE)
    swarm.share({ core: model.core, blob: fullBlob(model) })
  }
  const endsAt = network.clock.monotonic() + ANNOUNCE_MS_MAX - 1_000
  await network.until(() => network.clock.monotonic() > endsAt, ROUND_MS)
  assert.equal(hanging, ANNOUNCES_MAX)
  await network.until(() => hanging > ANNOUNCES_MAX, ROUND_MS)
})

test('without a port that others can dial nothing is announced', async t => {
  const network = swarmNetwork()
  const dht = countingDht(
    () => network.clock.monotonic(),
    () => Promise.resolve(8),
  )
  const { swarm } = startSwarm(t, { host: network.host('a'), seed: 4, dht })
  const model = await testModel(4, SIZE)
  swarm.share({ core: model.core, blob: fullBlob(model) })
  const endsAt = network.clock.monotonic() + 60_000
  await network.until(() => network.clock.monotonic() > endsAt, ROUND_MS)
  assert.equal(dht.all.length, 0)
})
