import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { systemRandom } from '#base'
import { createNodeIdentity } from '#identity'
import { PROTOCOLS } from '#wire'
import { turns } from '../../../test/support/turns.ts'
import {
  firstAddress,
  hasPeers,
  nextEvent,
  startHost,
  type TestHostOptions,
  within,
} from '../../../test/support/net-hosts.ts'
import { NetError } from '../errors.ts'
import { DEFAULT_SETTINGS } from '../settings.ts'
import type { Host } from '../types.ts'
import { RELAY_CIRCUIT_BYTES_MAX } from './limits.ts'
import { RelayStream } from './relay-stream.ts'

type Test = { after(action: () => Promise<void>): void }

/** A host that nobody can dial: it listens nowhere. */
const hidden = (test: Test, options: TestHostOptions = {}): Promise<Host> =>
  startHost(test, { listen: [], isPublic: () => false, ...options })

const relayHost = (test: Test, options: TestHostOptions = {}): Promise<Host> =>
  startHost(test, { relay: 'on', ...options })

/** Resolves once the host holds so many addresses through relays. */
function relayed(host: Host, count = 1): Promise<readonly string[]> {
  const { promise, resolve } = Promise.withResolvers<readonly string[]>()
  const look = (): void => {
    if (host.relay.addresses().length === count) resolve(host.relay.addresses())
  }
  host.relay.onAddresses(look)
  look()
  return within('addresses through relays', promise)
}

/** A relay, and a host behind it. */
async function behindRelay(test: Test, options: TestHostOptions = {}): Promise<{ r: Host; b: Host; address: string }> {
  const r = await relayHost(test, options)
  const b = await hidden(test, options)
  await b.connect(firstAddress(r))
  const [address = ''] = await relayed(b)
  return { r, b, address }
}

