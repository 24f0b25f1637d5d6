/** How the connections of real hosts live and end. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type ByteStream, ManualClock, systemClock, systemRandom } from '#base'
import { createNodeIdentity } from '#identity'
import { PROTOCOLS } from '#wire'
import { freePort } from '../../../test/support/free-port.ts'
import { firstAddress, hasPeers, nextEvent, startHost, within } from '../../../test/support/net-hosts.ts'
import { BREAKER_FAILURES, BREAKER_WAIT_MS_MAX, IDLE_LIMIT_MS, SWEEP_PERIOD_MS } from '../limits.ts'
import type { Host, LostPeer } from '../types.ts'
import { CLOSE_CODE_IDLE, type ConnectionEvent } from './connections.ts'

/** So that minutes may pass at once: answers to pings come in their own time. */
const PATIENT = { peersFloor: 0, pingIntervalMs: 600_000, pingTimeoutMs: 600_000, tcpIdleMs: 1_300_000 }

async function pass(clock: ManualClock, ms: number, stepMs = SWEEP_PERIOD_MS): Promise<void> {
  for (let passed = 0; passed < ms; passed += stepMs) {
    clock.advance(stepMs)
    await new Promise(resolve => setImmediate(resolve))
  }
}

function eventsOf(host: Host): { readonly events: ConnectionEvent[]; readonly closed: Promise<ConnectionEvent> } {
  const events: ConnectionEvent[] = []
  const { promise, resolve } = Promise.withResolvers<ConnectionEvent>()
  host.onConnection(event => {
    events.push(event)
    if (event.state === 'closed') resolve(event)
  })
  return { events, closed: within('the end of a connection', promise) }
}

/** A peer that is known by its id and by an address where nobody listens. */
async function nobody(): Promise<{ readonly peer: string; readonly address: string; readonly port: number }> {
  const port = await freePort()
  const { peer } = await createNodeIdentity(systemRandom)
  return { peer, address: `/ip4/127.0.0.1/tcp/${port}/p2p/${peer}`, port }
}

