/** The data plane from outside: sockets that have no key, or use one wrongly, and peers that cannot be reached there. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { test, type TestContext } from 'node:test'
import { createServer as createTlsServer } from 'node:tls'
import {
  type ByteStream,
  type Clock,
  concatBytes,
  ManualClock,
  seededRandom,
  silentLogger,
  systemClock,
  systemRandom,
} from '#base'
import { encodePlaneIdentity, type SecureSession } from '#protocol'
import { closeOf, dialPlane, firstFlight, sendGarbage } from '../../../test/support/plane-garbage.ts'
import { freePort } from '../../../test/support/free-port.ts'
import { createSessionPair } from '../../../test/support/session-pair.ts'
import { within } from '../../../test/support/net-hosts.ts'
import { HANDSHAKES_PER_ADDRESS_MAX } from '../limits.ts'
import type { Session } from '../session.ts'
import { DEFAULT_SETTINGS, type NetSettings } from '../settings.ts'
import { SELF_SIGNED } from '../../../test/support/self-signed.ts'
import { DataPlane } from './data-plane.ts'

const PROTOCOL = '/koinon/stage/1'

/** Of a session only what the plane looks at. */
function sessionWith(secure: SecureSession, port = 1): Session {
  const connection = { remoteAddr: `/ip4/127.0.0.1/tcp/${port}` }
  const path = { kind: 'direct', transport: 'tcp' }
  const rest = {
    isAdmitted: true,
    direction: 'outbound',
    planeStreams: new Set(),
    streamTraffic: { bytesIn: 0, bytesOut: 0 },
    used: () => undefined,
  }
  return { peer: 'p', connection, path, secure, ...rest } as unknown as Session
}

type Ends = {
  readonly port: number
  readonly ours: SecureSession
  readonly streams: readonly ByteStream[]
  /** The first one, once it is there: the dialler is through with the handshake before the other side is. */
  readonly first: Promise<ByteStream>
}

/** A plane that serves one session, and our end of that session. */
async function serve(t: TestContext): Promise<Ends> {
  const { dialler, listener } = createSessionPair()
  const streams: ByteStream[] = []
  const first = Promise.withResolvers<ByteStream>()
  const onStream = (stream: ByteStream): void => {
    streams.push(stream)
    first.resolve(stream)
  }
  const plane = planeOf({ sessions: [sessionWith(listener)], onStream })
  await plane.start()
  t.after(() => plane.stop())
  assert.ok(plane.port !== undefined)
  return { port: plane.port, ours: dialler, streams, first: first.promise }
}

function planeOf(options: {
  readonly sessions: readonly Session[]
  readonly onStream?: (stream: ByteStream) => void
  readonly avoids?: (port: number) => boolean
  readonly clock?: Clock
  readonly settings?: Partial<NetSettings>
}): DataPlane {
  const { sessions, onStream = () => assert.fail('nobody opens a stream here'), avoids = () => false } = options
  return new DataPlane(
    {
      clock: options.clock ?? systemClock,
      random: systemRandom,
      log: silentLogger,
      settings: { ...DEFAULT_SETTINGS, ...options.settings },
      sessions: () => sessions,
      refuses: () => false,
      serves: protocol => protocol === PROTOCOL,
      onStream,
    },
    { hosts: ['127.0.0.1'], port: 0, avoids },
  )
}

/** The port of a relay that lets what two sockets say first go on at once, and only when it has come from both. */
async function relayOfTwo(t: TestContext, port: number): Promise<number> {
  const flights: (readonly [from: Socket, bytes: Uint8Array])[] = []
  const relay = createServer(socket => {
    socket.on('error', () => undefined)
    socket.once('data', bytes => {
      flights.push([socket.pause(), bytes])
      if (flights.length === 2) for (const flight of flights) passOn(...flight)
    })
  })
  const passOn = (socket: Socket, bytes: Uint8Array): void => {
    const onward = connect({ port, host: '127.0.0.1' })
    onward.write(bytes)
    void closeOf(onward).then(() => socket.destroy())
    socket.once('close', () => onward.destroy())
    socket.pipe(onward).pipe(socket)
  }
  relay.listen(0, '127.0.0.1')
  await once(relay, 'listening')
  t.after(() => relay.close())
  return (relay.address() as AddressInfo).port
}

type Target = Parameters<typeof dialPlane>[2]

test('a socket with the key becomes a stream; without it, or for nothing that is served, none', async t => {
  const { port, ours, streams, first } = await serve(t)
  const wrong: readonly Target[] = [
    { key: new Uint8Array(32) },
    { identity: encodePlaneIdentity({ ...ours.openPlane().identity, session: new Uint8Array(16) }) },
    { identity: 'somebody' },
    { protocol: '/koinon/control/1' },
  ]
  for (const target of wrong) await assert.rejects(within('a refusal', dialPlane(port, ours, target)))
  assert.deepEqual(streams, [])
  const socket = await within('the stream', dialPlane(port, ours))
  assert.deepEqual([socket.getProtocol(), socket.alpnProtocol], ['TLSv1.3', PROTOCOL])
  assert.equal((socket.getEphemeralKeyInfo() as { name?: string }).name, 'X25519MLKEM768')
  socket.write(Uint8Array.of(0, 0, 0, 1, 7, 0, 0, 0, 0))
  const pieces: Uint8Array[] = []
  for await (const piece of (await within('the stream', first)).received) pieces.push(piece)
  assert.deepEqual(concatBytes(pieces), Uint8Array.of(7))
  socket.destroy()
})

