import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ManualClock, seededRandom, systemClock, systemRandom } from '#base'
import { publicKeyOfPeer } from '#crypto'
import { Refusal, signFrame } from '#protocol'
import {
  CIPHER_SUITES,
  encodeBody,
  FRAME_TYPES,
  type Hello,
  HELLO_PEERS_MAX,
  PROTOCOL_VERSIONS,
  PROTOCOLS,
} from '#wire'
import { ADMISSION_TIMEOUT_MS, CONTROL_TOKENS_MAX, PING_INTERVAL_MS, PINGS_FAILED_MAX, UNPROVEN_MAX } from './limits.ts'
import { firstAddress, hasPeers, offerOf, startHost, within } from '../../test/support/net-hosts.ts'
import { type RawConnection, type RawControl, type RawPeer, startRawPeer } from '../../test/support/raw-peer.ts'
import type { Host } from './types.ts'

const SECRET = 'the secret'

type Test = { after(action: () => Promise<void>): void }

async function expectRefusal(control: RawControl, reason: string, by: 'us' | 'peer' = 'peer'): Promise<void> {
  const error = await control.ended
  assert.ok(error instanceof Refusal, String(error))
  assert.deepEqual([error.fault.reason, error.fault.by], [reason, by])
}

/** After whatever happened the host must still take an honest peer. */
async function stillServes(test: Test, host: Host): Promise<void> {
  const honest = await startHost(test, { secret: SECRET })
  // Dials again where the host has not noticed yet that the others are gone.
  honest.keepConnected([firstAddress(host)])
  await hasPeers(host, [honest.id])
}

async function dial(test: Test, host: Host): Promise<RawConnection> {
  return (await startRawPeer(test)).dial(firstAddress(host))
}

/** A raw peer in an open swarm, past admission. */
async function joinOpenSwarm(test: Test, host: Host): Promise<{ raw: RawConnection; control: RawControl }> {
  const raw = await dial(test, host)
  const control = await raw.control()
  await control.join()
  return { raw, control }
}

