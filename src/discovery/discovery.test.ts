/** Whole swarms in memory, on a clock of their own: who finds whom, what survives a restart, and what a day leaves behind. */
import assert from 'node:assert/strict'
import { describe, it, test } from 'node:test'
import type { FoundService, KadRecords } from '#discovery'
import { createMemorySwarm, identityOf, type MemorySwarm, type SwarmNode } from '../../test/support/discovery-swarm.ts'
import type { KnownPeerRow, KnownPeerStore } from '#storage'

const SEED = 20_261_121
const MODEL = 'ab'.repeat(32)
const MINUTE_MS = 60_000

class MemoryStore implements KnownPeerStore {
  readonly rows = new Map<string, KnownPeerRow>()
  #sequence: number | undefined
  load = () => [...this.rows.values()]
  save = (row: KnownPeerRow): void => void this.rows.set(String(row.publicKey), row)
  remove = (publicKey: Uint8Array): void => void this.rows.delete(String(publicKey))
  sequence = () => this.#sequence
  setSequence(sequence: number): void {
    this.#sequence = sequence
  }
  touch = (publicKey: Uint8Array, lastSeen: number): void => {
    const row = this.rows.get(String(publicKey))
    if (row !== undefined) this.save({ ...row, lastSeen })
  }
}

/** Provider records and peers' records in one place: what Kademlia is to discovery. */
class MemoryKad {
  readonly providers = new Map<string, Map<string, readonly string[]>>()
  readonly records = new Map<string, Uint8Array>()

  of({ host }: Pick<SwarmNode, 'host'>): KadRecords {
    return {
      provide: async key => {
        const name = String(key)
        this.providers.set(name, (this.providers.get(name) ?? new Map()).set(host.id, host.addresses()))
      },
      findProviders: (key, { signal }) => this.#find(String(key), signal),
      put: async ({ kind, payload }) => void this.records.set(`${kind} ${host.id}`, payload),
      get: async (kind, peer) => this.records.get(`${kind} ${peer}`),
    }
  }

  async *#find(key: string, signal: AbortSignal | undefined) {
    for (const [peer, addresses] of this.providers.get(key) ?? []) {
      signal?.throwIfAborted()
      yield { peer, addresses }
    }
  }
}

async function collect(swarm: MemorySwarm, results: AsyncIterable<FoundService>): Promise<FoundService[]> {
  const found: FoundService[] = []
  let isOver = false
  const reading = (async () => {
    for await (const service of results) found.push(service)
  })().finally(() => {
    isOver = true
  })
  while (!isOver) await swarm.pass(100, 100)
  await reading
  return found
}

const knowsAll = ({ discovery }: SwarmNode, count: number): boolean => discovery.status().knownPeers === count

