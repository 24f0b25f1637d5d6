/** Time, restarts and churn: what expires, what is announced again, who hands what on. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type KeyValueStore, ManualClock, type Random, seededRandom, systemClock } from '#base'
import { sha256 } from '#crypto'
import { createNodeIdentity } from '#identity'
import { type KadNode, type KadNodeOptions, PATIENT_OPERATION_MS, startKadNode } from '../../test/support/kad-nodes.ts'
import { createMemoryFabric, type MemoryFabric } from '../../test/support/memory-libp2p.ts'
import {
  BOOTSTRAP_WAIT_MS,
  PROVIDER_LIFE_MS,
  REPUBLISH_MS,
  RESTORED_DELAY_MS,
  UPKEEP_MS,
  WALK_PERCENT_MAX,
} from './limits.ts'
import { createMemoryStore } from './memory-store.ts'
import { recordKey } from './record.ts'

const NOW = 1_700_000_000_000
const HOUR_MS = 3_600_000
const WAIT_MS_MAX = 60_000
const KEY = sha256(new TextEncoder().encode('what is provided'))

type Bench = {
  readonly clock: ManualClock
  readonly random: Random
  readonly fabric: MemoryFabric
  node(index: number, over?: Partial<KadNodeOptions>): Promise<KadNode>
}

function bench(t: TestContext, seed: number): Bench {
  const clock = new ManualClock(NOW)
  const random = seededRandom(seed)
  const fabric = createMemoryFabric()
  return {
    clock,
    random,
    fabric,
    node: async (index, over = {}) => {
      const memory = { network: fabric, address: `/ip4/198.51.${index}.1/tcp/1` }
      const node = await startKadNode({ random, clock, memory, ...over })
      t.after(() => node.stop())
      return node
    },
  }
}

/**
 * Turns of the event loop until something holds: what happens in the background has no promise to wait for. They are bounded
 * by real time, as kad-dht's own timers are, and not by their number: a fast machine has many of them before a timer is due.
 */
async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = systemClock.monotonic() + WAIT_MS_MAX
  while (!(await holds())) {
    if (systemClock.monotonic() > end) assert.fail(`never: ${what}`)
    await new Promise(resolve => setImmediate(resolve))
  }
}

async function providersOf(node: KadNode): Promise<string[]> {
  const peers: string[] = []
  for await (const { peer } of node.kad.findProviders(KEY)) peers.push(peer)
  return peers
}

test('records and providers expire by the clock that was given', async t => {
  const b = bench(t, 31)
  const [a, holder, reader] = [await b.node(1), await b.node(2), await b.node(3)]
  for (const node of [a, reader]) await node.kad.bootstrap(holder.addresses)
  await a.kad.put(await a.record({ sequence: 1 }))
  await a.kad.provide(KEY)
  await until('the provider is held', () => holder.kad.status().providedKeys === 1)
  await a.stop()
  assert.equal((await reader.kad.get(recordKey('peer', a.peer))).sequence, 1)
  assert.deepEqual(await providersOf(reader), [a.peer])
  b.clock.advance(HOUR_MS)
  await assert.rejects(reader.kad.get(recordKey('peer', a.peer)), { code: 'KAD_NOT_FOUND' })
  b.clock.advance(PROVIDER_LIFE_MS)
  assert.deepEqual(await providersOf(reader), [])
  await until('what has expired is forgotten', () => {
    const { records, providedKeys } = holder.kad.status()
    return records + providedKeys === 0
  })
})

test('what is our own is announced again, values as well as providers, until it is forgotten', async t => {
  const b = bench(t, 32)
  const [a, first] = [await b.node(1), await b.node(2)]
  await a.kad.bootstrap(first.addresses)
  await a.kad.put(await a.record({ sequence: 1 }))
  await a.kad.provide(KEY)
  const late = await b.node(3)
  await a.kad.bootstrap(late.addresses)
  // What was put before it came is handed on at once; a provider speaks for itself only, and does so at its time.
  await until('the record is handed on', () => late.kad.status().records === 1)
  assert.equal(late.kad.status().providedKeys, 0)
  b.clock.advance(REPUBLISH_MS * 1.1)
  await until('the provider is announced again', () => late.kad.status().providedKeys === 1)
  a.kad.forget(KEY)
  a.kad.forget(recordKey('peer', a.peer))
  assert.deepEqual([a.kad.status().ownRecords, a.kad.status().ownProvided], [0, 0])
})