describe('net / hostile peers', () => {
  it('gets nothing but a reset on any protocol before it has proved itself', async test => {
    const host = await startHost(test, { secret: SECRET })
    let isReached = false
    host.handle(PROTOCOLS.stage, () => {
      isReached = true
    })
    const stream = await (await dial(test, host)).stream(PROTOCOLS.stage)
    await assert.rejects(within('the reset', stream.received[Symbol.asyncIterator]().next()), { code: 'STREAM_RESET' })
    assert.equal(isReached, false)
    await stillServes(test, host)
  })

  it('hears of no offer, no peer and no proof before it has proved itself', async test => {
    const host = await startHost(test, { secret: SECRET, offer: offerOf('hidden') })
    const raw = await dial(test, host)
    const control = await raw.control({ secret: 'another' })
    await expectRefusal(control, 'proof-wrong')
    assert.notEqual(control.link.state, 'established')
    await raw.closed
    assert.deepEqual(host.peers(), [])
  })

  it('loses its connection over garbage, an over-long frame or a frame out of turn, and costs nothing', async test => {
    const host = await startHost(test, { secret: SECRET })
    const rawPeer = await startRawPeer(test)
    const seed = systemRandom.uint32()
    test.diagnostic(`seed ${seed}`)
    const garbage: ((frame: Uint8Array) => Uint8Array)[] = [
      () => seededRandom(seed).bytes(4096),
      () => Uint8Array.of(0xff, 0xff, 0xff, 0xff),
      frame => frame.with(4, 0xff), // length
      frame => frame.with(3, FRAME_TYPES.info),
      frame => frame.with(3, FRAME_TYPES.proof),
      frame => frame.with(3, FRAME_TYPES.data | 0x80), // sealed, without a session
      frame => frame.with(8, 0xff), // a time beyond what can be counted
    ]
    for (const change of garbage) {
      const raw = await rawPeer.dial(firstAddress(host))
      const control = await raw.control({ secret: SECRET, tamper: frame => [change(frame)] })
      await expectRefusal(control, 'malformed')
      await raw.closed
    }
    await stillServes(test, host)
  })

  it('is told when it speaks other versions of the protocol only, and which would do', async test => {
    const host = await startHost(test)
    const rawPeer = await startRawPeer(test)
    const raw = await rawPeer.dial(firstAddress(host))
    const hello = await helloOf(rawPeer, host, { versions: [7, 9], preferred: 9 })
    const control = await raw.control({ tamper: () => [hello] })
    const error = await control.ended
    assert.ok(error instanceof Refusal)
    assert.deepEqual(error.fault, { code: 'PROTOCOL_REFUSED', reason: 'version', by: 'peer', versions: [1] })
    await raw.closed
  })

  it('is let go when it does not prove itself in time', async test => {
    const clock = new ManualClock(systemClock.now())
    const host = await startHost(test, { secret: SECRET, clock })
    const raw = await dial(test, host)
    const control = await raw.control({ secret: SECRET, tamper: (frame, index) => (index === 0 ? [frame] : []) })
    await within('the host to answer', answered(control))
    clock.advance(ADMISSION_TIMEOUT_MS - 1)
    assert.equal(raw.connection.status, 'open')
    clock.advance(1)
    await control.ended
    clock.advance(ADMISSION_TIMEOUT_MS)
    await raw.closed
  })

  it('is let go when it has joined and then answers no ping', async test => {
    const clock = new ManualClock(systemClock.now())
    const host = await startHost(test, { clock })
    const { raw, control } = await joinOpenSwarm(test, host)
    assert.equal((await control.next()).type, FRAME_TYPES.ping)
    for (let failed = 1; failed <= PINGS_FAILED_MAX; failed++) {
      assert.equal(host.peers().length, 1)
      clock.advance(PING_INTERVAL_MS)
    }
    assert.deepEqual(host.peers(), [])
    await raw.closed
  })

  it('cannot take the place of others by connecting without end', async test => {
    const host = await startHost(test, { secret: SECRET, clock: new ManualClock(systemClock.now()) })
    const rawPeer = await startRawPeer(test)
    const connections: RawConnection[] = []
    for (let i = 0; i < UNPROVEN_MAX; i++) {
      const raw = await rawPeer.dial(firstAddress(host))
      await answered(await raw.control({ secret: SECRET, tamper: (frame, index) => (index === 0 ? [frame] : []) }))
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
    // A clock that stands still: the allowance does not come back while a busy machine sends.
    const host = await startHost(test, { clock: new ManualClock(systemClock.now()) })
    const { raw, control } = await joinOpenSwarm(test, host)
    assert.equal(host.peers().length, 1)
    for (let id = 0; id <= 2 * CONTROL_TOKENS_MAX && control.link.state === 'established'; id++) {
      control.link.send(FRAME_TYPES.ping, { id })
      await control.link.room()
    }
    await expectRefusal(control, 'flood')
    await raw.closed
    await hasPeers(host, [])
  })

  it('cannot introduce more peers than fit a message', async test => {
    const host = await startHost(test)
    const peers = Array.from({ length: HELLO_PEERS_MAX + 1 }, () => ({ id: 'x'.repeat(52), record: new Uint8Array(8) }))
    const { raw, control } = await joinOpenSwarm(test, host)
    control.link.send(FRAME_TYPES.peers, { peers })
    await expectRefusal(control, 'malformed')
    await raw.closed
    await hasPeers(host, [])
  })
})

/** A signed HELLO with some fields of the test's choice. */
async function helloOf(peer: RawPeer, host: Host, fields: Partial<Hello>): Promise<Uint8Array> {
  const { provider } = peer.identity
  const recipient = publicKeyOfPeer(host.id)
  assert.ok(recipient)
  const hello: Hello = {
    versions: [...PROTOCOL_VERSIONS],
    preferred: 1,
    suites: [...CIPHER_SUITES],
    capabilities: [],
    agent: 'test',
    key: provider.publicKey,
    handovers: [],
    session: systemRandom.bytes(16),
    time: systemClock.now(),
    nonce: systemRandom.bytes(32),
    secret: false,
    ...fields,
  }
  return signFrame({
    type: FRAME_TYPES.hello,
    payload: encodeBody(hello),
    nonce: { timeMs: systemClock.now(), epoch: 0, sequence: 0, random: 1 },
    context: { sender: provider.publicKey, recipient, session: new Uint8Array(16) },
    signer: provider,
  })
}

/** Resolves once the peer's second frame was made, which it is when the host's HELLO has come. */
async function answered(control: RawControl): Promise<void> {
  while (control.sent.length < 2) await new Promise(resolve => setImmediate(resolve))
}
