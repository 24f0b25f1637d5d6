/** Attacks on real libp2p nodes, and the limit that stops each. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { ManualClock, type Random, seededRandom } from '#base'
import { createNodeIdentity, type NodeIdentity } from '#identity'
import { encodeMessage, startAttacker, TYPES, type WirePeer } from '../../test/support/kad-attacker.ts'
import { type KadNode, type KadNodeOptions, startKadNode } from '../../test/support/kad-nodes.ts'
import { createMemoryFabric, type MemoryFabric } from '../../test/support/memory-libp2p.ts'
import { pointOf } from './distance.ts'
import { encodeLibp2pRecord } from './libp2p-record.ts'
import {
  ANSWER_BYTES_MAX,
  BUCKET_GROUP_PEERS_MAX,
  PEER_TOKENS_MAX,
  RECORD_BYTES_MAX,
  TABLE_GROUP_PEERS_MAX,
} from './limits.ts'
import { createKadRecord, recordKey } from './record.ts'

const NOW = 1_700_000_000_000
const HOUR_MS = 3_600_000
const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)

type Bench = {
  readonly fabric: MemoryFabric
  readonly random: Random
  readonly clock: ManualClock
  node(address: string, over?: Partial<KadNodeOptions>): Promise<KadNode>
  attacker(
    address: string,
    over?: { readonly identity?: NodeIdentity; readonly answer?: (type: number) => Uint8Array | undefined },
  ): ReturnType<typeof startAttacker>
}

function bench(t: TestContext, seed: number): Bench {
  const fabric = createMemoryFabric()
  const random = seededRandom(seed)
  const clock = new ManualClock(NOW)
  return {
    fabric,
    random,
    clock,
    node: async (host, over = {}) => {
      const memory = { network: fabric, address: `/ip4/${host}/tcp/1` }
      const node = await startKadNode({ random, clock, memory, ...over })
      t.after(() => node.stop())
      return node
    },
    attacker: async (host, over = {}) => {
      const attacker = await startAttacker({ random, fabric, address: `/ip4/${host}/tcp/1`, ...over })
      t.after(() => attacker.libp2p.stop())
      return attacker
    },
  }
}

/** A signed record of somebody who has no node. */
async function signed(identity: NodeIdentity, sequence: number): Promise<Uint8Array> {
  const value = Uint8Array.of(sequence)
  return await createKadRecord(identity.provider, { kind: 'peer', sequence, expiresAt: NOW + HOUR_MS, value })
}

const putOf = (key: string, bytes: Uint8Array): Uint8Array =>
  encodeMessage({
    type: TYPES.putValue,
    key: utf8(key),
    record: encodeLibp2pRecord({ key: utf8(key), value: bytes }, NOW),
  })

const answerWith = (key: string, bytes: Uint8Array): Uint8Array =>
  encodeMessage({
    type: TYPES.getValue,
    key: utf8(key),
    record: encodeLibp2pRecord({ key: utf8(key), value: bytes }, NOW),
  })

test('roll-back: a server does not take an older record, and says so by resetting the stream', async t => {
  const b = bench(t, 11)
  const server = await b.node('198.51.100.1')
  const attacker = await b.attacker('203.0.113.1')
  const owner = await createNodeIdentity(b.random)
  const key = recordKey('peer', owner.peer)
  const [target = ''] = server.addresses
  assert.notEqual(await attacker.ask(target, putOf(key, await signed(owner, 2))), undefined)
  assert.equal(await attacker.ask(target, putOf(key, await signed(owner, 1))), undefined)
  assert.equal(server.kad.status().records, 1)
  const client = await b.node('198.51.100.2')
  await client.kad.bootstrap(server.addresses)
  assert.equal((await client.kad.get(key)).sequence, 2)
})