describe(`ten nodes and one bootstrap address, without any DHT (seed ${SEED})`, async () => {
  const swarm = createMemorySwarm(SEED)
  const stores = Array.from({ length: 10 }, () => new MemoryStore())
  for (const store of stores) swarm.add({ store })
  const [bootstrap = assert.fail(), ...others] = swarm.nodes
  for (const { discovery } of swarm.nodes) discovery.start()
  for (const { host } of others) await host.connect(bootstrap.host.address)
  await swarm.pass(2 * MINUTE_MS)

  it('come to know and to reach one another', () => {
    for (const node of swarm.nodes) {
      assert.ok(knowsAll(node, 9), `${node.discovery.status().knownPeers} known`)
      assert.equal(node.host.peers().length, 9)
      assert.deepEqual(node.faults, [])
    }
  })

  it('spend at most 5 KiB and 5 KiB on an exchange', () => {
    const { lastExchange } = bootstrap.discovery.status()
    assert.ok(lastExchange !== undefined && lastExchange.sentBytes < 10_240 && lastExchange.receivedBytes < 10_240)
  })

  it('find a service of each other, and no more once it is taken back', async () => {
    const [server = assert.fail(), client = assert.fail()] = others
    server.discovery.announce([
      { service: 'stage', model: MODEL, modelName: 'Storyteller', layers: { first: 0, last: 4 }, layerCount: 8 },
      { service: 'stage', model: MODEL, layers: { first: 4, last: 8 } },
      { service: 'embed' },
    ])
    await swarm.pass(1_000)
    const found = await collect(swarm, client.discovery.find({ service: 'stage', model: MODEL }))
    assert.deepEqual(
      found.map(({ peer, layers, via }) => [peer, layers?.first, via]),
      [
        [server.host.id, 0, 'peer'],
        [server.host.id, 4, 'peer'],
      ],
    )
    assert.deepEqual(found[0]?.addresses, server.host.addresses())
    assert.equal((await collect(swarm, client.discovery.find({ service: 'stage', model: 'other' }))).length, 0)
    await swarm.pass(10 * MINUTE_MS)
    assert.equal((await collect(swarm, client.discovery.find({ service: 'embed' }))).length, 1, 'it is refreshed')
    server.discovery.announce([])
    await swarm.pass(1_000)
    assert.equal((await collect(swarm, client.discovery.find({ service: 'stage' }))).length, 0)
  })

  it('find each other without the bootstrap node, after all of them have restarted', async () => {
    await swarm.stop()
    for (const node of swarm.nodes) node.host.die()
    const later = createMemorySwarm(SEED + 1)
    // The same addresses in the same order; the first one does not come back.
    for (const [i, { identity }] of swarm.nodes.entries())
      later.add({ store: stores[i] ?? assert.fail() }, {}, identity)
    const [gone = assert.fail(), ...rest] = later.nodes
    gone.host.die()
    for (const { discovery } of rest) discovery.start()
    await later.pass(2 * MINUTE_MS)
    for (const { host } of rest) assert.equal(host.peers().length, 8)
    await later.stop()
  })
})

test('a service is found in Kademlia among strangers, and a record that its peer has not signed is not taken', async () => {
  const swarm = createMemorySwarm(7)
  const kad = new MemoryKad()
  const add = (): SwarmNode => {
    const identity = identityOf(swarm.random)
    const of = (): KadRecords => kad.of({ host: node.host })
    const lazy: KadRecords = {
      provide: (...args) => of().provide(...args),
      findProviders: (...args) => of().findProviders(...args),
      put: (...args) => of().put(...args),
      get: (...args) => of().get(...args),
    }
    const node: SwarmNode = swarm.add({ kad: lazy }, { meetsStrangers: false }, identity)
    return node
  }
  const [server, liar, client] = [add(), add(), add()]
  for (const { discovery } of swarm.nodes) discovery.start()
  server.discovery.announce([{ service: 'stage', model: MODEL }])
  await swarm.pass(5_000)
  const record = kad.records.get(`services ${server.host.id}`) ?? assert.fail('nothing was put')
  kad.records.set(`services ${liar.host.id}`, record)
  for (const providers of kad.providers.values()) providers.set(liar.host.id, liar.host.addresses())
  const found = await collect(swarm, client.discovery.find({ service: 'stage', model: MODEL }))
  assert.deepEqual(
    found.map(({ peer, via }) => [peer, via]),
    [[server.host.id, 'kad']],
  )
  assert.equal(client.host.peers().length, 1, 'the other was asked itself, and had nothing')
  const plan = await client.discovery.plan(server.host.id)
  assert.equal(plan.kind, 'skip', 'a public node that says no address is nowhere')
  await swarm.stop()
})