describe('net / relay', () => {
  it('connects two hosts that cannot dial each other, with a session of their own and streams both ways', async test => {
    const { r, b, address } = await behindRelay(test, { secret: 's', meet: false })
    const a = await hidden(test, { secret: 's', meet: false })
    assert.equal(await a.connect(address), b.id)
    await hasPeers(a, [r.id, b.id])
    const atA = a.peers().find(({ id }) => id === b.id)
    const atB = b.peers().find(({ id }) => id === a.id)
    assert.deepEqual(atA?.path, { kind: 'relayed', transport: 'tcp', via: r.id })
    assert.deepEqual(atB?.path, { kind: 'relayed', transport: 'tcp', via: r.id })
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      to.handle(PROTOCOLS.stage, async stream => {
        for await (const piece of stream.received) stream.send(piece)
        await stream.close()
      })
      const stream = await from.open(to.id, PROTOCOLS.stage)
      stream.send(Uint8Array.of(1, 2, 3))
      await stream.close()
      const received: number[] = []
      for await (const piece of stream.received) received.push(...piece)
      assert.deepEqual(received, [1, 2, 3])
    }
    const { serving } = r.relay.status()
    assert.deepEqual(serving.circuits, [{ from: a.id, to: b.id }])
    assert.deepEqual(serving.peers.map(({ peer }) => peer).sort(), [a.id, b.id].sort())
    assert.ok(serving.peers.every(({ bytes }) => bytes > 0))
  })

  it('is reached at a circuit that does not name it, as a DHT keeps it, and whomever else of its relay nobody reached', async test => {
    const { r, b, address } = await behindRelay(test)
    const a = await hidden(test)
    await a.connect(firstAddress(r))
    const circuit = address.slice(0, address.lastIndexOf('/p2p/'))
    const { breakerFailures } = DEFAULT_SETTINGS
    for (let times = 0; times < breakerFailures; times++) {
      const { peer } = await createNodeIdentity(systemRandom)
      await assert.rejects(a.connect(`${circuit}/p2p/${peer}`), { code: 'NET_RELAY_REFUSED' })
    }
    b.handle(PROTOCOLS.stage, stream => stream.close())
    const stream = await a.open(b.id, PROTOCOLS.stage, { addresses: [circuit] })
    assert.equal(stream.peer, b.id)
    await stream.close()
  })

  it('is connected to by a peer that has never met the relay, and in an introduction', async test => {
    const r = await relayHost(test, { secret: 's' })
    const b = await hidden(test, { secret: 's' })
    await b.connect(firstAddress(r))
    await relayed(b)
    // The relay tells newcomers of b, whose own signed record says by which relay it is reached.
    const a = await hidden(test, { secret: 's' })
    await a.connect(firstAddress(r))
    await hasPeers(a, [r.id, b.id])
    assert.equal(a.peers().find(({ id }) => id === b.id)?.path.kind, 'relayed')
  })

  it('carries 10 MB to a slow reader, and holds little of it on the way', async test => {
    const { b, address } = await behindRelay(test, { secret: 's', meet: false })
    const a = await hidden(test, { secret: 's', meet: false })
    await a.connect(address)
    const [pieceBytes, count] = [64 * 1024, 160]
    let [sent, read, most] = [0, 0, 0]
    const whole = Promise.withResolvers<void>()
    b.handle(PROTOCOLS.stage, async stream => {
      for await (const piece of stream.received) {
        for (let index = 0; index < piece.byteLength; index += 4_093) {
          assert.equal(piece[index], Math.floor((read + index) / pieceBytes) % 251)
        }
        read += piece.byteLength
        most = Math.max(most, sent - read)
        await turns(10)
      }
      await stream.close()
      whole.resolve()
    })
    const stream = await a.open(b.id, PROTOCOLS.stage)
    for (let index = 0; index < count; index++) {
      sent += pieceBytes
      if (!stream.send(new Uint8Array(pieceBytes).fill(index % 251))) await stream.drained()
    }
    await stream.close()
    await within('the whole', whole.promise)
    assert.equal(read, pieceBytes * count)
    assert.ok(most < 4 * 1024 * 1024, `${most} bytes were on their way`)
  })

  it('takes a place at another relay when one dies, and is reached by that', async test => {
    const options = { secret: 's', meet: false }
    const [first, second] = [await relayHost(test, options), await relayHost(test, options)]
    const b = await hidden(test, { ...options, relaysHeld: 1 })
    for (const relay of [first, second]) await b.connect(firstAddress(relay))
    const [address = ''] = await relayed(b)
    const [dying, left] = address.includes(first.id) ? [first, second] : [second, first]
    const changes: number[] = []
    b.relay.onAddresses(() => changes.push(b.relay.addresses().length))
    const moved = new Promise<void>(resolve => {
      b.relay.onAddresses(() => b.relay.addresses()[0]?.includes(left.id) === true && resolve())
    })
    await dying.stop()
    await within('a reservation at the other relay', moved)
    // It went at once, before there was another.
    assert.deepEqual(changes, [0, 1])
    assert.ok(b.addresses().every(text => !text.includes(dying.id)))
    const a = await hidden(test, options)
    assert.equal(await a.connect(b.addresses()[0] ?? ''), b.id)
  })

  it('frees a place the moment that its holder is gone', async test => {
    const { r, b } = await behindRelay(test, { secret: 's', meet: false })
    assert.deepEqual(
      r.relay.status().serving.reservations.map(({ peer }) => peer),
      [b.id],
    )
    const left = nextEvent(r, event => event.kind === 'left')
    await b.stop()
    await left
    assert.deepEqual(r.relay.status().serving.reservations, [])
    assert.equal(r.relay.status().serving.slotsFree, r.relay.status().serving.slots)
  })

  it('passes nothing on that the relay could read', async test => {
    const { r, b, address } = await behindRelay(test, { secret: 's', meet: false })
    const a = await hidden(test, { secret: 's', meet: false })
    const plain = 'what only the two ends may know '
    // Whatever enters a circuit, at its ends and in its middle, goes through here.
    const tap = test.mock.method(RelayStream.prototype, 'send')
    await a.connect(address)
    const heard = Promise.withResolvers<string>()
    b.handle(PROTOCOLS.stage, async stream => {
      const pieces: Uint8Array[] = []
      for await (const piece of stream.received) pieces.push(piece.slice())
      heard.resolve(Buffer.concat(pieces).toString())
      await stream.close()
    })
    const stream = await a.open(b.id, PROTOCOLS.stage)
    stream.send(Buffer.from(plain.repeat(100)))
    await stream.close()
    assert.equal(await within('the text', heard.promise), plain.repeat(100))
    const all = Buffer.concat(tap.mock.calls.map(({ arguments: [bytes] }) => bytes))
    assert.ok(all.byteLength > 2 * 100 * plain.length)
    for (const secret of [plain, PROTOCOLS.stage, PROTOCOLS.control, b.id]) assert.equal(all.includes(secret), false)
    assert.ok(r.relay.status().serving.bytes > 100 * plain.length)
  })

  it('cuts a circuit of strangers over its bytes; both ends lose the connection and nothing else', async test => {
    const { r, b, address } = await behindRelay(test)
    const a = await hidden(test)
    await a.connect(address)
    // Of a protocol whose streams end with their connection.
    b.handle(PROTOCOLS.json, async stream => {
      for await (const _ of stream.received);
    })
    const left = [a, b].map(host => nextEvent(host, event => event.kind === 'left'))
    const stream = await a.open(b.id, PROTOCOLS.json)
    const sending = (async () => {
      for (let index = 0; index < 100; index++) if (!stream.send(new Uint8Array(16 * 1024))) await stream.drained()
      await stream.close()
    })()
    const failed = assert.rejects(sending)
    // The stream would go on over the next circuit.
    await Promise.race(left)
    stream.abort(new Error('enough'))
    await failed
    assert.deepEqual(
      (await Promise.all(left)).map(({ id }) => id),
      [b.id, a.id],
    )
    const { serving } = r.relay.status()
    assert.deepEqual(serving.circuits, [])
    assert.ok(serving.bytes <= RELAY_CIRCUIT_BYTES_MAX)
    assert.deepEqual([a.relay.status().circuits, b.relay.status().circuits], [[], []])
    assert.deepEqual(
      [a, b].map(host => host.peers().map(({ id }) => id)),
      [[r.id], [r.id]],
    )
  })

  it('refuses circuits that lead nowhere, to themselves, or through two relays', async test => {
    const { r, b, address } = await behindRelay(test, { secret: 's', meet: false })
    const a = await hidden(test, { secret: 's', meet: false })
    const refusedWith = async (from: Host, target: string, reason: string): Promise<void> => {
      await assert.rejects(from.connect(target), error => {
        assert.ok(error instanceof NetError, String(error))
        assert.equal('reason' in error.fault ? error.fault.reason : error.code, reason)
        return true
      })
    }
    const nobody = (await createNodeIdentity(systemRandom)).peer
    await refusedWith(a, address.replace(/[^/]+$/, nobody), 'no-reservation')
    await refusedWith(await hidden(test, { secret: 's' }), address.replace(/[^/]+$/, r.id), 'loop')
    await refusedWith(b, address, 'NET_DIAL_FAILED')
    await refusedWith(a, address.replace(/\/p2p\/[^/]+$/, ''), 'NET_DIAL_FAILED')
    await refusedWith(a, `/p2p/${nobody}/p2p-circuit/p2p/${b.id}`, 'NET_PEER_UNKNOWN')
    // One that does not relay, though it may be asked.
    const c = await startHost(test, { secret: 's', meet: false, relay: 'off' })
    await refusedWith(a, `${firstAddress(c)}/p2p-circuit/p2p/${b.id}`, 'not-a-relay')
    // A is here by way of r only: it is no relay for a circuit.
    await a.connect(address)
    await refusedWith(a, `/p2p/${b.id}/p2p-circuit/p2p/${nobody}`, 'loop')
    await refusedWith(a, `${firstAddress(r)}/p2p-circuit/p2p/${b.id}/p2p-circuit/p2p/${nobody}`, 'NET_ADDRESS_INVALID')
  })

  it('relays by the mode that it is given and by whether it is public', async test => {
    await assert.rejects(startHost(test, { relay: 'on', isPublic: () => false }), { code: 'NET_RELAY_NOT_PUBLIC' })
    let isPublic: boolean | undefined
    const r = await startHost(test, { isPublic: () => isPublic })
    const b = await hidden(test)
    await b.connect(firstAddress(r))
    assert.equal(r.relay.status().serving.isServing, false)
    isPublic = true
    r.relay.reachabilityChanged()
    await relayed(b)
    assert.equal(r.relay.status().serving.isServing, true)
    assert.deepEqual(r.relay.addresses(), [])
  })
})
