import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { fromHex, ManualClock, systemRandom } from '#base'
import {
  withLengthPrefix,
  HELLO_BYTES_MAX,
  HELLO_PEERS_MAX,
  HELLO_VERSION,
  type HelloMessage,
  PROTOCOLS,
  swarmProof,
} from '#wire'
import { ADMISSION_TIMEOUT_MS, HELLO_TOKENS_MAX, PING_INTERVAL_MS, PINGS_MISSED_MAX, UNPROVEN_MAX } from './limits.ts'
import {
  firstAddress,
  hasPeers,
  offerOf,
  type RawHello,
  startHost,
  startRawPeer,
  within,
} from '../../test/support/net-hosts.ts'
import type { Host } from './types.ts'

const SECRET = 'the secret'

function helloOf(secret: boolean): HelloMessage & { readonly nonce: Uint8Array } {
  return { kind: 'hello', version: HELLO_VERSION, nonce: systemRandom.bytes(32), secret }
}

async function expectRefusal(hello: RawHello, reason: string): Promise<void> {
  for (;;) {
    const message = await hello.next()
    if (message.kind === 'refuse') {
      assert.equal(message.reason, reason)
      return
    }
  }
}

/** After whatever happened the host must still take an honest peer. */
async function stillServes(test: { after(action: () => Promise<void>): void }, host: Host): Promise<void> {
  const honest = await startHost(test, { secret: SECRET })
  assert.equal(await honest.connect(firstAddress(host)), host.id)
  await hasPeers(host, [honest.id])
}

/** A raw peer in an open swarm, past admission. */
async function joinOpenSwarm(test: { after(action: () => Promise<void>): void }, host: Host) {
  const raw = await (await startRawPeer(test)).dial(firstAddress(host))
  const hello = await raw.hello()
  hello.send(helloOf(false))
  assert.equal((await hello.next()).kind, 'hello')
  hello.send({ kind: 'info', offer: offerOf('raw'), peers: [] })
  assert.equal((await hello.next()).kind, 'info')
  return { raw, hello }
}

