import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock, seededRandom, systemClock, systemRandom } from '#base'
import { STUN_PENDING_MAX } from '../limits.ts'
import type { Endpoint, UdpSocket } from '../types.ts'
import { openUdp } from '../udp.ts'
import { StunClient } from './client.ts'
import { decodeStun, encodeStun } from './codec.ts'
import { createStunServer } from './server.ts'

const SERVER: Endpoint = { address: '192.0.2.1', port: 3478 }
const SEEN: Endpoint = { address: '198.51.100.7', port: 5555 }

/** A socket whose other end is the test. */
function wire(): {
  readonly socket: UdpSocket
  readonly sent: Uint8Array[]
  readonly receive: (bytes: Uint8Array, from: Endpoint) => void
} {
  const sent: Uint8Array[] = []
  const listeners = new Set<(bytes: Uint8Array, from: Endpoint) => void>()
  const socket: UdpSocket = {
    local: { address: '0.0.0.0', port: 1 },
    send: bytes => void sent.push(bytes.slice()),
    onMessage: listener => {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    close: async () => undefined,
  }
  return { socket, sent, receive: (bytes, from) => listeners.forEach(listener => listener(bytes, from)) }
}

function answerTo(request: Uint8Array | undefined, mapped = SEEN): Uint8Array {
  assert.ok(request !== undefined)
  const message = decodeStun(request)
  assert.ok(!('code' in message))
  return encodeStun({ class: 'success', transactionId: message.transactionId, attributes: { mapped } })
}

test('a request goes out at the times of RFC 8489, and is given up after the last wait', async () => {
  const clock = new ManualClock()
  const { socket, sent } = wire()
  const client = new StunClient({ socket, clock, random: seededRandom(1) })
  const answer = client.binding(SERVER, { timeoutMs: 60_000 })
  const times: number[] = [0]
  for (let at = 1; at <= 39_500; at++) {
    const before = sent.length
    clock.advance(1)
    if (sent.length > before) times.push(at)
  }
  assert.deepEqual(times, [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500])
  assert.equal(new Set(sent.map(bytes => bytes.join())).size, 1)
  assert.deepEqual(await answer, { kind: 'silent' })
  assert.equal(client.pending, 0)
})

test('the deadline ends a request earlier', async () => {
  const clock = new ManualClock()
  const { socket, sent } = wire()
  const client = new StunClient({ socket, clock, random: seededRandom(1) })
  const answer = client.binding(SERVER, { timeoutMs: 600 })
  clock.advance(600)
  assert.deepEqual(await answer, { kind: 'silent' })
  clock.advance(60_000)
  assert.equal(sent.length, 2)
})

test('only the server that was asked answers, and only the transaction that is under way', async () => {
  const clock = new ManualClock()
  const { socket, sent, receive } = wire()
  const client = new StunClient({ socket, clock, random: seededRandom(1) })
  const answer = client.binding(SERVER)
  const right = answerTo(sent[0])
  receive(right, { ...SERVER, port: 3479 })
  receive(right, { ...SERVER, address: '192.0.2.2' })
  const otherId = right.slice()
  otherId[10] = (otherId[10] ?? 0) ^ 1
  receive(otherId, SERVER)
  receive(sent[0] ?? right, SERVER)
  assert.equal(client.pending, 1)
  clock.advance(20)
  receive(right, SERVER)
  assert.deepEqual(await answer, { kind: 'seen', mapped: SEEN, roundTripMs: 20 })
  receive(right, SERVER)
  assert.equal(client.pending, 0)
})

test('an error, or an answer without an address, is a refusal', async () => {
  const { socket, sent, receive } = wire()
  const client = new StunClient({ socket, clock: new ManualClock(), random: seededRandom(1) })
  const first = client.binding(SERVER)
  const second = client.binding(SERVER)
  const ids = sent.map(bytes => bytes.slice(8, 20))
  const error = { code: 420, reason: 'no' }
  receive(encodeStun({ class: 'error', transactionId: ids[0] ?? new Uint8Array(12), attributes: { error } }), SERVER)
  receive(encodeStun({ class: 'success', transactionId: ids[1] ?? new Uint8Array(12) }), SERVER)
  assert.deepEqual(await first, { kind: 'refused', errorCode: 420 })
  assert.deepEqual(await second, { kind: 'refused', errorCode: 0 })
})

test('the requests under way are bounded, end with their signal, and with the client', async () => {
  const { socket } = wire()
  const client = new StunClient({ socket, clock: new ManualClock(), random: seededRandom(1) })
  const abort = new AbortController()
  const aborted = client.binding(SERVER, { signal: abort.signal })
  abort.abort(new Error('enough'))
  await assert.rejects(aborted, /enough/)
  const many = Array.from({ length: STUN_PENDING_MAX }, () => client.binding(SERVER))
  assert.deepEqual(await client.binding(SERVER), { kind: 'silent' })
  assert.equal(client.pending, STUN_PENDING_MAX)
  client.close()
  for (const request of many) await assert.rejects(request, { code: 'NAT_CLOSED' })
  await assert.rejects(client.binding(SERVER), { code: 'NAT_CLOSED' })
})

test('ten thousand damaged answers change nothing, and the right one still counts', async t => {
  const seed = 0xc11e
  t.diagnostic(`seed ${seed}`)
  const random = seededRandom(seed)
  const { socket, sent, receive } = wire()
  const client = new StunClient({ socket, clock: new ManualClock(), random })
  const answer = client.binding(SERVER)
  const right = answerTo(sent[0])
  for (let turn = 0; turn < 10_000; turn++) {
    const bytes = right.slice(0, random.uint32() % 4 === 0 ? random.uint32() % right.byteLength : undefined)
    // The transaction id is always hit too, so that no damaged packet is by chance an answer.
    bytes[8 + (random.uint32() % 12)] = ((bytes[8] ?? 0) ^ 0xff) & 0xff
    for (let change = random.uint32() % 6; change > 0 && bytes.byteLength > 0; change--) {
      bytes[random.uint32() % bytes.byteLength] = random.uint32() & 0xff
    }
    if (bytes.subarray(8, 20).join() === right.subarray(8, 20).join()) continue
    receive(bytes, SERVER)
    assert.equal(client.pending, 1)
  }
  receive(right, SERVER)
  assert.equal((await answer).kind, 'seen')
  client.close()
})

test('damaged answers with the right id are refusals at worst', async t => {
  const seed = 0xbad1d
  t.diagnostic(`seed ${seed}`)
  const random = seededRandom(seed)
  for (let turn = 0; turn < 10_000; turn++) {
    const { socket, sent, receive } = wire()
    const client = new StunClient({ socket, clock: new ManualClock(), random })
    const answer = client.binding(SERVER)
    const bytes = answerTo(sent[0])
    bytes[20 + (random.uint32() % (bytes.byteLength - 20))] = random.uint32() & 0xff
    bytes[random.uint32() % 8] = random.uint32() & 0xff
    receive(bytes, SERVER)
    if (client.pending === 0) assert.ok(['seen', 'refused'].includes((await answer).kind))
    else answer.catch(() => undefined)
    client.close()
  }
})

test('a real server on loopback says which port the client has', async () => {
  const [serverSocket, clientSocket] = await Promise.all([
    openUdp({ address: '127.0.0.1' }),
    openUdp({ address: '127.0.0.1' }),
  ])
  const server = createStunServer({ clock: systemClock, sockets: { first: serverSocket } })
  const client = new StunClient({ socket: clientSocket, clock: systemClock, random: systemRandom })
  try {
    const answer = await client.binding(serverSocket.local)
    assert.ok(answer.kind === 'seen')
    assert.deepEqual(answer.mapped, clientSocket.local)
    const change = { address: true, port: true, from: serverSocket.local }
    assert.deepEqual(await client.binding(serverSocket.local, { change }), { kind: 'refused', errorCode: 420 })
  } finally {
    client.close()
    server.close()
    await Promise.all([serverSocket.close(), clientSocket.close()])
  }
})