test('a NAT peer is skipped until its metadata names a relay, then dialled by it', async () => {
  const swarm = createMemorySwarm(8)
  const kad = new MemoryKad()
  let relay: { peer: string; session: string; address: string } | undefined
  const facts = () => ({
    nodeType: 'private' as const,
    isRelay: false,
    addresses: [],
    protocols: [],
    capabilities: [],
    ...(relay === undefined ? {} : { relay }),
  })
  const holder: { nat?: SwarmNode; client?: SwarmNode } = {}
  const kadOf = (name: 'nat' | 'client'): KadRecords => {
    const of = (): KadRecords => kad.of(holder[name] ?? assert.fail())
    return {
      provide: (...args) => of().provide(...args),
      findProviders: (...args) => of().findProviders(...args),
      put: (...args) => of().put(...args),
      get: (...args) => of().get(...args),
    }
  }
  const nat = (holder.nat = swarm.add({ kad: kadOf('nat'), facts }, { meetsStrangers: false }))
  const client = (holder.client = swarm.add({ kad: kadOf('client') }, { meetsStrangers: false }))
  for (const { discovery } of swarm.nodes) discovery.start()
  await swarm.pass(MINUTE_MS)
  assert.equal(kad.records.size, 1, 'it says nothing of itself: nobody could use it')
  assert.equal(nat.discovery.status().metadata.state, 'held')
  assert.deepEqual(await client.discovery.plan(nat.host.id), { kind: 'skip', reason: 'unknown' })
  relay = { peer: identityOf(swarm.random).peer, session: 's1', address: '/ip4/198.51.100.7/tcp/4001' }
  nat.discovery.factsChanged()
  await swarm.pass(2 * MINUTE_MS)
  assert.deepEqual(await client.discovery.plan(nat.host.id), {
    kind: 'relay',
    relay: relay.peer,
    addresses: [`${relay.address}/p2p/${relay.peer}/p2p-circuit/p2p/${nat.host.id}`],
  })
  const { peer } = relay
  relay = undefined
  nat.discovery.factsChanged()
  await swarm.pass(6 * MINUTE_MS)
  assert.deepEqual(await client.discovery.plan(nat.host.id), { kind: 'skip', reason: 'no-relay', sequence: 1 }, peer)
  await swarm.stop()
})

test('a day leaves no timers, streams or tables behind, whoever comes and goes', async () => {
  const swarm = createMemorySwarm(9)
  const store = new MemoryStore()
  const node = swarm.add({ store }, { roundExchangesMax: 1 })
  const guests = Array.from({ length: 3 }, () =>
    swarm.add({}, { intervalMs: 5 * MINUTE_MS, announceMs: 5 * MINUTE_MS }),
  )
  for (const { discovery } of swarm.nodes) discovery.start()
  node.discovery.announce([{ service: 'stage', model: MODEL }])
  for (let hour = 0; hour < 24; hour++) {
    const guest = guests[hour % guests.length] ?? assert.fail()
    await guest.host.connect(node.host.address).catch(() => undefined)
    await swarm.pass(30 * MINUTE_MS, 30_000)
    guest.host.drop(node.host.id)
    await swarm.pass(30 * MINUTE_MS, 30_000)
    const { dials, knownPeers, announcements } = node.discovery.status()
    assert.ok(dials <= 3 && knownPeers <= 3 && announcements <= 1, JSON.stringify(node.discovery.status()))
  }
  for (const guest of guests) {
    await guest.discovery.stop()
    guest.host.die()
  }
  await swarm.pass(8 * 24 * 60 * MINUTE_MS, 5 * MINUTE_MS)
  assert.deepEqual([node.discovery.status().knownPeers, store.rows.size], [0, 0], 'all of them are stale')
  await swarm.stop()
  await node.discovery.stop()
  assert.equal(node.discovery.status().isRunning, false)
  assert.throws(() => node.discovery.announce([]), { code: 'DISCOVERY_STOPPED' })
  await assert.rejects(node.discovery.plan('x'), { code: 'DISCOVERY_STOPPED' })
  const opened = node.host.opened.length
  await swarm.pass(10 * MINUTE_MS, 10_000)
  assert.equal(node.host.opened.length, opened)
  assert.equal(swarm.clock.pending, 0, 'timers that are left')
})
