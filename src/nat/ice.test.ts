import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test, type TestContext } from 'node:test'
import { seededRandom, silentLogger, systemClock, systemRandom, toHex } from '#base'
import { startTurnServer, turnServerMissing } from '../../test/support/turn-server.ts'
import { createIceAgent, type IceAgent, type IceOptions, type IcePath } from './ice.ts'
import { type IceDescription, parseIceDescription } from './ice-description.ts'
import { IceGuard } from './ice-guard.ts'
import { ICE_CANDIDATES_MAX, ICE_CHECKS_BURST_MAX, ICE_DATAGRAM_BYTES_MAX } from './limits.ts'
import { encodeStun, type StunEncoding } from './stun/codec.ts'
import { createStunServer } from './stun/server.ts'
import { openUdp } from './udp.ts'

const DEPS = { clock: systemClock, random: systemRandom, log: silentLogger, openUdp }

async function agentPair(t: TestContext, options: Omit<IceOptions, 'role'>): Promise<[IceAgent, IceAgent]> {
  const pair = await Promise.all([
    createIceAgent(DEPS, { hostAddresses: ['127.0.0.1'], ...options, role: 'controlling' }),
    createIceAgent(DEPS, { hostAddresses: ['127.0.0.1'], ...options, role: 'controlled' }),
  ])
  t.after(() => Promise.all(pair.map(agent => agent.close())))
  return pair
}

async function connected(a: IceAgent, b: IceAgent): Promise<[IcePath, IcePath]> {
  const [ofA, ofB] = await Promise.all([a.gather(), b.gather()])
  // As it would come from a peer: text.
  const heard = (description: IceDescription): unknown => JSON.parse(JSON.stringify(description))
  return Promise.all([a.connect(heard(ofB)), b.connect(heard(ofA))])
}

/** Sends until one arrives: datagrams may be lost. */
async function crosses(from: IcePath, to: IcePath, bytes: Uint8Array): Promise<void> {
  const arrived = new Promise<Uint8Array>(resolve => to.onMessage(resolve))
  const resend = (): void => {
    from.send(bytes)
    cancel = systemClock.after(100, resend)
  }
  let cancel = (): void => undefined
  resend()
  assert.deepEqual(new Uint8Array(await arrived), bytes)
  cancel()
}

test('two agents on loopback connect, and datagrams cross both ways', async t => {
  const [a, b] = await agentPair(t, {})
  const [pathA, pathB] = await connected(a, b)
  assert.equal(pathA.selected.kind, 'host')
  assert.deepEqual(pathA.selected.remote, pathB.selected.local)
  await crosses(pathA, pathB, systemRandom.bytes(ICE_DATAGRAM_BYTES_MAX).fill(0x80, 0, 1))
  await crosses(pathB, pathA, Uint8Array.of(0x81))
  assert.throws(() => pathA.send(new Uint8Array(ICE_DATAGRAM_BYTES_MAX + 1)), { code: 'NAT_DATAGRAM_SIZE' })
  await a.close()
  await pathA.closed
  assert.equal(pathA.send(Uint8Array.of(0x81)), false)
})

test('all STUN servers are asked, one that is silent among them, and what they see is told once', async t => {
  const sockets = await Promise.all([1, 2, 3].map(() => openUdp({ address: '127.0.0.1' })))
  const servers = sockets.slice(0, 2).map(first => createStunServer({ clock: systemClock, sockets: { first } }))
  // A request that is late is sent again, with the same transaction id: bytes 8 to 19.
  const asked = sockets.map(socket => {
    const ids = new Set<string>()
    socket.onMessage(bytes => void ids.add(toHex(bytes.slice(8, 20))))
    return ids
  })
  t.after(async () => {
    for (const server of servers) server.close()
    await Promise.all(sockets.map(socket => socket.close()))
  })
  // With an address that no packet comes from, the servers see another one than the candidate.
  const agent = await createIceAgent(DEPS, {
    role: 'controlling',
    hostAddresses: ['127.0.0.9'],
    stunServers: sockets.map(socket => socket.local),
  })
  t.after(() => agent.close())
  const { candidates } = await agent.gather()
  assert.deepEqual(
    candidates.map(({ type, address }) => [type, address]),
    [
      ['host', '127.0.0.9'],
      ['srflx', '127.0.0.1'],
    ],
  )
  assert.equal(candidates[0]?.port, candidates[1]?.port)
  assert.deepEqual(
    asked.map(ids => ids.size),
    [1, 1, 1],
  )
  assert.ok(servers.every(server => server.counts.answered > 0))
})

