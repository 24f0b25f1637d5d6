import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createStreamPair, ManualClock, silentLogger, systemRandom } from '#base'
import { createNodeIdentity } from '#identity'
import { PROTOCOLS, type RelayMessage } from '#wire'
import { turns } from '../../../test/support/turns.ts'
import { decodeAddress } from '../address.ts'
import type { BytePipe } from '../adopt.ts'
import { DEFAULT_SETTINGS } from '../settings.ts'
import { RelayClient, type RelayClientDeps } from './client.ts'
import { RELAY_INCOMING_BURST, RELAY_LINGER_MS, RELAY_OWN_CIRCUITS_MAX } from './limits.ts'
import { RelayStream } from './relay-stream.ts'

const idOf = async (): Promise<string> => (await createNodeIdentity(systemRandom)).peer
const [SELF, RELAY, PEER] = [await idOf(), await idOf(), await idOf()]
const SESSION = new Uint8Array(16).fill(1)
const LIMITS = { bytes: 1, durationMs: 1, bytesPerSecond: 1 }

/** A client, the streams that it opens as the relay sees them, and the pipes that became connections. */
function bench(more: Partial<RelayClientDeps> = {}) {
  const clock = new ManualClock()
  const opened: RelayStream[] = []
  const pipes: BytePipe[] = []
  const stopping = new AbortController()
  const client = new RelayClient({
    clock,
    log: silentLogger,
    settings: DEFAULT_SETTINGS,
    self: SELF,
    reach: () => Promise.resolve(),
    isDirect: peer => peer === RELAY,
    open: relay => {
      const [here, there] = createStreamPair(PROTOCOLS.relay, { a: SELF, b: relay })
      opened.push(new RelayStream(there))
      return Promise.resolve(here)
    },
    adopt: pipe => {
      pipes.push(pipe)
      return Promise.reject(new Error('the handshake failed'))
    },
    adoptInbound: pipe => {
      pipes.push(pipe)
      return Promise.resolve()
    },
    holds: (relay, session) => relay === RELAY && session[0] === 1,
    stopping: stopping.signal,
    ...more,
  })
  /** The relay brings a circuit. @returns its end of the stream */
  const incoming = (message: Partial<Extract<RelayMessage, { type: 'incoming' }>> = {}, relay = RELAY): RelayStream => {
    const [here, there] = createStreamPair(PROTOCOLS.relay, { a: SELF, b: relay })
    const whole = { type: 'incoming', peer: PEER, session: SESSION, limits: LIMITS, ...message } as const
    client.incoming(new RelayStream(here), whole).catch(() => undefined)
    return new RelayStream(there)
  }
  return { clock, client, opened, pipes, stopping, incoming }
}

async function wordOf(stream: RelayStream): Promise<string> {
  const message = await stream.message()
  assert.ok(message !== undefined && !('code' in message))
  return message.type
}

describe('net / relay / client', () => {
  it('takes a circuit of a relay that it holds a reservation at, and no other', async () => {
    const { incoming, client, stopping } = bench()
    assert.equal(await wordOf(incoming({ session: new Uint8Array(16).fill(2) })), 'refused')
    assert.equal(await wordOf(incoming({}, PEER)), 'refused')
    assert.equal(await wordOf(incoming({ peer: SELF })), 'refused')
    assert.equal(await wordOf(incoming({ peer: RELAY })), 'refused')
    assert.deepEqual(client.circuits(), [])
    assert.equal(await wordOf(incoming()), 'accept')
    const [circuit] = client.circuits()
    assert.deepEqual(circuit, { peer: PEER, relay: RELAY, direction: 'inbound', bytesIn: 0, bytesOut: 0 })
    stopping.abort()
    assert.equal(await wordOf(incoming()), 'refused')
  })

  it('bounds the circuits that a relay brings, at once and in a second', async () => {
    const atOnce = bench()
    const words = await Promise.all(Array.from({ length: RELAY_OWN_CIRCUITS_MAX + 1 }, () => wordOf(atOnce.incoming())))
    assert.equal(words.filter(word => word === 'accept').length, RELAY_OWN_CIRCUITS_MAX)
    const inTurn = bench()
    for (let index = 0; index < RELAY_INCOMING_BURST; index++) {
      assert.equal(await wordOf(inTurn.incoming()), 'accept')
      inTurn.pipes[index]?.abort(new Error('done'))
    }
    assert.deepEqual(inTurn.client.circuits(), [])
    assert.equal(await wordOf(inTurn.incoming()), 'refused')
    inTurn.clock.advance(1_000)
    assert.equal(await wordOf(inTurn.incoming()), 'accept')
  })

  it('tells its reader why the relay has ended a circuit, in an error with a code', async () => {
    for (const reason of ['bytes', 'duration', 'stopping'] as const) {
      const { incoming, pipes, client } = bench()
      const relay = incoming()
      assert.equal(await wordOf(relay), 'accept')
      relay.send(Uint8Array.of(1, 2, 3))
      relay.say({ type: 'cut', reason })
      const received: number[] = []
      const reading = async (): Promise<void> => {
        for await (const piece of pipes[0]?.received ?? []) received.push(...piece)
      }
      await assert.rejects(reading(), { fault: { code: 'NET_RELAY_CUT', relay: RELAY, peer: PEER, reason } })
      assert.deepEqual(received, [1, 2, 3])
      assert.deepEqual(client.circuits(), [])
    }
  })

  it('takes a message in the middle of a circuit for what it is, a fault of the relay', async () => {
    const { incoming, pipes } = bench()
    const relay = incoming()
    relay.say({ type: 'accept' })
    await turns()
    const iterator = pipes[0]?.received[Symbol.asyncIterator]()
    await assert.rejects(async () => iterator?.next(), { code: 'NET_RELAY_CUT' })
  })

  it('asks a relay by an address, and lets the circuit go where no connection comes of it', async () => {
    const { client, opened } = bench()
    const address = decodeAddress(`/ip4/192.0.2.1/tcp/1/p2p/${RELAY}/p2p-circuit/p2p/${PEER}`)
    assert.ok(address !== undefined)
    const dialling = client.dial(address, { signal: new AbortController().signal })
    dialling.catch(() => undefined)
    await turns()
    assert.deepEqual(await opened[0]?.message(), { type: 'connect', peer: PEER })
    opened[0]?.say({ type: 'connected', peer: PEER, limits: LIMITS })
    await assert.rejects(dialling, /handshake failed/)
    await assert.rejects(async () => opened[0]?.message())
  })

  it('does not take another peer than the one that it asked for, nor a path through a second relay', async () => {
    const { client, opened } = bench()
    const address = decodeAddress(`/ip4/192.0.2.1/tcp/1/p2p/${RELAY}/p2p-circuit/p2p/${PEER}`)
    assert.ok(address !== undefined)
    const signal = new AbortController().signal
    const dialling = client.dial(address, { signal })
    dialling.catch(() => undefined)
    await turns()
    opened[0]?.say({ type: 'connected', peer: RELAY, limits: LIMITS })
    await assert.rejects(dialling, { code: 'NET_RELAY_REFUSED' })
    const far = bench({ isDirect: () => false })
    await assert.rejects(far.client.dial(address, { signal }), { code: 'NET_RELAY_REFUSED' })
    assert.equal(far.opened.length, 0)
    far.clock.advance(RELAY_LINGER_MS)
  })
})
