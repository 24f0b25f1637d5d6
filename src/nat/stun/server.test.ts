import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock, seededRandom, systemClock, systemRandom } from '#base'
import { SimulatedNetwork } from '../../../test/support/simulated-network.ts'
import { STUN_ADDRESSES_MAX, STUN_ANSWER_FACTOR_MAX, STUN_BURST_MAX, STUN_BURST_PER_ADDRESS_MAX } from '../limits.ts'
import type { Endpoint } from '../types.ts'
import { openUdp } from '../udp.ts'
import { StunClient } from './client.ts'
import { decodeStun, encodeStun, type StunMessage } from './codec.ts'
import { RateTable } from './rate-table.ts'
import { closeStunSockets, createStunServer, openStunSockets } from './server.ts'

const ASKER: Endpoint = { address: '203.0.113.9', port: 999 }

/** A server with two addresses in a simulated network, and what it sends to one asker. */
async function serverOf(clock = new ManualClock()) {
  const network = new SimulatedNetwork()
  const sockets = await openStunSockets(network.machine('192.0.2.1'), ['192.0.2.1', '192.0.2.2'], [3478, 3479])
  const asker = await network.machine(ASKER.address)({ port: ASKER.port })
  const heard: { readonly bytes: Uint8Array; readonly from: Endpoint }[] = []
  asker.onMessage((bytes, from) => void heard.push({ bytes, from }))
  const server = createStunServer({ clock, sockets })
  const ask = async (bytes: Uint8Array, to = sockets.first.local) => {
    const before = heard.length
    asker.send(bytes, to)
    for (let turn = 0; turn < 4; turn++) await Promise.resolve()
    return heard.slice(before)
  }
  return { server, ask, clock }
}

function requestOf(attributes = {}, hasFingerprint = true): Uint8Array {
  return encodeStun({ class: 'request', transactionId: systemRandom.bytes(12), attributes, hasFingerprint })
}

function decoded(bytes: Uint8Array | undefined): StunMessage {
  const message = decodeStun(bytes ?? new Uint8Array())
  assert.ok(!('code' in message))
  return message
}

test('an answer says where the asker is seen, and where the server has its other address', async () => {
  const { ask } = await serverOf()
  const request = requestOf()
  const [answer, ...more] = await ask(request)
  assert.equal(more.length, 0)
  const message = decoded(answer?.bytes)
  assert.deepEqual(message.transactionId, decoded(request).transactionId)
  assert.deepEqual(message.attributes, {
    mapped: ASKER,
    otherAddress: { address: '192.0.2.2', port: 3479 },
    responseOrigin: { address: '192.0.2.1', port: 3478 },
  })
})

test('a change request is answered from the address and port that it asks for', async () => {
  const { ask } = await serverOf()
  const from = async (address: boolean, port: boolean): Promise<Endpoint | undefined> =>
    (await ask(requestOf({ changeRequest: { address, port } })))[0]?.from
  assert.deepEqual(await from(false, false), { address: '192.0.2.1', port: 3478 })
  assert.deepEqual(await from(false, true), { address: '192.0.2.1', port: 3479 })
  assert.deepEqual(await from(true, false), { address: '192.0.2.2', port: 3478 })
  assert.deepEqual(await from(true, true), { address: '192.0.2.2', port: 3479 })
})

test('no answer is longer than three times its request', async () => {
  const { ask, clock } = await serverOf()
  for (const attributes of [{}, { changeRequest: { address: true, port: true } }, { username: 'a'.repeat(200) }]) {
    for (const hasFingerprint of [true, false]) {
      const request = requestOf(attributes, hasFingerprint)
      const [answer] = await ask(request)
      assert.ok(answer !== undefined)
      assert.ok(answer.bytes.byteLength <= request.byteLength * STUN_ANSWER_FACTOR_MAX)
    }
    clock.advance(10_000)
  }
})

test('attributes that are not understood are refused with 420', async () => {
  const { ask } = await serverOf()
  const request = new Uint8Array([...requestOf({}, false), 0, 0x31, 0, 0])
  request[3] = 4
  const [answer] = await ask(request)
  assert.equal(decoded(answer?.bytes).attributes.error?.code, 420)
})