test('roll-back: a client that has seen a number takes no older one, whoever answers', async t => {
  const b = bench(t, 12)
  const owner = await createNodeIdentity(b.random)
  const key = recordKey('peer', owner.peer)
  const older = await signed(owner, 1)
  const newer = await signed(owner, 2)
  let says = newer
  const attacker = await b.attacker('203.0.113.1', {
    answer: type => (type === TYPES.getValue ? answerWith(key, says) : encodeMessage({ type })),
  })
  const client = await b.node('198.51.100.1')
  await client.kad.bootstrap([attacker.address])
  assert.equal((await client.kad.get(key)).sequence, 2)
  says = older
  await assert.rejects(client.kad.get(key), { code: 'KAD_NOT_FOUND' })
  await assert.rejects(client.kad.put(older), { code: 'KAD_RECORD_ROLLBACK' })
})

test('roll-back: the latest of several answers counts, and who held an older one is sent it', async t => {
  const b = bench(t, 13)
  const owner = await createNodeIdentity(b.random)
  const key = recordKey('peer', owner.peer)
  const stale = await b.node('198.51.100.1')
  const fresh = await b.node('198.51.101.1')
  const writer = await b.attacker('203.0.113.1')
  await writer.ask(stale.addresses[0] ?? '', putOf(key, await signed(owner, 1)))
  await writer.ask(fresh.addresses[0] ?? '', putOf(key, await signed(owner, 5)))
  const client = await b.node('198.51.102.1')
  await client.kad.bootstrap([...stale.addresses, ...fresh.addresses])
  assert.equal((await client.kad.get(key)).sequence, 5)
  const reader = await b.attacker('203.0.113.2')
  for (let tries = 0; tries < 100; tries++) {
    const said = await reader.ask(stale.addresses[0] ?? '', encodeMessage({ type: TYPES.getValue, key: utf8(key) }))
    if (said !== undefined && Buffer.from(said).includes(Buffer.from(await signed(owner, 5)))) return
  }
  assert.fail('the stale holder was not corrected')
})

test('poisoning: a wrong signature, a wrong key, garbage and too much are neither stored nor believed', async t => {
  const b = bench(t, 14)
  const owner = await createNodeIdentity(b.random)
  const other = await createNodeIdentity(b.random)
  const key = recordKey('peer', owner.peer)
  const good = await signed(owner, 1)
  const broken = good.slice()
  broken[broken.byteLength - 1] = (broken.at(-1) ?? 0) ^ 1
  const bad = [
    broken,
    await signed(other, 9),
    b.random.bytes(200),
    new Uint8Array(RECORD_BYTES_MAX + 1),
    new Uint8Array(),
  ]
  const server = await b.node('198.51.100.1')
  let says: Uint8Array = broken
  const attacker = await b.attacker('203.0.113.1', {
    answer: type => (type === TYPES.getValue ? answerWith(key, says) : encodeMessage({ type })),
  })
  const client = await b.node('198.51.101.1')
  await client.kad.bootstrap([attacker.address])
  for (const bytes of bad) {
    assert.equal(await attacker.ask(server.addresses[0] ?? '', putOf(key, bytes)), undefined)
    says = bytes
    await assert.rejects(client.kad.get(key), { code: 'KAD_NOT_FOUND' })
  }
  // The library's own kind of record: a public key under /pk/ would be stored without a bound.
  const publicKey = concat(utf8('/pk/'), Uint8Array.of(0x12, 0x20), pointOf('x'))
  const record = encodeLibp2pRecord({ key: publicKey, value: Uint8Array.of(1) }, NOW)
  const put = encodeMessage({ type: TYPES.putValue, key: publicKey, record })
  assert.equal(await attacker.ask(server.addresses[0] ?? '', put), undefined)
  assert.equal(server.kad.status().records, 0)
  says = good
  assert.equal((await client.kad.get(key)).sequence, 1)
})

function concat(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts))
}

