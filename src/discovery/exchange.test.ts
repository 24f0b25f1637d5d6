/** The exchange over streams in memory: what it carries, what it costs, and what hostile peers get for it. */
import assert from 'node:assert/strict'
import { encode } from '@ipld/dag-cbor'
import { test } from 'node:test'
import { type ByteStream, createStreamPair, ManualClock, seededRandom, silentLogger } from '#base'
import { ed25519Signer } from '#crypto'
import { createPeerRecord, identityOfSecret, type NodeIdentity } from '#identity'
import { withLengthPrefix } from '#wire'
import { exchange, type Exchanged } from './exchange.ts'
import { decodeHello, decodePeers, encodeHello, encodePeers, type ToldPeer } from './exchange-messages.ts'
import { Exchanger } from './exchanger.ts'
import { isFault, type PeerFault } from './errors.ts'
import { stableIdOf } from './keys.ts'
import { createKnownFilter, FILTER_SALT_BYTES, isKnownTo } from './known-filter.ts'
import { KnownPeers } from './known-peers.ts'
import { EXCHANGE_BURST_MAX, EXCHANGE_HELLO_BYTES_MAX, EXCHANGE_PEERS_BYTES_MAX } from './limits.ts'

const NOW = 1_700_000_000_000
const TOPIC = 'koinon-mesh'
const clock = new ManualClock(NOW)
const random = seededRandom(11)
const identity = (): NodeIdentity => identityOfSecret({ kind: 'seed', seed: random.bytes(32) }, 'file')

type Party = { readonly self: NodeIdentity; readonly peers: KnownPeers; readonly deps: Parameters<typeof exchange>[0] }

function party(over: { readonly wantsRecords?: boolean; readonly topic?: string } = {}): Party {
  const self = identity()
  const { wantsRecords = false, topic = TOPIC } = over
  const peers = new KnownPeers({ clock, self: self.peer }, { topic })
  const { publicKey } = self.provider
  return {
    self,
    peers,
    deps: {
      clock,
      random,
      identity: () => ({
        publicKey,
        nodeType: 'public',
        isRelay: true,
        topic,
        wantsRecords,
        dhtNodeId: random.bytes(20),
      }),
      known: () => peers.all(),
      connected: () => new Set(),
    },
  }
}

async function meet(a: Party, b: Party): Promise<[Exchanged | PeerFault, Exchanged | PeerFault]> {
  const [left, right] = createStreamPair('/koinon/exchange/1', { a: a.self.peer, b: b.self.peer })
  const { signal } = new AbortController()
  return Promise.all([exchange(a.deps, left, { signal }), exchange(b.deps, right, { signal })])
}

function good(outcome: Exchanged | PeerFault): Exchanged {
  if (isFault(outcome)) assert.fail(outcome.what)
  return outcome
}

const tellOf = (publicKey: Uint8Array): ToldPeer => ({
  publicKey,
  isRelay: false,
  ageMs: 1_000,
  dhtNodeId: random.bytes(20),
})
const keys = (count: number): Uint8Array[] =>
  Array.from({ length: count }, () => ed25519Signer(random.bytes(32)).publicKey)

test('both learn who the other is, and up to 50 peers that they lack, within 5 KiB and 5 KiB', async () => {
  const [a, b] = [party(), party()]
  const shared = keys(40)
  for (const key of shared) {
    a.peers.told({ ...tellOf(key), lastSeen: NOW }, 'x')
    b.peers.told({ ...tellOf(key), lastSeen: NOW }, 'x')
  }
  const onlyA = keys(70)
  for (const key of onlyA) a.peers.told({ ...tellOf(key), lastSeen: NOW }, 'x')
  const [left, right] = (await meet(a, b)).map(good)
  assert.ok(left !== undefined && right !== undefined)
  assert.deepEqual(right.hello.publicKey, a.self.provider.publicKey)
  assert.deepEqual([right.hello.isRelay, right.hello.nodeType, right.told.length], [true, 'public', 50])
  assert.equal(left.told.length, 0, 'the filter keeps away who is known')
  const wanted = new Set(onlyA.map(String))
  assert.ok(right.told.every(({ publicKey }) => wanted.has(String(publicKey))))
  assert.ok(right.receivedBytes <= EXCHANGE_HELLO_BYTES_MAX + EXCHANGE_PEERS_BYTES_MAX, String(right.receivedBytes))
  assert.ok(right.receivedBytes / 51 < 110, `${right.receivedBytes / 51} bytes a peer`)
})

