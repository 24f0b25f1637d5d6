import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { systemRandom, createStreamPair, ManualClock, seededRandom } from '#base'
import { createNodeIdentity } from '#identity'
import { PROTOCOLS, type RelayMessage } from '#wire'
import { turns } from '../../../test/support/turns.ts'
import { STRANGER_LIMITS } from './circuit-limits.ts'
import { RELAY_KEEPALIVE_MS, RELAY_KEEPALIVES_MISSED_MAX, RELAY_PROBES, RELAY_RESERVATION_MS } from './limits.ts'
import { RelayStream } from './relay-stream.ts'
import { type Grant, holdReservation, probeRelay, type ReservationDeps } from './reservation.ts'

const { peer: RELAY } = await createNodeIdentity(systemRandom)
const { peer: OTHER } = await createNodeIdentity(systemRandom)
const ADDRESS = `/ip4/192.0.2.1/tcp/4001/p2p/${RELAY}`
const SESSION = new Uint8Array(16).fill(9)

const reserved = (addresses: string[] = [ADDRESS]): RelayMessage => ({
  type: 'reserved',
  session: SESSION,
  expiresInMs: RELAY_RESERVATION_MS,
  addresses,
  limits: STRANGER_LIMITS,
})

/** A holder, and the relay's end of its stream. */
function bench() {
  const clock = new ManualClock()
  const [here, there] = createStreamPair(PROTOCOLS.relay, { a: 'b', b: RELAY })
  const relay = new RelayStream(there)
  const deps: ReservationDeps = { clock, random: seededRandom(3), open: () => Promise.resolve(here) }
  const grants: Grant[] = []
  const samples: (number | undefined)[] = []
  const abort = new AbortController()
  const hold = (): Promise<never> => {
    const held = holdReservation(deps, {
      relay: RELAY,
      signal: abort.signal,
      onGranted: grant => grants.push(grant),
      onSample: sample => samples.push(sample),
    })
    held.catch(() => undefined) // Looked at later.
    return held
  }
  return { clock, relay, deps, grants, samples, abort, hold }
}

describe('net / relay / reservation', () => {
  it('is kept alive every five seconds, renewed long before its end, and measured all the while', async () => {
    const { clock, relay, grants, samples, abort, hold } = bench()
    const held = hold()
    await turns()
    assert.deepEqual(await relay.message(), { type: 'reserve' })
    relay.say(reserved())
    await turns()
    let renewedAt: number | undefined
    while (renewedAt === undefined) {
      clock.advance(RELAY_KEEPALIVE_MS)
      await turns()
      let message = await relay.message()
      if (message !== undefined && !('code' in message) && message.type === 'reserve') {
        renewedAt = clock.monotonic()
        relay.say(reserved([ADDRESS.replace('4001', '4002')]))
        message = await relay.message()
      }
      assert.ok(message !== undefined && !('code' in message) && message.type === 'keepalive')
      clock.advance(40)
      relay.say({ type: 'alive', id: message.id })
      await turns()
    }
    assert.ok(renewedAt > RELAY_RESERVATION_MS * 0.5 && renewedAt < RELAY_RESERVATION_MS * 0.76)
    assert.deepEqual([...new Set(samples)], [40])
    assert.deepEqual(
      grants.map(({ addresses }) => addresses),
      [[ADDRESS], [ADDRESS.replace('4001', '4002')]],
    )
    abort.abort(new Error('enough'))
    await assert.rejects(held, /enough/)
    await assert.rejects(relay.message())
  })

  it('is lost when keepalives are not answered, and when the stream ends', async () => {
    const silent = bench()
    const held = silent.hold()
    silent.relay.say(reserved())
    await turns()
    for (let index = 0; index <= RELAY_KEEPALIVES_MISSED_MAX; index++) {
      silent.clock.advance(RELAY_KEEPALIVE_MS)
      await turns()
    }
    await assert.rejects(held, { code: 'NET_CONNECTION_LOST' })
    assert.deepEqual(silent.samples, Array(RELAY_KEEPALIVES_MISSED_MAX).fill(undefined))
    const ended = bench()
    const second = ended.hold()
    ended.relay.say(reserved())
    await turns()
    ended.relay.abort(new Error('gone'))
    await assert.rejects(second, { code: 'STREAM_RESET' })
  })

  it('tells why it was not given, and when to ask again', async () => {
    const { relay, hold } = bench()
    const held = hold()
    relay.say({ type: 'refused', reason: 'rate', retryAfterMs: 5 })
    const fault = { code: 'NET_RELAY_REFUSED', relay: RELAY, reason: 'rate', retryAfterMs: 5 }
    await assert.rejects(held, { fault })
  })

  it('takes no address from a relay that is not its own, and no message out of turn', async () => {
    const lying = bench()
    void lying.hold()
    lying.relay.say(reserved([ADDRESS.replace(RELAY, OTHER), `${ADDRESS}/p2p-circuit/p2p/${OTHER}`, 'x', ADDRESS]))
    await turns()
    assert.deepEqual(lying.grants, [{ session: SESSION, addresses: [ADDRESS] }])
    lying.abort.abort()
    const rude = bench()
    const held = rude.hold()
    rude.relay.say(reserved())
    rude.relay.say({ type: 'accept' })
    await assert.rejects(held, { code: 'NET_RELAY_REFUSED' })
  })

  it('is given up where no answer comes', async () => {
    const { clock, hold } = bench()
    const held = hold()
    await turns()
    clock.advance(5_000)
    await assert.rejects(held, { code: 'TIMEOUT' })
  })

  it('measures a relay before there is a reservation', async () => {
    const { clock, relay, deps } = bench()
    const probed = probeRelay(deps, RELAY, { signal: new AbortController().signal })
    for (let index = 0; index < RELAY_PROBES; index++) {
      const message = await relay.message()
      assert.ok(message !== undefined && !('code' in message) && message.type === 'keepalive')
      clock.advance(10 * (index + 1))
      relay.say({ type: 'alive', id: message.id })
    }
    assert.deepEqual(await probed, [10, 20, 30])
    const other = bench()
    const unanswered = probeRelay(other.deps, RELAY, { signal: new AbortController().signal })
    await turns()
    other.clock.advance(5_000)
    assert.deepEqual(await unanswered, [undefined])
  })
})
