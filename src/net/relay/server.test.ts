import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createStreamPair, ManualClock, seededRandom, silentLogger } from '#base'
import { encodeRelayMessage, PROTOCOLS, type RelayMessage } from '#wire'
import { turns } from '../../../test/support/turns.ts'
import type { Applicant } from './book.ts'
import { STRANGER_LIMITS, TRUSTED_LIMITS } from './circuit-limits.ts'
import {
  RELAY_CONNECT_BURST,
  RELAY_COUNTED_PEERS_MAX,
  RELAY_KEEPALIVE_BURST,
  RELAY_KEEPALIVE_MS,
  RELAY_KEEPALIVES_MISSED_MAX,
  RELAY_LINGER_MS,
  RELAY_RESERVE_BURST,
  RELAY_RESERVE_REFILL_MS,
  RELAY_STRANGER_CONNECT_BURST,
} from './limits.ts'
import { RelayStream } from './relay-stream.ts'
import { RelayServer, type RelayServerOptions } from './server.ts'

class Bench {
  readonly clock = new ManualClock()
  /** Streams that the relay has opened, by the peer that it opened them to. */
  readonly opened = new Map<string, RelayStream>()
  readonly relayed = new Set<string>()
  readonly trusted = new Set<string>()
  readonly groups = new Map<string, string>()
  isPublic: boolean | undefined = undefined
  changes = 0
  readonly server: RelayServer

  constructor(options: Partial<RelayServerOptions> = {}) {
    this.server = new RelayServer(
      {
        clock: this.clock,
        random: seededRandom(1),
        log: silentLogger,
        self: 'relay',
        isPublic: () => this.isPublic,
        applicant: peer => this.#applicant(peer),
        open: peer => {
          const [here, there] = createStreamPair(PROTOCOLS.relay, { a: 'relay', b: peer })
          this.opened.set(peer, new RelayStream(there))
          return Promise.resolve(here)
        },
        addresses: () => ['/ip4/192.0.2.1/tcp/4001/p2p/relay'],
        onChange: () => this.changes++,
      },
      { mode: 'on', ...options },
    )
  }

  #applicant(peer: string): Applicant | undefined {
    if (this.relayed.has(peer)) return undefined
    return { peer, group: this.groups.get(peer) ?? peer, isTrusted: this.trusted.has(peer) }
  }

  /** A stream of this peer's, whose first message this is. */
  say(peer: string, message: RelayMessage): RelayStream {
    const [atPeer, atRelay] = createStreamPair(PROTOCOLS.relay, { a: peer, b: 'relay' })
    // A stream that is reset ends its handler with an error, as on a host.
    this.server.serve(new RelayStream(atRelay), message).catch(() => undefined)
    return new RelayStream(atPeer)
  }

  async reserve(peer: string): Promise<{ readonly stream: RelayStream; readonly answer: RelayMessage | undefined }> {
    const stream = this.say(peer, { type: 'reserve' })
    return { stream, answer: await messageOf(stream) }
  }

  /** The reason of a refusal, or the type of another answer. */
  async answer(peer: string, message: RelayMessage): Promise<string> {
    const answer = await messageOf(this.say(peer, message))
    return answer?.type === 'refused' ? answer.reason : (answer?.type ?? 'nothing')
  }
}

async function messageOf(stream: RelayStream): Promise<RelayMessage | undefined> {
  const message = await stream.message()
  assert.ok(message === undefined || !('code' in message))
  return message
}