test('through a TURN server alone two agents connect, and it is told when they leave', {
  skip: turnServerMissing(),
}, async t => {
  const turn = await startTurnServer(t)
  const [a, b] = await agentPair(t, { isRelayOnly: true, turn })
  const offer = a.gather()
  assert.deepEqual([...new Set((await offer).candidates.map(candidate => candidate.type))], ['relay'])
  const answer = await b.gather()
  const [pathA, pathB] = await Promise.all([a.connect(answer), b.connect(await offer)])
  assert.equal(pathA.selected.kind, 'relay')
  assert.equal(pathB.selected.kind, 'relay')
  await crosses(pathA, pathB, systemRandom.bytes(ICE_DATAGRAM_BYTES_MAX).fill(0x80, 0, 1))
  await crosses(pathB, pathA, Uint8Array.of(0x81))
  await Promise.all([a.close(), b.close()])
  await turn.allocationsEnded(2)
})

test('a TURN server that does not answer is left out', async t => {
  const silent = await openUdp({ address: '127.0.0.1' })
  t.after(() => silent.close())
  const [agent] = await agentPair(t, {
    isRelayOnly: true,
    turn: { server: silent.local, username: 'u', password: 'p' },
  })
  assert.deepEqual((await agent.gather()).candidates, [])
})

test('calls in another order, and after the end, are refused', async t => {
  const [agent] = await agentPair(t, {})
  await assert.rejects(agent.connect({}), { code: 'NAT_ICE_STATE' })
  await agent.gather()
  await assert.rejects(agent.gather(), { code: 'NAT_ICE_STATE' })
  await assert.rejects(agent.connect({ ufrag: 'x' }), { code: 'NAT_ICE_DESCRIPTION_INVALID' })
  await assert.rejects(agent.connect({}), { code: 'NAT_CLOSED' })
})

test('a peer that is not there is given up at the deadline or by the signal, and the sockets are closed', async t => {
  const silent = await openUdp({ address: '127.0.0.1' })
  t.after(() => silent.close())
  const remote: IceDescription = {
    ufrag: 'abcdefgh',
    password: 'p'.repeat(32),
    candidates: [{ type: 'host', ...silent.local, priority: 1, foundation: 'f' }],
  }
  const [a, b] = await agentPair(t, {})
  await Promise.all([a.gather(), b.gather()])
  await assert.rejects(a.connect(remote, { timeoutMs: 200 }), { code: 'NAT_ICE_FAILED' })
  const abort = new AbortController()
  const pending = b.connect(remote, { signal: abort.signal })
  abort.abort(new Error('enough'))
  await assert.rejects(pending, /enough/)
})

test('a description of a peer is bounded, and names of machines and this machine are not in it', () => {
  const candidate = { type: 'host', address: '192.0.2.1', port: 5, priority: 9, foundation: 'f' }
  const good = { ufrag: 'abcd', password: 'p'.repeat(22), candidates: [candidate] }
  assert.deepEqual(parseIceDescription(good), good)
  const withAddress = (address: string): unknown => ({ ...good, candidates: [{ ...candidate, address }] })
  for (const address of [
    '127.0.0.1',
    '::1',
    'localhost',
    'a.local',
    '0.0.0.0',
    '255.255.255.255',
    '224.0.0.1',
    '::ffff:127.0.0.1',
  ]) {
    assert.deepEqual(parseIceDescription(withAddress(address)).candidates, [], address)
  }
  assert.equal(parseIceDescription(withAddress('127.0.0.1'), { isLocal: true }).candidates.length, 1)
  for (const bad of [
    undefined,
    null,
    7,
    [],
    {},
    { ...good, ufrag: 'a' },
    { ...good, ufrag: 'a:bc' },
    { ...good, password: 'short' },
    { ...good, extra: 1 },
    { ...good, candidates: Array.from({ length: ICE_CANDIDATES_MAX + 1 }, () => candidate) },
    { ...good, candidates: [{ ...candidate, type: 'prflx' }] },
    { ...good, candidates: [{ ...candidate, port: 0 }] },
    { ...good, candidates: [{ ...candidate, port: 70_000 }] },
    { ...good, candidates: [{ ...candidate, priority: 2 ** 31 }] },
    { ...good, candidates: [{ ...candidate, foundation: 'a b' }] },
  ]) {
    assert.throws(() => parseIceDescription(bad), { code: 'NAT_ICE_DESCRIPTION_INVALID' })
  }
})

const LOCAL = { ufrag: 'us', password: 'p'.repeat(32) }
const PEER = { address: '192.0.2.1', port: 5 }

function check(change: Partial<StunEncoding> = {}): Uint8Array {
  return encodeStun({
    class: 'request',
    transactionId: systemRandom.bytes(12),
    attributes: { username: 'us:them' },
    integrityKey: new TextEncoder().encode(LOCAL.password),
    hasFingerprint: true,
    ...change,
  })
}