test('a number is good for one connection, also for two at once', async t => {
  const { port, ours, streams } = await serve(t)
  const { identity, key } = ours.openPlane()
  const target = { identity: encodePlaneIdentity(identity), key }
  const relay = await relayOfTwo(t, port)
  const sockets = await within('both', Promise.all([1, 2].map(() => dialPlane(relay, ours, target))))
  // Both know the key, but only the first is taken; the other one finds its socket closed.
  await within('the end of one', Promise.race(sockets.map(socket => closeOf(socket.resume()))))
  assert.equal(streams.length, 1)
  await assert.rejects(within('a refusal', dialPlane(port, ours, target)))
  for (const socket of sockets) socket.destroy()
})

test('a server that has a certificate and no key is not taken for the peer', async t => {
  // Whatever it shows: without the key there is no handshake that the dialler goes through with.
  const server = createTlsServer({ minVersion: 'TLSv1.3', ALPNProtocols: [PROTOCOL], ...SELF_SIGNED })
  server.on('tlsClientError', (_error, socket) => socket.destroy())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const { dialler } = createSessionPair()
  await assert.rejects(within('a refusal', dialPlane((server.address() as AddressInfo).port, dialler)))
})

test('a stream that somebody cuts between two records ends as a reset, not as an end', async t => {
  const { port, ours, first } = await serve(t)
  const between: Socket[] = []
  const relay = createServer({ allowHalfOpen: true }, socket => {
    const onward = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
    between.push(onward)
    socket.pipe(onward).pipe(socket)
    for (const side of [socket, onward]) side.on('error', () => undefined)
  })
  relay.listen(0, '127.0.0.1')
  await once(relay, 'listening')
  t.after(() => relay.close())
  const socket = await within('the stream', dialPlane((relay.address() as AddressInfo).port, ours))
  socket.on('error', () => undefined)
  socket.write(Uint8Array.of(0, 0, 0, 2, 1, 2))
  const pieces = (await within('the stream', first)).received[Symbol.asyncIterator]()
  assert.deepEqual((await within('the bytes', pieces.next())).value, Uint8Array.of(1, 2))
  between[0]?.end()
  await assert.rejects(within('the cut', pieces.next()), { code: 'STREAM_RESET' })
  socket.destroy()
})

test('one address cannot hold all places of sockets that say nothing', async t => {
  const { port, ours, first } = await serve(t)
  const idle = Array.from({ length: HANDSHAKES_PER_ADDRESS_MAX }, () => connect({ port, host: '127.0.0.1' }))
  t.after(() => idle.forEach(socket => socket.destroy()))
  await within('the sockets', Promise.all(idle.map(socket => once(socket, 'connect'))))
  const late = connect({ port, host: '127.0.0.1' })
  await within('the end', closeOf(late.resume()))
  // Places come back with their sockets, and garbage takes none for long.
  const ends = idle.map(socket => closeOf(socket.resume()))
  idle.forEach(socket => socket.end('GET / HTTP/1.1\r\n\r\n'))
  await within('their ends', Promise.all(ends))
  const socket = await within('the socket', dialPlane(port, ours))
  await within('the stream', first)
  socket.destroy()
})

test('garbage, halves of handshakes, and ends at any moment leave the server as it was', async t => {
  const { port, ours, first } = await serve(t)
  const seed = systemRandom.uint32()
  t.diagnostic(`seed ${seed}`)
  await sendGarbage(port, { random: seededRandom(seed), hello: await firstFlight(ours), rounds: 25 })
  const socket = await within('the socket', dialPlane(port, ours))
  await within('the stream', first)
  socket.destroy()
})

test('any port will do, except those that the host is to have', async t => {
  const given: number[] = []
  const plane = planeOf({ sessions: [], avoids: port => given.push(port) <= 3 })
  await plane.start()
  t.after(() => plane.stop())
  assert.equal(given.length, 4)
  assert.equal(plane.port, given[3])
  assert.equal(new Set(given).size, 4)
})

test('a peer that takes the socket and says nothing gets as long as the settings say', async t => {
  const taken = Promise.withResolvers<Socket>()
  const silent = createServer(socket => taken.resolve(socket.on('error', () => undefined))).listen(0, '127.0.0.1')
  await once(silent, 'listening')
  t.after(() => silent.close())
  const clock = new ManualClock()
  const plane = planeOf({ sessions: [], clock, settings: { planeTimeoutMs: 7_000 } })
  t.after(() => plane.stop())
  const { port } = silent.address() as AddressInfo
  const session = sessionWith(createSessionPair().dialler)
  let isOver = false
  const opening = plane.open(session, { protocol: PROTOCOL, port, offered: [] }).finally(() => (isOver = true))
  const socket = await within('the socket', taken.promise)
  clock.advance(6_999)
  await new Promise(resolve => setImmediate(resolve))
  assert.equal(isOver, false)
  clock.advance(1)
  assert.equal(await within('the end', opening), undefined)
  socket.destroy()
})

test('a peer that cannot be reached there is left alone for a while', async t => {
  const { dialler, listener } = createSessionPair()
  const port = await freePort()
  const plane = planeOf({ sessions: [] })
  t.after(() => plane.stop())
  const [session, other] = [sessionWith(dialler), sessionWith(listener)]
  assert.equal(await within('an answer', plane.open(session, { protocol: PROTOCOL, port, offered: [] })), undefined)
  const { number } = dialler.openPlane().identity
  assert.equal(await within('an answer', plane.open(session, { protocol: PROTOCOL, port, offered: [] })), undefined)
  assert.equal(dialler.openPlane().identity.number, number + 2, 'the second time nothing was tried')
  plane.forget(session.peer)
  await plane.open(session, { protocol: PROTOCOL, port, offered: [] })
  assert.equal(dialler.openPlane().identity.number, number + 6, 'and again once the peer had left')
  assert.equal(other.planeStreams.size, 0)
})