describe('net / relay / server', () => {
  it('gives a reservation with a session id, and lets it go the moment that its stream ends', async () => {
    const bench = new Bench({ reservationsMax: 2 })
    const first = await bench.reserve('b')
    assert.ok(first.answer?.type === 'reserved')
    assert.equal(first.answer.session.byteLength, 16)
    assert.deepEqual(first.answer.addresses, ['/ip4/192.0.2.1/tcp/4001/p2p/relay'])
    assert.deepEqual(first.answer.limits, STRANGER_LIMITS)
    const second = await bench.reserve('c')
    assert.equal(await bench.answer('d', { type: 'reserve' }), 'full')
    first.stream.abort(new Error('gone'))
    await second.stream.close()
    await turns()
    assert.equal(bench.server.status().slotsFree, 2)
    assert.equal(await bench.answer('d', { type: 'reserve' }), 'reserved')
    bench.server.peerLeft('d')
    assert.deepEqual(bench.server.status().reservations, [])
    assert.equal(bench.changes, 6)
  })

  it('lets a reservation go whose holder falls silent on a stream that stands', async () => {
    const bench = new Bench()
    const { stream } = await bench.reserve('b')
    for (let index = 0; index < 10; index++) {
      bench.clock.advance(RELAY_KEEPALIVE_MS)
      stream.say({ type: 'keepalive', id: index })
      assert.deepEqual(await messageOf(stream), { type: 'alive', id: index })
    }
    bench.clock.advance(RELAY_KEEPALIVE_MS * RELAY_KEEPALIVES_MISSED_MAX)
    assert.equal(bench.server.status().reservations.length, 1)
    bench.clock.advance(RELAY_KEEPALIVE_MS)
    assert.equal(bench.server.status().reservations.length, 0)
    await assert.rejects(messageOf(stream))
  })

  it('does not relay where it is off, not known to be public, or known not to be', async () => {
    const answers: string[] = []
    for (const mode of ['off', 'auto', 'on'] as const) {
      for (const isPublic of [undefined, false, true]) {
        const bench = new Bench({ mode })
        bench.isPublic = isPublic
        const answer = await bench.answer('b', { type: 'reserve' })
        assert.equal(bench.server.offer() !== undefined, answer === 'reserved')
        answers.push(answer)
      }
    }
    const [off, auto, on] = [
      ['not-a-relay', 'not-a-relay', 'not-a-relay'],
      ['not-a-relay', 'not-public', 'reserved'],
      ['reserved', 'not-public', 'reserved'],
    ]
    assert.deepEqual(answers, [off, auto, on].flat())
  })

  it('bounds how often a peer asks, and does not forget when the peer comes back', async () => {
    const bench = new Bench()
    for (let index = 0; index < RELAY_RESERVE_BURST; index++) {
      const { stream, answer } = await bench.reserve('b')
      assert.equal(answer?.type, 'reserved')
      stream.abort(new Error('again'))
      bench.server.peerLeft('b')
    }
    const { answer } = await bench.reserve('b')
    assert.ok(answer?.type === 'refused' && answer.reason === 'rate')
    assert.equal(answer.retryAfterMs, RELAY_RESERVE_REFILL_MS)
    // Many names do not get b's count forgotten.
    for (let index = 0; index < 2 * RELAY_COUNTED_PEERS_MAX; index++) await bench.reserve(`other-${index}`)
    assert.equal(await bench.answer('b', { type: 'reserve' }), 'rate')
    bench.clock.advance(RELAY_RESERVE_REFILL_MS)
    assert.notEqual(await bench.answer('b', { type: 'reserve' }), 'rate')
    const ofTrusted = new Bench()
    ofTrusted.trusted.add('a')
    for (const [asked, burst] of [
      [bench, RELAY_STRANGER_CONNECT_BURST],
      [ofTrusted, RELAY_CONNECT_BURST],
    ] as const) {
      asked.clock.advance(RELAY_RESERVE_REFILL_MS * RELAY_RESERVE_BURST)
      for (let index = 0; index < burst; index++) {
        assert.equal(await asked.answer('a', { type: 'connect', peer: 'nobody' }), 'no-reservation')
      }
      assert.equal(await asked.answer('a', { type: 'connect', peer: 'nobody' }), 'rate')
    }
  })

  it('makes a circuit by peer id or by session id, once the target has accepted', async () => {
    const bench = new Bench()
    for (const peer of ['a', 'b']) bench.trusted.add(peer)
    const { answer } = await bench.reserve('b')
    assert.ok(answer?.type === 'reserved')
    const session: Uint8Array = answer.session
    for (const target of [{ peer: 'b' }, { session }]) {
      const a = bench.say('a', { type: 'connect', ...target })
      await turns()
      const b = bench.opened.get('b')
      assert.ok(b !== undefined)
      const incoming: RelayMessage = { type: 'incoming', peer: 'a', session, limits: TRUSTED_LIMITS }
      assert.deepEqual(await messageOf(b), incoming)
      b.say({ type: 'accept' })
      assert.deepEqual(await messageOf(a), { type: 'connected', peer: 'b', limits: TRUSTED_LIMITS })
      a.send(Uint8Array.of(1, 2, 3))
      assert.deepEqual(await b.next(), { kind: 'data', bytes: Uint8Array.of(1, 2, 3) })
      b.send(Uint8Array.of(4))
      assert.deepEqual(await a.next(), { kind: 'data', bytes: Uint8Array.of(4) })
      assert.deepEqual(bench.server.status().circuits, [{ from: 'a', to: 'b' }])
      a.abort(new Error('done'))
      await turns()
      assert.deepEqual(bench.server.status().circuits, [])
      bench.clock.advance(RELAY_LINGER_MS)
    }
    const { bytes, peers } = bench.server.status()
    assert.deepEqual(
      [bytes, peers],
      [
        8,
        [
          { peer: 'a', bytes: 6 },
          { peer: 'b', bytes: 2 },
        ],
      ],
    )
  })

  it('gives a circuit of a stranger to a trusted peer no more than a stranger has', async () => {
    const bench = new Bench()
    bench.trusted.add('b')
    const { answer } = await bench.reserve('b')
    assert.ok(answer?.type === 'reserved')
    assert.deepEqual(answer.limits, TRUSTED_LIMITS)
    bench.say('a', { type: 'connect', peer: 'b' })
    await turns()
    const incoming: RelayMessage | undefined = await messageOf(bench.opened.get('b') as RelayStream)
    assert.ok(incoming?.type === 'incoming')
    assert.deepEqual(incoming.limits, STRANGER_LIMITS)
  })

  it('refuses a circuit to itself, to the relay, by way of another relay, to nobody, and where the target does', async () => {
    const bench = new Bench()
    await bench.reserve('b')
    assert.equal(await bench.answer('b', { type: 'connect', peer: 'b' }), 'loop')
    assert.equal(await bench.answer('a', { type: 'connect', peer: 'a' }), 'loop')
    assert.equal(await bench.answer('a', { type: 'connect', peer: 'relay' }), 'loop')
    assert.equal(await bench.answer('a', { type: 'connect', peer: 'c' }), 'no-reservation')
    assert.equal(await bench.answer('a', { type: 'connect', session: new Uint8Array(16) }), 'no-reservation')
    bench.relayed.add('far')
    assert.equal(await bench.answer('far', { type: 'connect', peer: 'b' }), 'loop')
    assert.equal(await bench.answer('far', { type: 'reserve' }), 'loop')
    const refused = bench.answer('a', { type: 'connect', peer: 'b' })
    await turns()
    bench.opened.get('b')?.say({ type: 'refused', reason: 'refused' })
    assert.equal(await refused, 'refused')
    const silent = bench.answer('a', { type: 'connect', peer: 'b' })
    await turns()
    assert.equal(bench.server.status().circuits.length, 1)
    bench.clock.advance(5_000)
    assert.equal(await silent, 'unreachable')
    assert.equal(bench.server.status().circuits.length, 0)
  })

  it('ends the streams of those who do not keep to the protocol, and of those who keep too busy', async () => {
    const bench = new Bench()
    for (const message of [{ type: 'accept' }, { type: 'cut', reason: 'bytes' }, { type: 'alive', id: 1 }] as const) {
      assert.equal(await bench.answer('a', message), 'malformed')
    }
    const { stream } = await bench.reserve('b')
    stream.say({ type: 'connect', peer: 'c' })
    assert.deepEqual(await messageOf(stream), { type: 'refused', reason: 'malformed' })
    bench.clock.advance(RELAY_LINGER_MS)
    await turns()
    assert.equal(bench.server.status().reservations.length, 0)
    const busy = await bench.reserve('b')
    for (let id = 0; id < RELAY_KEEPALIVE_BURST + 1; id++) busy.stream.say({ type: 'keepalive', id })
    for (let id = 0; id < RELAY_KEEPALIVE_BURST; id++) assert.equal((await messageOf(busy.stream))?.type, 'alive')
    assert.deepEqual(await messageOf(busy.stream), { type: 'refused', reason: 'rate' })
    const [atC, atRelay] = createStreamPair(PROTOCOLS.relay, { a: 'c', b: 'relay' })
    const served = bench.server.serve(new RelayStream(atRelay), { type: 'keepalive', id: 7 })
    atC.send(encodeRelayMessage({ type: 'reserve' }).map(byte => byte ^ 0x55))
    const answers = new RelayStream(atC)
    assert.deepEqual(await messageOf(answers), { type: 'alive', id: 7 })
    assert.deepEqual(await messageOf(answers), { type: 'refused', reason: 'malformed' })
    bench.clock.advance(RELAY_LINGER_MS)
    await served
  })

  it('ends all when it stops, and tells the ends of its circuits', async () => {
    const bench = new Bench()
    const { stream } = await bench.reserve('b')
    const a = bench.say('a', { type: 'connect', peer: 'b' })
    await turns()
    const b = bench.opened.get('b') as RelayStream
    await messageOf(b)
    b.say({ type: 'accept' })
    assert.equal((await messageOf(a))?.type, 'connected')
    const stopped = bench.server.stop()
    for (const end of [a, b]) assert.deepEqual(await messageOf(end), { type: 'cut', reason: 'stopping' })
    await assert.rejects(messageOf(stream))
    bench.clock.advance(RELAY_LINGER_MS)
    await stopped
    assert.equal(await bench.answer('c', { type: 'reserve' }), 'stopping')
  })
})