test('Sybil: of one /24 only so many ids enter the table, however many there are', async t => {
  const b = bench(t, 15)
  const victim = await b.node('198.51.100.1')
  for (let i = 1; i <= 12; i++) {
    const attacker = await b.attacker(`203.0.113.${i}`)
    await victim.kad.bootstrap([attacker.address], { rounds: 1 }).catch(() => undefined)
  }
  // A table that has not been split is one bucket.
  assert.equal(victim.kad.status().peers, BUCKET_GROUP_PEERS_MAX)
  for (let i = 1; i <= 4; i++) {
    const honest = await b.node(`192.0.${i + 10}.1`)
    assert.equal(await victim.kad.bootstrap(honest.addresses, { rounds: 1 }), 1)
  }
  assert.equal(victim.kad.status().peers, BUCKET_GROUP_PEERS_MAX + 4)
})

test('eclipse: of one /24 only so many enter a bucket and the whole table, and others still find room', async t => {
  const b = bench(t, 16)
  const kad = { bucketSize: 6, prefixBits: 1 }
  const victim = await b.node('198.51.100.1', { kad })
  // Ids of the attacker's choice, all in one half of the table, as an eclipse needs them.
  const half = (identity: NodeIdentity): number => (pointOf(multihashOf(identity))[0] ?? 0) >> 7
  const inHalf = async (wanted: number): Promise<NodeIdentity> => {
    for (;;) {
      const identity = await createNodeIdentity(b.random)
      if (half(identity) === wanted) return identity
    }
  }
  // Honest peers of many networks fill the root bucket, so that it splits.
  for (let i = 0; i < 7; i++) {
    const honest = await b.attacker(`192.0.${i + 10}.1`, { identity: await inHalf(i < 4 ? 0 : 1) })
    await victim.kad.bootstrap([honest.address], { rounds: 1 })
  }
  assert.equal(victim.kad.status().buckets, 2)
  for (const [attempt, wanted] of [0, 0, 0, 0, 1, 1, 1].entries()) {
    const attacker = await b.attacker(`203.0.113.${attempt + 1}`, { identity: await inHalf(wanted) })
    await victim.kad.bootstrap([attacker.address], { rounds: 1 }).catch(() => undefined)
  }
  // Two in the half that was to be eclipsed, and one more in the table.
  assert.equal(victim.kad.status().peers, 7 + TABLE_GROUP_PEERS_MAX)
  assert(BUCKET_GROUP_PEERS_MAX < TABLE_GROUP_PEERS_MAX)
})

function multihashOf({ privateKey }: NodeIdentity): Uint8Array {
  return privateKey.publicKey.toMultihash().bytes
}

test('a gate that says no: nobody enters the table, and requests are not answered', async t => {
  const b = bench(t, 17)
  const closed = await b.node('198.51.100.1', { gate: { mayRoute: () => false, isAdmitted: () => false } })
  const attacker = await b.attacker('203.0.113.1')
  const before = b.fabric.dials
  await assert.rejects(closed.kad.bootstrap([attacker.address], { rounds: 1 }), { code: 'KAD_BOOTSTRAP_FAILED' })
  assert.equal(b.fabric.dials, before, 'a peer that may not route is not even dialled')
  const find = encodeMessage({ type: TYPES.findNode, key: utf8('x') })
  assert.equal(await attacker.ask(closed.addresses[0] ?? '', find), undefined)
  assert.equal(closed.kad.status().peers, 0)
})

test('a peer that asks too much is refused, and others are not', async t => {
  const b = bench(t, 18)
  const server = await b.node('198.51.100.1')
  const [greedy, other] = [await b.attacker('203.0.113.1'), await b.attacker('203.0.114.1')]
  const [target = ''] = server.addresses
  const find = encodeMessage({ type: TYPES.findNode, key: utf8('x') })
  let answered = 0
  while (answered <= PEER_TOKENS_MAX && (await greedy.ask(target, find)) !== undefined) answered++
  assert(answered < PEER_TOKENS_MAX && answered > PEER_TOKENS_MAX / 2, `${answered} answers`)
  assert.notEqual(await other.ask(target, find), undefined)
  b.clock.advance(1_000)
  assert.notEqual(await greedy.ask(target, find), undefined)
})