describe('net / life of a host’s connections', () => {
  it('closes a connection of no use with code 0x100, which the peer is told, and both look for each other again', async test => {
    const clock = new ManualClock(systemClock.now())
    // Frames carry the time, so both have the same.
    const b = await startHost(test, { clock, settings: { ...PATIENT, peersFloor: 1 } })
    const a = await startHost(test, { clock, settings: PATIENT })
    const [ofA, ofB] = [eventsOf(a), eventsOf(b)]
    const lost = [a, b].map(host =>
      within('news of a lost peer', new Promise<LostPeer>(resolve => host.onLost(resolve))),
    )
    const measured = nextEvent(a, event => event.peer.rttMs !== undefined)
    await a.connect(firstAddress(b))
    await measured
    const startedAt = clock.monotonic()
    // The clock stands still while the goodbye is on its way.
    while (!ofA.events.some(({ state }) => state === 'stale')) await pass(clock, SWEEP_PERIOD_MS)
    assert.ok(clock.monotonic() - startedAt <= IDLE_LIMIT_MS + SWEEP_PERIOD_MS)
    assert.equal((await ofA.closed).code, CLOSE_CODE_IDLE)
    assert.equal((await ofB.closed).code, CLOSE_CODE_IDLE)
    const states = ofA.events.map(({ state }) => state)
    assert.deepEqual(states, ['connecting', 'connected', 'idle', 'stale', 'closed'])
    const [fromA, fromB] = await Promise.all(lost)
    assert.deepEqual([fromA?.peer, fromA?.code, fromB?.peer, fromB?.code], [b.id, 0x100, a.id, 0x100])
    assert.deepEqual(fromA?.addresses, b.addresses())
    assert.deepEqual([a.peers(), b.peers()], [[], []])
  })

  it('keeps a connection with an open stream, counts its bytes, and lets it go when the stream has ended', async test => {
    for (const planePort of [0, 'off'] as const) {
      const clock = new ManualClock(systemClock.now())
      const [a, b] = [
        await startHost(test, { clock, settings: PATIENT, planePort }),
        await startHost(test, { planePort }),
      ]
      const served = Promise.withResolvers<ByteStream>()
      b.handle(PROTOCOLS.stage, served.resolve)
      await a.connect(firstAddress(b))
      const { closed } = eventsOf(a)
      const stream = await a.open(b.id, PROTOCOLS.stage)
      await pass(clock, 3 * IDLE_LIMIT_MS)
      const reading = (await within('the stream', served.promise)).received[Symbol.asyncIterator]()
      stream.send(new Uint8Array(100_000))
      for (let read = 0; read < 100_000; ) read += (await within('bytes', reading.next())).value?.byteLength ?? 0
      assert.deepEqual([a.peers()[0]?.state, b.peers()[0]?.state], ['connected', 'connected'])
      const [out, into] = [a.peers()[0]?.traffic.bytesOut ?? 0, b.peers()[0]?.traffic.bytesIn ?? 0]
      for (const bytes of [out, into]) assert.ok(bytes >= 100_000 && bytes < 200_000, `${bytes} bytes`)
      stream.abort(new Error('done'))
      while (a.network().connections.some(({ streams }) => streams.plane + streams.libp2p > 0)) await pass(clock, 1, 1)
      await pass(clock, IDLE_LIMIT_MS + SWEEP_PERIOD_MS)
      assert.equal((await closed).code, CLOSE_CODE_IDLE)
    }
  })

  it('dials a held peer again when its connection is lost, and leaves alone one that nobody holds', async test => {
    const [a, b] = [await startHost(test), await startHost(test)]
    await a.connect(firstAddress(b))
    await hasPeers(b, [a.id])
    const release = a.hold(b.id, 'stage')
    const [left, back] = [nextEvent(a, ({ kind }) => kind === 'left'), nextEvent(a, ({ kind }) => kind === 'joined')]
    b.drop(a.id, 'full')
    await left
    assert.equal((await back).id, b.id)
    assert.deepEqual(a.peers()[0]?.holds, ['stage'])
    release()
    const lost = new Promise<LostPeer>(resolve => a.onLost(resolve))
    b.drop(a.id, 'full')
    assert.deepEqual((await within('news of a lost peer', lost)).holds, [])
  })

  it('leaves a dead peer alone after some failures, says until when, probes it, and is friends again', async test => {
    const clock = new ManualClock(systemClock.now())
    const a = await startHost(test, { clock })
    const identity = await createNodeIdentity(systemRandom)
    const { port } = await nobody()
    const listen = [`/ip4/127.0.0.1/tcp/${port}`]
    const addresses = [`${listen[0]}/p2p/${identity.peer}`]
    const open = (): Promise<ByteStream> => a.open(identity.peer, PROTOCOLS.stage, { addresses })
    const rests = { code: 'NET_PEER_RESTING', message: /tried again in [0-9]+ s/ }
    for (let i = 0; i < BREAKER_FAILURES; i++) await assert.rejects(open(), { code: 'NET_DIAL_FAILED' })
    await assert.rejects(open(), rests)
    const states = new Map(a.network().breakers.map(({ key, state }) => [key, state]))
    assert.deepEqual(states, new Map([listen[0], identity.peer].map(key => [key, 'open'])))
    for (let round = 0; round < 3; round++) {
      clock.advance(2 * BREAKER_WAIT_MS_MAX)
      await assert.rejects(open(), { code: 'NET_DIAL_FAILED' })
      await assert.rejects(open(), rests)
    }
    const b = await startHost(test, { identity, listen })
    b.handle(PROTOCOLS.stage, stream => stream.close())
    await assert.rejects(open(), rests)
    clock.advance(2 * BREAKER_WAIT_MS_MAX)
    assert.equal((await open()).peer, b.id)
    assert.deepEqual(a.network().breakers, [])
  })

  it('leaves an address alone under whatever name it comes', async test => {
    const a = await startHost(test, { clock: new ManualClock(systemClock.now()) })
    const { port } = await nobody()
    const names = await Promise.all(Array.from({ length: BREAKER_FAILURES + 1 }, nobody))
    for (const [i, { peer }] of names.entries()) {
      const code = i < BREAKER_FAILURES ? 'NET_DIAL_FAILED' : 'NET_PEER_RESTING'
      const addresses = [`/ip4/127.0.0.1/tcp/${port}/p2p/${peer}`]
      await assert.rejects(a.open(peer, PROTOCOLS.stage, { addresses }), { code })
    }
  })

  it('forgets the failures of a peer that comes by itself', async test => {
    const clock = new ManualClock(systemClock.now())
    const [a, b] = [await startHost(test, { clock }), await startHost(test)]
    const { port } = await nobody()
    const addresses = [`/ip4/127.0.0.1/tcp/${port}/p2p/${b.id}`]
    for (let i = 0; i < BREAKER_FAILURES; i++) await assert.rejects(a.open(b.id, PROTOCOLS.stage, { addresses }))
    await b.connect(firstAddress(a))
    await hasPeers(a, [b.id])
    assert.deepEqual(
      a.network().breakers.map(({ key }) => key),
      [`/ip4/127.0.0.1/tcp/${port}`],
    )
  })
})