test('records travel where they are wanted, as many as fit', async () => {
  const [a, b] = [party(), party({ wantsRecords: true })]
  for (let i = 0; i < 30; i++) {
    const { provider } = identity()
    const addresses = [`/ip4/10.0.0.${i}/tcp/4001`]
    const bytes = await createPeerRecord(provider, { sequence: 1, addresses, expiresAt: NOW + 1e6 })
    const record = { bytes, sequence: 1, addresses, expiresAt: NOW + 1e6 }
    a.peers.told({ ...tellOf(provider.publicKey), lastSeen: NOW, record }, 'x')
  }
  a.peers.told({ ...tellOf(keys(1)[0] ?? assert.fail()), lastSeen: NOW }, 'x')
  const [, right] = (await meet(a, b)).map(good)
  const told = right?.told ?? []
  assert.ok(told.length > 10 && told.length < 30, `${told.length} peers`)
  assert.ok(told.every(({ record }) => record?.addresses[0]?.startsWith('/ip4/10.0.0.') === true))
  assert.ok((right?.receivedBytes ?? 1e9) <= EXCHANGE_HELLO_BYTES_MAX + EXCHANGE_PEERS_BYTES_MAX)
})

test('nodes of another topic tell each other of nobody', async () => {
  const [a, b] = [party(), party({ topic: 'elsewhere' })]
  for (const key of keys(5)) a.peers.told({ ...tellOf(key), lastSeen: NOW }, 'x')
  const [left, right] = (await meet(a, b)).map(good)
  assert.deepEqual([left?.told, right?.told, left?.sentPeers], [[], [], 0])
})

test('a filter knows its keys, and few others, with one salt or another', () => {
  const known = keys(300)
  const filter = createKnownFilter(known, random.bytes(FILTER_SALT_BYTES))
  assert.ok(known.every(key => isKnownTo(filter, key)))
  const mistaken = keys(1_000).filter(key => isKnownTo(filter, key))
  assert.ok(mistaken.length < 40, `${mistaken.length} of 1000`)
  const salted = createKnownFilter(known, random.bytes(FILTER_SALT_BYTES))
  assert.ok(mistaken.filter(key => isKnownTo(salted, key)).length < 5)
})

const filter = { salt: new Uint8Array(8), bits: new Uint8Array(8) }
const helloOf = (self: NodeIdentity): Uint8Array =>
  encodeHello({
    publicKey: self.provider.publicKey,
    nodeType: 'public',
    isRelay: false,
    topic: TOPIC,
    filter,
    wantsRecords: false,
  })

/** What our side says of a peer that sends this. */
async function outcomeOf(self: NodeIdentity, sends: (stream: ByteStream) => void): Promise<Exchanged | PeerFault> {
  const us = party()
  const [ours, theirs] = createStreamPair('/koinon/exchange/1', { a: us.self.peer, b: self.peer })
  sends(theirs)
  await theirs.close()
  return exchange(us.deps, ours, { signal: new AbortController().signal })
}