test('an answer that is too long is cut off, and thousands of invented peers are not followed', async t => {
  const b = bench(t, 19)
  const invented: WirePeer[] = []
  for (let i = 0; i < 600; i++) {
    const { peer } = await createNodeIdentity(b.random)
    invented.push({ peer, addresses: [`/ip4/192.0.2.${i % 250}/tcp/${i + 1}`] })
  }
  let closer: readonly WirePeer[] = invented
  const attacker = await b.attacker('203.0.113.1', {
    answer: type => encodeMessage({ type, ...(type === TYPES.findNode ? { closer } : {}) }),
  })
  const client = await b.node('198.51.100.1')
  await client.kad.bootstrap([attacker.address])
  const found = await client.kad.closestPeers('/koinon/x')
  assert.deepEqual(
    found.map(({ peer }) => peer),
    [attacker.identity.peer],
  )
  assert.equal(client.kad.status().peers, 1)
  const tooLong = {
    peer: attacker.identity.peer,
    addresses: Array.from({ length: 7_000 }, () => '/ip4/192.0.2.1/tcp/1'),
  }
  closer = [tooLong]
  assert(encodeMessage({ type: TYPES.findNode, closer }).byteLength > ANSWER_BYTES_MAX)
  assert.deepEqual(await client.kad.closestPeers('/koinon/y'), [])
})

test('random bytes and mutated messages crash nothing and change nothing', async t => {
  const seed = 20
  t.diagnostic(`seed ${seed}`)
  const b = bench(t, seed)
  const kad = { rate: { tokensMax: 1e6, perSecond: 1e6 }, timeoutMs: 250 }
  const server = await b.node('198.51.100.1', { kad })
  const owner = await createNodeIdentity(b.random)
  const attacker = await b.attacker('203.0.113.1')
  const [target = ''] = server.addresses
  const key = recordKey('peer', owner.peer)
  // A signature that holds would be a record whatever else is changed: of a kind that is not used, it is none.
  const content = { kind: 'unused', sequence: 1, expiresAt: NOW + HOUR_MS, value: new Uint8Array(20) }
  const whole = [
    putOf(recordKey('unused', owner.peer), await createKadRecord(owner.provider, content)),
    encodeMessage({
      type: TYPES.findNode,
      key: utf8('x'),
      closer: [{ peer: owner.peer, addresses: ['/ip4/1.2.3.4/tcp/5'] }],
    }),
    encodeMessage({ type: TYPES.getProviders, key: concat(Uint8Array.of(0x12, 0x20), pointOf('x')) }),
    encodeMessage({ type: TYPES.addProvider, key: concat(Uint8Array.of(0x12, 0x20), pointOf('x')) }),
  ]
  const mangled = Array.from({ length: 400 }, (_, i) => {
    const bytes = i % 3 === 0 ? b.random.bytes(b.random.uint32() % 200) : (whole[i % whole.length] ?? whole[0])?.slice()
    assert(bytes !== undefined)
    for (let n = 1 + (b.random.uint32() % 8); n > 0 && bytes.byteLength > 0; n--) {
      bytes[b.random.uint32() % bytes.byteLength] = b.random.uint32() & 0xff
    }
    return bytes.subarray(0, Math.max(1, bytes.byteLength - (b.random.uint32() % 4)))
  })
  for (let i = 0; i < mangled.length; i += 10) {
    await Promise.all(mangled.slice(i, i + 10).map(bytes => attacker.ask(target, bytes)))
  }
  assert.equal(server.kad.status().records, 0)
  assert(server.kad.status().peers <= 1, 'nobody but the attacker itself, who answers pings')
  assert.notEqual(await attacker.ask(target, putOf(key, await signed(owner, 1))), undefined)
  assert.equal(server.kad.status().records, 1)
})
