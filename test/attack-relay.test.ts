/** Attacks on a node that relays: what its peers may ask of it, how much of it, and what they may make of other nodes by it. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { concatBytes, seededRandom, systemRandom } from '#base'
import { type Host, RELAY_CIRCUIT_BYTES_MAX, RELAY_GROUP_MAX, RELAY_RESERVE_BURST } from '#net'
import { encodeRelayMessage, PROTOCOLS, type RelayFrame, RelayFrameReader, type RelayMessage } from '#wire'
import { useAttackedNode } from './support/attacked-node.ts'
import { nextEvent, startHost, within } from './support/net-hosts.ts'

// An open swarm: everybody is a stranger.
const node = useAttackedNode({ args: ['--relay', 'on'] })

type Test = { after(end: () => Promise<void>): void }

/** A peer that listens nowhere and holds no reservation of its own accord. */
async function stranger(test: Test): Promise<Host> {
  const host = await startHost(test, { listen: [], isPublic: () => true, relay: 'off' })
  await host.connect(node.address)
  return host
}

/** What the node answers first; undefined: nothing but the end of the stream. */
async function firstAnswer(host: Host, bytes: Uint8Array): Promise<RelayMessage | undefined> {
  const stream = await host.open(node.id, PROTOCOLS.relay)
  stream.send(bytes)
  const reader = new RelayFrameReader()
  try {
    for await (const piece of stream.received) {
      const frames = reader.push(piece)
      assert.ok(!('code' in frames), 'a node keeps to the protocol')
      const first: RelayFrame | undefined = frames[0]
      if (first?.kind === 'message') return first.message
    }
  } catch {
    // Reset: that is an answer too.
  }
  return undefined
}

async function reasonOf(host: Host, message: RelayMessage): Promise<string | undefined> {
  const answer = await within('an answer', firstAnswer(host, encodeRelayMessage(message)))
  return answer?.type === 'refused' ? answer.reason : answer?.type
}

/** A peer behind the relay. */
async function behind(test: Test): Promise<{ readonly host: Host; readonly address: string }> {
  const host = await startHost(test, { listen: [] })
  const held = new Promise<void>(resolve => {
    host.relay.onAddresses(() => resolve())
  })
  await host.connect(node.address)
  if (host.relay.addresses().length === 0) await within('a reservation', held)
  const [address = ''] = host.relay.addresses()
  return { host, address }
}

describe('attack: relay', () => {
  it('garbage and messages out of turn on relay streams end those streams and nothing else', async test => {
    const seed = systemRandom.uint32()
    test.diagnostic(`seed ${seed}`)
    const random = seededRandom(seed)
    const host = await stranger(test)
    const whole = concatBytes(
      [{ type: 'reserve' } as const, { type: 'connect', peer: node.id } as const].map(encodeRelayMessage),
    )
    for (let round = 0; round < 40; round++) {
      const bytes = round % 2 === 0 ? random.bytes(1 + (random.uint32() % 300)) : whole.slice()
      bytes[random.uint32() % bytes.byteLength] = 0xff
      const stream = await host.open(node.id, PROTOCOLS.relay)
      stream.send(bytes)
      stream.abort(new Error('enough'))
    }
    for (const type of ['accept', 'reserved', 'connected'] as const) {
      const limits = { bytes: 1, durationMs: 1, bytesPerSecond: 1 }
      const session = new Uint8Array(16)
      const message = { type, session, expiresInMs: 1, addresses: [], limits, peer: 'x' } as RelayMessage
      assert.equal(await reasonOf(host, message), 'malformed')
    }
    await node.survives()
  })

  it('one address cannot take all places of a relay, and those of peers that have gone are free at once', async test => {
    const holders = await Promise.all(Array.from({ length: RELAY_GROUP_MAX }, () => behind(test)))
    const newcomer = await stranger(test)
    assert.equal(await reasonOf(newcomer, { type: 'reserve' }), 'per-group')
    await Promise.all(holders.map(({ host }) => host.stop()))
    assert.equal(await reasonOf(newcomer, { type: 'reserve' }), 'reserved')
    await node.survives()
  })

  it('reservations that are asked for again and again are refused, whoever comes back under the same name', async test => {
    const host = await stranger(test)
    const answers: (string | undefined)[] = []
    for (let index = 0; index <= RELAY_RESERVE_BURST; index++) answers.push(await reasonOf(host, { type: 'reserve' }))
    assert.equal(answers.filter(answer => answer === 'reserved').length, RELAY_RESERVE_BURST)
    assert.equal(answers.at(-1), 'rate')
    await node.survives()
  })

  it('circuits in a circle, to nobody, or that nobody asked for, are refused', async test => {
    const { host, address } = await behind(test)
    const other = await stranger(test)
    assert.equal(await reasonOf(host, { type: 'connect', peer: host.id }), 'loop')
    assert.equal(await reasonOf(host, { type: 'connect', peer: node.id }), 'loop')
    assert.equal(await reasonOf(other, { type: 'connect', session: systemRandom.bytes(16) }), 'no-reservation')
    const limits = { bytes: 1, durationMs: 1, bytesPerSecond: 1 }
    const incoming = { type: 'incoming', peer: host.id, session: systemRandom.bytes(16), limits } as const
    assert.equal(await reasonOf(other, incoming), 'refused')
    // By way of a peer that is here through the relay.
    await other.connect(address)
    await assert.rejects(other.connect(`/p2p/${host.id}/p2p-circuit/p2p/${(await stranger(test)).id}`), {
      code: 'NET_RELAY_REFUSED',
    })
    await node.survives()
  })

  it('a circuit of strangers over its bytes is cut, and its ends lose nothing else', async test => {
    const { host, address } = await behind(test)
    const other = await stranger(test)
    await other.connect(address)
    // Of a protocol whose streams end with their connection.
    host.handle(PROTOCOLS.json, async stream => {
      for await (const _ of stream.received);
    })
    const left = [host, other].map(end => nextEvent(end, event => event.kind === 'left'))
    const stream = await other.open(host.id, PROTOCOLS.json)
    const flood = async (): Promise<void> => {
      for (let sent = 0; sent < 4 * RELAY_CIRCUIT_BYTES_MAX; sent += 16 * 1024) {
        if (!stream.send(new Uint8Array(16 * 1024))) await stream.drained()
      }
      await stream.close()
    }
    await assert.rejects(within('the cut', flood()))
    await Promise.all(left)
    for (const end of [host, other])
      assert.deepEqual(
        end.peers().map(({ id }) => id),
        [node.id],
      )
    const { relay } = await node.process.client.status()
    assert.deepEqual(relay?.serving.circuits, [])
    assert.ok(relay.serving.bytes <= 3 * RELAY_CIRCUIT_BYTES_MAX)
    await node.survives()
  })
})