describe('net / hostile peers', () => {
  it('gets nothing but a reset on any protocol before it has proved itself', async test => {
    const host = await startHost(test, { secret: SECRET })
    let isReached = false
    host.handle(PROTOCOLS.stage, () => {
      isReached = true
    })
    const raw = await (await startRawPeer(test)).dial(firstAddress(host))
    const stream = await raw.stream(PROTOCOLS.stage)
    const { promise, resolve } = Promise.withResolvers<void>()
    stream.addEventListener('close', () => resolve())
    if (stream.status !== 'open') resolve()
    await within('the reset', promise)
    assert.equal(stream.status, 'reset')
    assert.equal(isReached, false)
    await stillServes(test, host)
  })

  it('hears of no offer, no peer and no proof before it has proved itself', async test => {
    const host = await startHost(test, { secret: SECRET, offer: offerOf('hidden') })
    const raw = await (await startRawPeer(test)).dial(firstAddress(host))
    const hello = await raw.hello()
    hello.send(helloOf(true))
    assert.equal((await hello.next()).kind, 'hello')
    hello.send({ kind: 'proof', mac: systemRandom.bytes(32) })
    assert.deepEqual(await hello.next(), { kind: 'refuse', reason: 'proof-wrong' })
    await raw.closed
    assert.deepEqual(host.peers(), [])
  })

  it('cannot pass with a proof that was made for another connection', async test => {
    const host = await startHost(test, { secret: SECRET })
    const rawPeer = await startRawPeer(test)
    const raw = await rawPeer.dial(firstAddress(host))
    const hello = await raw.hello()
    const ours = helloOf(true)
    hello.send(ours)
    const theirs = await hello.next()
    assert.ok(theirs.kind === 'hello')
    // Right in everything but one nonce, as a proof that was overheard would be.
    const mac = swarmProof(new TextEncoder().encode(SECRET), {
      role: 'dialler',
      dialler: rawPeer.id,
      listener: host.id,
      diallerNonce: ours.nonce,
      listenerNonce: systemRandom.bytes(32),
    })
    hello.send({ kind: 'proof', mac })
    await expectRefusal(hello, 'proof-wrong')
    await raw.closed
  })

  it('loses its connection over garbage, an over-long frame or a message out of turn, and costs nothing', async test => {
    const host = await startHost(test, { secret: SECRET })
    const rawPeer = await startRawPeer(test)
    const deeds: ((hello: RawHello) => void)[] = [
      hello => hello.sendBytes(systemRandom.bytes(4096)),
      hello => hello.sendBytes(Uint8Array.of(0xff, 0xff, 0xff, 0xff)),
      hello => hello.sendBytes(withLengthPrefix(systemRandom.bytes(100))),
      hello => hello.sendBytes(withLengthPrefix(new Uint8Array(400).fill(0x81))),
      hello => hello.send({ kind: 'info', offer: offerOf('early'), peers: [] }),
      hello => hello.send({ kind: 'proof', mac: systemRandom.bytes(32) }),
      hello => hello.send({ kind: 'ping', id: 1 }),
    ]
    for (const deed of deeds) {
      const raw = await rawPeer.dial(firstAddress(host))
      const hello = await raw.hello()
      deed(hello)
      await expectRefusal(hello, 'malformed')
      await raw.closed
    }
    await stillServes(test, host)
  })

  it('is told when it speaks another revision of the protocol', async test => {
    const host = await startHost(test)
    const raw = await (await startRawPeer(test)).dial(firstAddress(host))
    const hello = await raw.hello()
    // {"kind": "hello", "version": 2} in dag-cbor.
    const text = 'a2646b696e646568656c6c6f6776657273696f6e02'
    hello.sendBytes(withLengthPrefix(fromHex(text)))
    await expectRefusal(hello, 'version')
    await raw.closed
  })

  it('is let go when it does not prove itself in time', async test => {
    const clock = new ManualClock()
    const host = await startHost(test, { secret: SECRET, clock })
    const raw = await (await startRawPeer(test)).dial(firstAddress(host))
    const hello = await raw.hello({ isDeaf: true })
    hello.send(helloOf(true))
    assert.equal((await hello.next()).kind, 'hello')
    clock.advance(ADMISSION_TIMEOUT_MS - 1)
    assert.equal(raw.connection.status, 'open')
    clock.advance(1)
    await expectRefusal(hello, 'slow')
    clock.advance(ADMISSION_TIMEOUT_MS)
    await raw.closed
  })

  it('is let go when it has joined and then answers no ping', async test => {
    const clock = new ManualClock()
    const host = await startHost(test, { clock })
    const { raw, hello } = await joinOpenSwarm(test, host)
    assert.equal((await hello.next()).kind, 'ping')
    for (let missed = 1; missed <= PINGS_MISSED_MAX; missed++) {
      assert.equal(host.peers().length, 1)
      clock.advance(PING_INTERVAL_MS)
    }
    assert.deepEqual(host.peers(), [])
    await raw.closed
  })

  it('cannot take the place of others by connecting without end', async test => {
    const host = await startHost(test, { secret: SECRET, clock: new ManualClock() })
    const rawPeer = await startRawPeer(test)
    const connections = []
    for (let i = 0; i < UNPROVEN_MAX; i++) {
      const raw = await rawPeer.dial(firstAddress(host))
      const hello = await raw.hello()
      hello.send(helloOf(true))
      assert.equal((await hello.next()).kind, 'hello')
      connections.push(raw)
    }
    // One more is refused, at its handshake or right after it.
    const refused = await rawPeer.dial(firstAddress(host)).then(
      raw => raw.closed.then(() => true),
      () => true,
    )
    assert.ok(refused)
    for (const { connection } of connections) {
      assert.equal(connection.status, 'open')
      connection.abort(new Error('enough'))
    }
    await Promise.all(connections.map(raw => raw.closed))
    await stillServes(test, host)
  })

  it('pays for a flood of messages with its connection', async test => {
    const host = await startHost(test)
    const { raw, hello } = await joinOpenSwarm(test, host)
    assert.equal(host.peers().length, 1)
    for (let id = 0; id <= 2 * HELLO_TOKENS_MAX; id++) hello.send({ kind: 'ping', id })
    await expectRefusal(hello, 'flood')
    await raw.closed
    await hasPeers(host, [])
  })

  it('cannot send an offer or introductions beyond their bounds', async test => {
    const host = await startHost(test)
    const peer = { id: 'x'.repeat(52), addresses: [] }
    const tooMany = { kind: 'peers', peers: Array.from({ length: HELLO_PEERS_MAX + 1 }, () => peer) } as const
    const { raw, hello } = await joinOpenSwarm(test, host)
    hello.send(tooMany)
    await expectRefusal(hello, 'malformed')
    await raw.closed
    const second = await joinOpenSwarm(test, host)
    second.hello.sendBytes(withLengthPrefix(new Uint8Array(HELLO_BYTES_MAX + 1)))
    await expectRefusal(second.hello, 'malformed')
    await second.raw.closed
    await hasPeers(host, [])
  })
})