test('a node that starts again has its table, its records and its own values, and needs no bootstrap node', async t => {
  const b = bench(t, 33)
  const store: KeyValueStore = createMemoryStore(b)
  const identity = await createNodeIdentity(b.random)
  const bootstrapNode = await b.node(1)
  const before = await b.node(2, { store, identity })
  const other = await b.node(3)
  for (const node of [before, other]) await node.kad.bootstrap(bootstrapNode.addresses)
  await other.kad.put(await other.record({ sequence: 4 }))
  await before.kad.put(await before.record({ sequence: 2 }))
  await before.kad.provide(KEY)
  await until('both are in the table', () => before.kad.status().peers === 2)
  await before.stop()
  await bootstrapNode.stop()
  const after = await b.node(2, { store, identity })
  assert.deepEqual(
    [after.kad.status().records, after.kad.status().ownRecords, after.kad.status().ownProvided],
    [2, 1, 1],
  )
  await until('the other is found again', () => after.kad.status().peers === 1)
  assert.equal((await after.kad.get(recordKey('peer', other.peer))).sequence, 4)
  await assert.rejects(after.kad.put(await after.record({ sequence: 1 })), { code: 'KAD_RECORD_ROLLBACK' })
  b.clock.advance(RESTORED_DELAY_MS * 1.1)
  await until('it says again what it provides', () => other.kad.status().providedKeys === 1)
})

test('a bootstrap tries all of its nodes, and again, with waits that grow and are left to chance', async t => {
  const b = bench(t, 34)
  const lost = await createNodeIdentity(b.random)
  const comes = await createNodeIdentity(b.random)
  const node = await b.node(1)
  const nodes = [
    `/ip4/198.51.9.1/tcp/1/p2p/${lost.peer}`,
    `/ip4/198.51.2.1/tcp/1/p2p/${comes.peer}`,
    'nonsense',
    '/ip4/198.51.9.1/tcp/1',
  ]
  const joined = node.kad.bootstrap(nodes, { rounds: 3 })
  const waits: number[] = []
  const wait = async (longest: number): Promise<void> => {
    let waited = 0
    await until('the next round', () => {
      b.clock.advance(longest / 20)
      waited += longest / 20
      return waited >= longest
    })
    waits.push(waited)
  }
  await wait(BOOTSTRAP_WAIT_MS)
  await b.node(2, { identity: comes })
  await wait(2 * BOOTSTRAP_WAIT_MS)
  assert.equal(await joined, 1)
  await assert.rejects(node.kad.bootstrap(['nonsense'], { rounds: 2 }), { code: 'KAD_BOOTSTRAP_FAILED' })
})

test('a peer that comes close to a key is given its value; when one goes, the next in line is', async t => {
  const b = bench(t, 35)
  const kad = { replicas: 2, siblings: 1, bucketSize: 20 }
  const nodes = [await b.node(1, { kad })]
  for (let i = 2; i <= 7; i++) nodes.push(await b.node(i, { kad }))
  const [first] = nodes
  assert(first !== undefined)
  for (const node of nodes.slice(1)) await node.kad.bootstrap(first.addresses)
  for (const node of nodes) await node.kad.closestPeers(node.peer)
  await until('all know all', () => nodes.every(node => node.kad.status().peers === 6))
  const put = await first.kad.put(await first.record({ sequence: 1 }))
  // Two and a sibling, and the node itself.
  assert.equal(put.acknowledged, 3)
  first.kad.forget(put.key)
  const holders = (): KadNode[] => nodes.filter(node => node !== first && node.kad.status().records === 1)
  assert.equal(holders().length, 3)
  const [gone] = holders()
  assert(gone !== undefined)
  await gone.stop()
  const left = nodes.filter(node => node !== gone)
  for (const node of left) await node.kad.removePeer(gone.peer)
  await until('three of the others hold it', () => holders().filter(node => node !== gone).length === 3)
  const newcomers = await Promise.all([8, 9, 10, 11, 12].map(index => b.node(index, { kad })))
  for (const node of newcomers) await node.kad.bootstrap(first.addresses)
  const closest = (await first.kad.closestPeers(put.key)).slice(0, 3).map(({ peer }) => peer)
  const close = newcomers.filter(node => closest.includes(node.peer))
  assert(close.length > 0, 'of five newcomers among eleven one is close')
  await until('whoever is close holds it', () => close.every(node => node.kad.status().records === 1))
})

