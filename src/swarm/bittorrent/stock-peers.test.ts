import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { test, type TestContext } from 'node:test'
import { concatBytes, ManualClock, seededRandom, silentLogger, systemClock } from '#base'
import type { WireFault } from '../wire/errors.ts'
import { isFault } from '../wire/faults.ts'
import { HANDSHAKE_TIMEOUT_MS } from '../wire/limits.ts'
import type { PeerSession } from '../wire/types.ts'
import { dhtOfMainline } from './dht.ts'
import { hostGroup, plainHost } from './host-group.ts'
import { createStockPeers, type StockDeps, type StockOptions, type StockPeers } from './stock-peers.ts'

const INFO_HASH = new Uint8Array(20).fill(8)
const HOST = '127.0.0.1'

type Made = { readonly peers: StockPeers; readonly sessions: PeerSession[]; readonly faults: string[]; port: number }

async function made(
  t: TestContext,
  own: Partial<StockDeps> & Partial<StockOptions> & { seed?: number } = {},
): Promise<Made> {
  const sessions: PeerSession[] = []
  const faults: string[] = []
  const deps: StockDeps = {
    clock: systemClock,
    logger: silentLogger,
    random: seededRandom(own.seed ?? 1),
    find: infoHash => (Buffer.compare(infoHash, INFO_HASH) === 0 ? { says: {} } : undefined),
    isBanned: () => false,
    ...own,
  }
  const peers = createStockPeers(deps, {
    host: HOST,
    port: 0,
    onSession: session => sessions.push(session),
    onFault: ({ code, blame }) => faults.push(`${code} ${blame}`),
    ...own,
  })
  t.after(() => peers.stop())
  return { peers, sessions, faults, port: await peers.listen() }
}

function dial(from: Made, to: Made, infoHash = INFO_HASH): Promise<PeerSession | WireFault> {
  return from.peers.dial({ host: HOST, port: to.port, infoHash, says: {} })
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(resolve => setImmediate(resolve))
}

/** A bare connection. */
async function socketTo(
  { port }: Made,
  bytes: Uint8Array,
): Promise<{ readonly socket: Socket; readonly closed: Promise<void> }> {
  const socket = connect({ host: HOST, port })
  const closed = new Promise<void>(resolve => socket.once('close', () => resolve()))
  socket.on('error', () => undefined)
  await new Promise(resolve => socket.once('connect', resolve))
  socket.resume()
  socket.write(bytes)
  return { socket, closed }
}

test('two of ours meet as stock clients do and exchange messages', async t => {
  const [a, b] = [await made(t, { seed: 1 }), await made(t, { seed: 2 })]
  const session = await dial(a, b)
  assert.ok(!isFault(session))
  await until(() => b.sessions.length === 1)
  const [other] = b.sessions
  assert.ok(other !== undefined)
  assert.deepEqual([session.party, session.kind, session.requestBytesMax], [`bt:${HOST}`, 'bittorrent', 16_384])
  const got: string[] = []
  other.onMessage = ({ kind }) => got.push(kind)
  session.start()
  other.start()
  session.send({ kind: 'have-none' })
  await until(() => got.length === 2)
  assert.deepEqual(got, ['extended-handshake', 'have-none'])
  let ended = false
  other.onEnd = () => {
    ended = true
  }
  session.close()
  await until(() => ended && a.peers.facts.connections === 0 && b.peers.facts.connections === 0)
  assert.ok(other.end?.kind === 'closed' && other.end.by === 'peer')
})

test('a connection to ourselves is noticed', async t => {
  const a = await made(t)
  const outcome = await dial(a, a)
  assert.ok(isFault(outcome) && outcome.code === 'SWARM_SELF')
  await until(() => a.peers.facts.connections === 0)
})

test('a torrent that is not here, and what is no handshake, end the connection; encryption is no offence', async t => {
  const [a, b] = [await made(t, { seed: 1 }), await made(t, { seed: 2 })]
  const outcome = await dial(a, b, new Uint8Array(20))
  assert.ok(isFault(outcome) && outcome.code === 'SWARM_LOST')
  const { closed } = await socketTo(b, new Uint8Array(100).fill(0xaa))
  await closed
  assert.deepEqual(b.faults, ['SWARM_UNKNOWN_MODEL nobody', 'SWARM_MALFORMED nobody'])
})

test('whoever says nothing is cut off', async t => {
  const clock = new ManualClock()
  const a = await made(t, { clock })
  const { closed } = await socketTo(a, Uint8Array.of(19))
  await until(() => a.peers.facts.handshakes === 1)
  clock.advance(HANDSHAKE_TIMEOUT_MS)
  await closed
  assert.deepEqual(a.faults, ['SWARM_TIMEOUT nobody'])
})

test('connections of one host, handshakes and connections in all have their bounds', async t => {
  for (const limit of ['connectionsAHostMax', 'handshakesMax', 'connectionsMax'] as const) {
    const a = await made(t, { [limit]: 2 })
    await socketTo(a, Uint8Array.of(19))
    await socketTo(a, Uint8Array.of(19))
    await until(() => a.peers.facts.connections === 2)
    const third = await socketTo(a, Uint8Array.of(19))
    await third.closed
    assert.equal(a.peers.facts.connections, 2, limit)
    const outcome = await dial(a, a)
    assert.ok(isFault(outcome) && outcome.code === 'SWARM_BUSY')
  }
})

test('banned hosts are neither heard nor dialled', async t => {
  const [a, b] = [await made(t, { seed: 1 }), await made(t, { seed: 2, isBanned: host => host === HOST })]
  const { closed } = await socketTo(b, concatBytes([Uint8Array.of(19)]))
  await closed
  assert.ok(isFault(await dial(b, a)))
  assert.deepEqual([b.peers.facts.connections, b.faults], [0, []])
})

test('an address where nobody listens, a name, and a dial that was given up', async t => {
  const [a, b] = [await made(t, { seed: 1 }), await made(t, { seed: 2 })]
  await b.peers.stop()
  assert.ok(isFault(await dial(a, b)))
  assert.ok(isFault(await a.peers.dial({ host: 'localhost', port: a.port, infoHash: INFO_HASH, says: {} })))
  const signal = AbortSignal.abort()
  assert.ok(isFault(await a.peers.dial({ host: HOST, port: a.port, infoHash: INFO_HASH, says: {}, signal })))
})

test('an IPv6 network counts as one host', () => {
  assert.equal(plainHost('::ffff:192.0.2.1'), '192.0.2.1')
  assert.equal(hostGroup('192.0.2.1'), '192.0.2.1')
  assert.equal(hostGroup('2001:db8:0:1::5'), hostGroup('2001:DB8::1:9:9:9:9'))
  assert.notEqual(hostGroup('2001:db8:0:1::5'), hostGroup('2001:db8:0:2::5'))
})

test('the Mainline node announces and finds for the swarm', async () => {
  const announced: number[] = []
  const dht = dhtOfMainline({
    announce: (_infoHash, port) => Promise.resolve(announced.push(port)),
    async *getPeers() {
      yield await Promise.resolve({ host: '192.0.2.1', port: 5 })
    },
  })
  await dht.announce(INFO_HASH, 6881)
  const found: unknown[] = []
  for await (const endpoint of dht.getPeers(INFO_HASH)) found.push(endpoint)
  assert.deepEqual([announced, found], [[6881], [{ host: '192.0.2.1', port: 5 }]])
})