test('only who proves that he has our password is heard', () => {
  const guard = new IceGuard({ clock: systemClock }, LOCAL)
  const data = Uint8Array.of(0x80, 1)
  assert.equal(guard.admits(data, PEER), false)
  const unsigned = encodeStun({
    class: 'request',
    transactionId: new Uint8Array(12),
    attributes: { username: 'us:them' },
  })
  assert.equal(guard.admits(unsigned, PEER), false)
  assert.equal(guard.admits(check({ integrityKey: new Uint8Array(32) }), PEER), false)
  assert.equal(guard.admits(check({ attributes: { username: 'others:them' } }), PEER), false)
  assert.equal(guard.admits(check({ attributes: {} }), PEER), false)
  assert.equal(guard.admits(check({ method: 3 }), PEER), false)
  assert.equal(guard.admits(check({ class: 'indication' }), PEER), false)
  assert.equal(guard.admits(data, PEER), false)
  assert.equal(guard.admits(check(), PEER), true)
  assert.equal(guard.admits(data, PEER), true)
  assert.equal(guard.admits(data, { ...PEER, port: 6 }), false)
  assert.equal(guard.admits(new Uint8Array(ICE_DATAGRAM_BYTES_MAX + 1).fill(0x80), PEER), false)
})

test('nothing hangs behind a signature', () => {
  const guard = new IceGuard({ clock: systemClock }, LOCAL)
  const nominating = new Uint8Array([...check({ hasFingerprint: false }), 0, 0x25, 0, 0])
  nominating[3] = (nominating[3] ?? 0) + 4
  assert.equal(guard.admits(nominating, PEER), false)
})

test('checks are bounded, whatever address they come from', () => {
  const guard = new IceGuard({ clock: { ...systemClock, monotonic: () => 0 } }, LOCAL)
  let admitted = 0
  for (let port = 1; port < 1_000; port++) if (guard.admits(check(), { ...PEER, port })) admitted++
  assert.equal(admitted, ICE_CHECKS_BURST_MAX)
})

test('ten thousand damaged checks are not admitted', t => {
  const seed = 0x1ce
  t.diagnostic(`seed ${seed}`)
  const random = seededRandom(seed)
  const guard = new IceGuard({ clock: systemClock }, LOCAL)
  const whole = check()
  for (let turn = 0; turn < 10_000; turn++) {
    const bytes = whole.slice(0, random.uint32() % 4 === 0 ? random.uint32() % whole.byteLength : undefined)
    if (bytes.byteLength === whole.byteLength) {
      const at = random.uint32() % whole.byteLength
      bytes[at] = (bytes[at] ?? 0) ^ (1 + (random.uint32() % 255))
    }
    // One that has become an answer is let through to the transaction that it cannot belong to.
    if ((bytes[0] ?? 0) === 1 || (bytes[1] ?? 0) >= 0x10) continue
    assert.equal(guard.admits(bytes, PEER), false)
  }
})

test('strangers change nothing: a path keeps working under unsigned requests and data from elsewhere', async t => {
  const seed = 0x57a
  t.diagnostic(`seed ${seed}`)
  const random = seededRandom(seed)
  const [a, b] = await agentPair(t, {})
  const [pathA, pathB] = await connected(a, b)
  const stranger = await openUdp({ address: '127.0.0.1' })
  t.after(() => stranger.close())
  const heard: Uint8Array[] = []
  pathB.onMessage(bytes => void heard.push(bytes))
  for (let turn = 0; turn < 1_000; turn++) {
    const noise = random.uint32() % 2 === 0 ? random.bytes(1 + (random.uint32() % 100)) : check()
    stranger.send(noise, { address: '127.0.0.1', port: pathB.selected.local.port })
  }
  await crosses(pathA, pathB, Uint8Array.of(0x80, 0x42))
  assert.ok(heard.every(bytes => bytes[0] === 0x80 && bytes[1] === 0x42 && bytes.byteLength === 2))
})

const unshare = ['-rn', process.execPath, 'test/peers/ice-nowhere.ts'] as const
const canUnshare = spawnSync('unshare', ['-rn', 'true']).status === 0

test('candidates that no route leads to do not end the process', {
  skip: canUnshare ? false : 'needs unshare -rn: a network namespace of its own',
}, () => {
  const { stdout, stderr, status } = spawnSync('unshare', unshare, { encoding: 'utf8', timeout: 60_000 })
  assert.equal(stdout.trim(), 'NAT_ICE_FAILED', stderr)
  assert.equal(status, 0)
})