test('answers, indications and other methods are not answered: two servers cannot be set on each other', async () => {
  const { ask, server } = await serverOf()
  const transactionId = new Uint8Array(12)
  for (const kind of ['success', 'error', 'indication'] as const) {
    assert.deepEqual(await ask(encodeStun({ class: kind, transactionId })), [])
  }
  assert.deepEqual(await ask(encodeStun({ class: 'request', method: 3, transactionId })), [])
  assert.deepEqual(server.counts, { answered: 0, limited: 0, dropped: 4 })
})

test('one address gets a burst, then as many answers as the rate allows', async () => {
  const { ask, server, clock } = await serverOf()
  for (let count = 0; count < STUN_BURST_PER_ADDRESS_MAX + 10; count++) await ask(requestOf())
  assert.deepEqual(server.counts, { answered: STUN_BURST_PER_ADDRESS_MAX, limited: 10, dropped: 0 })
  clock.advance(1_000)
  assert.equal((await ask(requestOf())).length, 1)
})

test('the table of rates is bounded, and everybody together has a bound', () => {
  const rates = new RateTable({ clock: new ManualClock() })
  let taken = 0
  for (let index = 0; index < 5_000; index++) if (rates.take(`10.${index >> 8}.${index & 255}.1`)) taken++
  assert.equal(taken, STUN_BURST_MAX)
  assert.ok(rates.size <= STUN_ADDRESSES_MAX)
  const ipv6 = new RateTable({ clock: new ManualClock() })
  for (let index = 0; index < 100; index++) ipv6.take(`2001:db8::${index}`)
  assert.equal(ipv6.size, 1)
})

test('ten thousand damaged requests: no exception, and only well-formed requests are answered', async t => {
  const seed = 0x5e12
  t.diagnostic(`seed ${seed}`)
  const random = seededRandom(seed)
  const { ask, server, clock } = await serverOf()
  const requests = [
    requestOf(),
    requestOf({ username: 'a:b' }),
    requestOf({ changeRequest: { address: true, port: true } }),
  ]
  for (let turn = 0; turn < 10_000; turn++) {
    clock.advance(1_000)
    const whole = requests[turn % 3] ?? new Uint8Array()
    const bytes = whole.slice(0, random.uint32() % 4 === 0 ? random.uint32() % whole.byteLength : undefined)
    for (let change = 1 + (random.uint32() % 5); change > 0 && bytes.byteLength > 0; change--) {
      bytes[random.uint32() % bytes.byteLength] = random.uint32() & 0xff
    }
    const message = decodeStun(bytes)
    const isRequest = !('code' in message) && message.class === 'request' && message.method === 1
    const answers = await ask(bytes)
    assert.ok(answers.length <= (isRequest ? 1 : 0))
    for (const answer of answers) {
      assert.deepEqual(answer.bytes.slice(8, 20), bytes.slice(8, 20))
      assert.ok(answer.bytes.byteLength <= bytes.byteLength * STUN_ANSWER_FACTOR_MAX)
    }
  }
  const { answered, limited, dropped } = server.counts
  assert.equal(answered + limited + dropped, 10_000)
  assert.equal((await ask(requestOf())).length, 1)
})

test('real sockets on two loopback addresses answer from all four places', async t => {
  const sockets = await openStunSockets(openUdp, ['127.0.0.1', '127.0.0.2']).catch(() => undefined)
  if (sockets === undefined) return t.skip('this system has no second loopback address')
  const server = createStunServer({ clock: systemClock, sockets })
  const socket = await openUdp({ address: '127.0.0.1' })
  const client = new StunClient({ socket, clock: systemClock, random: systemRandom })
  try {
    const { first, others } = sockets
    assert.ok(others !== undefined)
    const answer = await client.binding(first.local)
    assert.ok(answer.kind === 'seen')
    assert.deepEqual(answer.otherAddress, others.both.local)
    for (const change of [
      { address: true, port: true, from: others.both.local },
      { address: true, port: false, from: others.address.local },
      { address: false, port: true, from: others.port.local },
    ]) {
      assert.equal((await client.binding(first.local, { change })).kind, 'seen')
    }
  } finally {
    client.close()
    server.close()
    await Promise.all([socket.close(), closeStunSockets(sockets)])
  }
})