test('wrong ids, wrong types, too much and too early are the fault of who sends them', async () => {
  const self = identity()
  const other = identity()
  const [key = assert.fail()] = keys(1)
  const entry = { k: key, r: false, s: 1 }
  const list = (peers: readonly unknown[]): Uint8Array => withLengthPrefix(encode({ peers }))
  const hello = withLengthPrefix(helloOf(self))
  const base = { key: self.provider.publicKey, id: stableIdOf(self.provider.publicKey), type: 'public', relay: false }
  const rest = { topic: TOPIC, salt: filter.salt, known: filter.bits, records: false }
  const send = (body: object): Uint8Array => withLengthPrefix(encode({ ...base, ...rest, ...body }))
  const foreign = await createPeerRecord(other.provider, { sequence: 1, addresses: [], expiresAt: NOW + 1e6 })
  const endless = await createPeerRecord(self.provider, { sequence: 1, addresses: [], expiresAt: NOW + 1e12 })
  const cases: readonly [string, PeerFault['code'], readonly Uint8Array[]][] = [
    ['nothing', 'DISCOVERY_MALFORMED', []],
    ['half a message', 'DISCOVERY_MALFORMED', [hello.subarray(0, 30)]],
    ['no list', 'DISCOVERY_MALFORMED', [hello]],
    ["another peer's key", 'DISCOVERY_IDENTITY', [withLengthPrefix(helloOf(other))]],
    ['a stable id of another', 'DISCOVERY_IDENTITY', [send({ id: stableIdOf(other.provider.publicKey) })]],
    ['a type that is none', 'DISCOVERY_MALFORMED', [send({ type: 'both' })]],
    ['a filter that is too long', 'DISCOVERY_MALFORMED', [send({ known: new Uint8Array(4_000) })]],
    ['an empty filter', 'DISCOVERY_MALFORMED', [send({ known: new Uint8Array(0) })]],
    ['a topic that is too long', 'DISCOVERY_MALFORMED', [send({ topic: 'x'.repeat(65) })]],
    ["another peer's record", 'DISCOVERY_RECORD', [send({ record: foreign })]],
    ['a record for ever', 'DISCOVERY_RECORD', [send({ record: endless })]],
    ['a length beyond the bound', 'DISCOVERY_MALFORMED', [Uint8Array.of(0xff, 0xff, 0xff, 0xff)]],
    ['no dag-cbor', 'DISCOVERY_MALFORMED', [withLengthPrefix(random.bytes(100))]],
    ['51 peers', 'DISCOVERY_MALFORMED', [hello, list(Array.from({ length: 51 }, () => entry))]],
    ['a key that is short', 'DISCOVERY_MALFORMED', [hello, list([{ ...entry, k: key.subarray(1) }])]],
    ['a record of another', 'DISCOVERY_RECORD', [hello, list([{ ...entry, p: foreign }])]],
    ['an age below 0', 'DISCOVERY_MALFORMED', [hello, list([{ ...entry, s: -1 }])]],
    ['peers that are none', 'DISCOVERY_MALFORMED', [hello, list([7, null, 'x'])]],
  ]
  for (const [what, code, pieces] of cases) {
    const outcome = await outcomeOf(self, stream => pieces.forEach(piece => void stream.send(piece)))
    assert.equal('code' in outcome ? outcome.code : 'none', code, what)
  }
  const outcome = await outcomeOf(self, stream => void stream.sendParts([hello, list([entry])]))
  assert.equal(good(outcome).told.length, 1)
})

test('no change of a byte makes the decoders throw', () => {
  const self = identity()
  const whole = helloOf(self)
  const { bytes: list } = encodePeers(keys(3).map(tellOf))
  for (let run = 0; run < 2_000; run++) {
    const [hello, peers] = [whole.slice(), list.slice()]
    hello[random.uint32() % hello.byteLength] = random.uint32() & 255
    peers[random.uint32() % peers.byteLength] = random.uint32() & 255
    decodeHello(hello, self.peer, NOW)
    decodePeers(peers, NOW)
  }
})

test('who begins too many exchanges is told of as a flood, and refused', async () => {
  const us = party()
  const faults: string[] = []
  const exchanger = new Exchanger({
    ...us.deps,
    log: silentLogger,
    host: { open: () => assert.fail('not opened here') },
    peers: us.peers,
    onFault: (_peer, { code }) => void faults.push(code),
    onExchanged: () => undefined,
  })
  const them = party()
  for (let i = 0; i < EXCHANGE_BURST_MAX + 3; i++) {
    const [ours, theirs] = createStreamPair('/koinon/exchange/1', { a: us.self.peer, b: them.self.peer })
    const served = exchanger.serve(ours)
    await exchange(them.deps, theirs, { signal: new AbortController().signal }).catch(() => undefined)
    await served
  }
  assert.deepEqual(
    faults,
    Array.from({ length: 3 }, () => 'DISCOVERY_FLOOD'),
  )
  await exchanger.stop()
  assert.equal(exchanger.running, 0)
})