test('who no longer answers leaves the table', async t => {
  const b = bench(t, 36)
  const [a, gone] = [await b.node(1), await b.node(2)]
  await a.kad.bootstrap(gone.addresses)
  await gone.stop()
  assert.equal(a.kad.status().peers, 1)
  await until('it is dropped', () => {
    b.clock.advance(UPKEEP_MS)
    return a.kad.status().peers === 0
  })
})

test('an operation says what it lacks: peers, a quorum, a key, a running node', async t => {
  const b = bench(t, 37)
  const [alone, other] = [await b.node(1), await b.node(2)]
  const nobody = assert.rejects(alone.kad.put(await alone.record({ sequence: 1 })), { code: 'KAD_NO_PEERS' })
  await until('the put waits', () => alone.kad.status().operations === 1)
  b.clock.advance(PATIENT_OPERATION_MS)
  await nobody
  await alone.kad.bootstrap(other.addresses)
  await assert.rejects(alone.kad.put(await alone.record({ sequence: 2 }), { quorum: 2 }), {
    fault: { code: 'KAD_QUORUM', acknowledged: 1, quorum: 2 },
  })
  await assert.rejects(alone.kad.get('/elsewhere/peer/x'), { code: 'KAD_KEY_INVALID' })
  await assert.rejects(alone.kad.provide(new Uint8Array(31)), { code: 'KAD_KEY_INVALID' })
  await assert.rejects(alone.kad.findPeer('nobody'), { code: 'KAD_KEY_INVALID' })
  await assert.rejects(alone.kad.get(recordKey('peer', other.peer)), { code: 'KAD_NOT_FOUND' })
  const reason = new Error('the caller has changed its mind')
  await assert.rejects(alone.kad.get(recordKey('peer', other.peer), { signal: AbortSignal.abort(reason) }), reason)
  await alone.stop()
  await assert.rejects(alone.kad.get(recordKey('peer', other.peer)), { code: 'KAD_STOPPED' })
  assert.equal(alone.kad.status().isRunning, false)
})

test('a search for close peers that hears of nobody in its share of the time says so', async t => {
  const b = bench(t, 41)
  // Until a node has looked for its own neighbours, kad-dht lets all other searches wait.
  const [waiting, other] = [await b.node(1, { kad: { selfLookupDelayMs: 600_000 } }), await b.node(2)]
  await waiting.kad.bootstrap(other.addresses)
  const late = assert.rejects(waiting.kad.closestPeers('somewhere'), { code: 'KAD_TIMEOUT' })
  await until('it has begun', () => waiting.kad.status().operations === 1)
  b.clock.advance((PATIENT_OPERATION_MS * WALK_PERCENT_MAX) / 100)
  await late
})

test('a client asks and is not asked', async t => {
  const b = bench(t, 38)
  const [server, client] = [await b.node(1), await b.node(2, { kad: { mode: 'client' } })]
  await client.kad.bootstrap(server.addresses)
  assert.equal((await client.kad.put(await client.record({ sequence: 1 }))).acknowledged, 1)
  assert.deepEqual([server.kad.status().peers, client.kad.status().mode], [0, 'client'])
  await client.kad.setMode('server')
  server.kad.addPeer(client.peer, client.addresses)
  await until('it is asked now', () => server.kad.status().peers === 1)
})
