import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { describe, it } from 'node:test'
import { concatBytes, systemRandom } from '#base'
import { createNodeIdentity } from '#identity'
import { PROTOCOLS } from '#wire'
import { freePort } from '../../test/support/free-port.ts'
import { NetError } from './errors.ts'
import { firstAddress, hasPeers, nextEvent, offerOf, startHost, within } from '../../test/support/net-hosts.ts'

/** Rejects with a NetError of this code; gives it back for a closer look. */
async function failsWith(code: string, promise: Promise<unknown>): Promise<NetError> {
  try {
    await promise
  } catch (error) {
    assert.ok(error instanceof NetError, `not a NetError: ${String(error)}`)
    assert.equal(error.code, code)
    return error
  }
  throw new Error(`${code} was expected, and nothing was thrown`)
}

/** Two bytes of alert, one of its type, 16 of the tag. */
const SEALED_ALERT_BYTES = 19

const RECORDS: Readonly<Record<number, string>> = {
  20: 'change cipher spec',
  21: 'alert',
  22: 'handshake',
  23: 'sealed',
}

/** The kinds of the TLS records. Alerts are left out: no other sealed record is as short (RFC 8446, 5.2). */
function recordsOf(bytes: Uint8Array): string[] {
  const records: string[] = []
  let at = 0
  // Lines of multistream-select come first, each behind its length: which secure channel is wanted.
  while (bytes[at] !== 22 && at < bytes.byteLength) at += 1 + (bytes[at] ?? 0)
  while (at + 5 <= bytes.byteLength) {
    const length = new DataView(bytes.buffer, bytes.byteOffset + at).getUint16(3)
    if (length !== SEALED_ALERT_BYTES) records.push(RECORDS[bytes[at] ?? 0] ?? '?')
    at += 5 + length
  }
  return records
}

/** A way to the address that keeps what the dialler says on it. */
async function tapped(
  test: { after(action: () => void): void },
  address: string,
): Promise<{ readonly address: string; readonly sent: Promise<Uint8Array> }> {
  const port = Number(/tcp\/([0-9]+)/.exec(address)?.[1])
  const { promise, resolve } = Promise.withResolvers<Uint8Array>()
  const server = createServer(dialler => {
    const pieces: Uint8Array[] = []
    const there = connect(port, '127.0.0.1')
    dialler.on('data', (piece: Uint8Array) => pieces.push(piece)).pipe(there)
    there.pipe(dialler)
    dialler.on('close', () => resolve(concatBytes(pieces)))
    for (const socket of [dialler, there])
      socket.on('error', () => there.destroy(dialler.destroy().errored ?? undefined))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  test.after(() => void server.close())
  return { address: `/ip4/127.0.0.1/tcp/${(server.address() as AddressInfo).port}`, sent: promise }
}

describe('net / host', () => {
  it('admits a peer that knows the secret, and both learn the other offer and round-trip time', async test => {
    const a = await startHost(test, { secret: 's', offer: offerOf('of a') })
    const b = await startHost(test, { secret: 's', offer: offerOf('of b') })
    const seen = nextEvent(b, event => event.kind === 'joined')
    const measured = nextEvent(a, event => event.peer.rttMs !== undefined)
    assert.equal(await a.connect(firstAddress(b)), b.id)
    const [peerOfA] = a.peers()
    assert.equal(peerOfA?.id, b.id)
    assert.equal(peerOfA?.direction, 'outbound')
    assert.equal(peerOfA?.offer.stages[0]?.name, 'of b')
    assert.deepEqual(peerOfA?.addresses, b.addresses())
    const peerOfB = await seen
    assert.equal(peerOfB.id, a.id)
    assert.equal(peerOfB.direction, 'inbound')
    assert.equal(peerOfB.offer.stages[0]?.name, 'of a')
    assert.ok(((await measured).rttMs ?? -1) >= 0)
  })

  it('refuses another secret, and tells both sides', async test => {
    const a = await startHost(test, { secret: 'one', offer: offerOf('secret of a') })
    const b = await startHost(test, { secret: 'two', offer: offerOf('secret of b') })
    const error = await failsWith('NET_NOT_ADMITTED', a.connect(firstAddress(b)))
    assert.deepEqual(error.fault, { code: 'NET_NOT_ADMITTED', peer: b.id, reason: 'proof-wrong', by: 'peer' })
    assert.match(error.message, /secret/)
    assert.deepEqual([a.peers(), b.peers()], [[], []])
  })

  it('refuses where one side has a secret and the other has none, whoever dials', async test => {
    const closed = await startHost(test, { secret: 'one' })
    const open = await startHost(test)
    const reasons: unknown[] = []
    for (const [from, to] of [
      [closed, open],
      [open, closed],
    ] as const) {
      const { fault } = await failsWith('NET_NOT_ADMITTED', from.connect(firstAddress(to)))
      reasons.push('reason' in fault ? fault.reason : undefined)
    }
    assert.deepEqual(reasons, ['secret-unexpected', 'secret-needed'])
    assert.deepEqual([closed.peers(), open.peers()], [[], []])
  })

  it('admits anybody where there is no secret', async test => {
    const [a, b] = [await startHost(test), await startHost(test)]
    await a.connect(firstAddress(b))
    await hasPeers(b, [a.id])
  })

  it('lets peers meet through a third, even when they come at the same time', async test => {
    const hub = await startHost(test, { secret: 's' })
    const guests = await Promise.all([1, 2, 3].map(() => startHost(test, { secret: 's' })))
    await Promise.all(guests.map(guest => guest.connect(firstAddress(hub))))
    const all = [hub, ...guests]
    await Promise.all(
      all.map(host =>
        hasPeers(
          host,
          all.filter(other => other !== host).map(other => other.id),
        ),
      ),
    )
  })

  it('does not dial strangers on the word of strangers: an open swarm makes no introductions', async test => {
    const hub = await startHost(test)
    const [a, b] = [await startHost(test), await startHost(test)]
    await a.connect(firstAddress(hub))
    await b.connect(firstAddress(hub))
    // The last message of B's hello has been handled by now; had it introduced A, B would be dialling.
    const reached = nextEvent(b, event => event.peer.rttMs !== undefined)
    await reached
    assert.deepEqual(
      b.peers().map(peer => peer.id),
      [hub.id],
    )
  })

  it('ends with one peer when both dial at once, and that peer is usable both ways', async test => {
    const [a, b] = [await startHost(test, { secret: 's' }), await startHost(test, { secret: 's' })]
    for (const host of [a, b]) {
      host.handle(PROTOCOLS.stage, async stream => {
        for await (const piece of stream.received) stream.send(piece)
        await stream.close()
      })
    }
    const events: string[] = []
    a.onPeer(event => events.push(event.kind))
    await Promise.all([a.connect(firstAddress(b)), b.connect(firstAddress(a))])
    await Promise.all([hasPeers(a, [b.id]), hasPeers(b, [a.id])])
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      const stream = await from.open(to.id, PROTOCOLS.stage)
      stream.send(Uint8Array.of(1, 2, 3))
      await stream.close()
      const received: number[] = []
      for await (const piece of stream.received) received.push(...piece)
      assert.deepEqual(received, [1, 2, 3])
    }
    assert.deepEqual([events.filter(kind => kind === 'joined').length, events.includes('left')], [1, false])
  })

  it('refuses an address that cannot be dialled, one where nobody listens, and its own', async test => {
    const a = await startHost(test)
    const { peer } = await createNodeIdentity(systemRandom)
    const nobody = `/ip4/127.0.0.1/tcp/${await freePort()}/p2p/${peer}`
    await failsWith('NET_DIAL_FAILED', a.connect(nobody))
    await failsWith('NET_DIAL_FAILED', a.connect(firstAddress(a)))
    for (const bad of ['', 'example.org:80', '/ip4/1.2.3.4/udp/5', '/dnsaddr/example.org', '/ip4/1.2.3.4/tcp/1/wss']) {
      await failsWith('NET_ADDRESS_INVALID', a.connect(bad))
    }
  })

  it('does not take another node for the one whose address it dialled', async test => {
    const [a, b] = [await startHost(test), await startHost(test)]
    const expected = (await createNodeIdentity(systemRandom)).peer
    const address = firstAddress(b).replace(b.id, expected)
    const { fault } = await failsWith('NET_WRONG_PEER', a.connect(address))
    assert.deepEqual(fault, { code: 'NET_WRONG_PEER', expected, actual: b.id })
    await failsWith(
      'NET_WRONG_PEER',
      a.open(expected, PROTOCOLS.stage, { addresses: [firstAddress(b).split('/p2p')[0] ?? ''] }),
    )
    assert.deepEqual(a.peers(), [])
  })

  it('says nothing to the wrong node beyond the TLS handshake', async test => {
    const [a, b] = [await startHost(test), await startHost(test)]
    const expected = (await createNodeIdentity(systemRandom)).peer
    const lives: string[] = []
    for (const host of [a, b]) {
      host.onConnection(({ state }) => lives.push(`${host === a ? 'a' : 'b'} ${state}`))
    }
    const wire = await tapped(test, firstAddress(b))
    await failsWith('NET_WRONG_PEER', a.connect(`${wire.address}/p2p/${expected}`))
    // ClientHello, ChangeCipherSpec, then certificate, its signature and Finished: the first word would be a sixth record.
    const said = recordsOf(await within('the end', wire.sent))
    assert.deepEqual(said, ['handshake', 'change cipher spec', 'sealed', 'sealed', 'sealed'])
    assert.ok(!lives.some(life => life.startsWith('a') || life.endsWith('connected')), lives.join())
    assert.deepEqual([a.peers(), b.peers()], [[], []])
  })

  it('opens a stream to a peer it has to dial first, past an address that leads nowhere', async test => {
    const [a, b] = [await startHost(test), await startHost(test)]
    const nowhere = `/ip4/127.0.0.1/tcp/${await freePort()}/p2p/${b.id}`
    b.handle(PROTOCOLS.stage, stream => stream.close())
    await failsWith('NET_PEER_UNKNOWN', a.open(b.id, PROTOCOLS.stage))
    const stream = await a.open(b.id, PROTOCOLS.stage, { addresses: [nowhere, firstAddress(b)] })
    assert.deepEqual([stream.peer, stream.protocol], [b.id, PROTOCOLS.stage])
    for await (const _ of stream.received) assert.fail('nothing was sent')
  })

  it('says when a peer does not serve a protocol', async test => {
    const [a, b] = [await startHost(test), await startHost(test)]
    await a.connect(firstAddress(b))
    await failsWith('NET_PROTOCOL_REFUSED', a.open(b.id, PROTOCOLS.stage))
  })

  it('brings the newest offer to every peer, however often it changes', async test => {
    const [a, b] = [await startHost(test, { secret: 's' }), await startHost(test, { secret: 's' })]
    await a.connect(firstAddress(b))
    await hasPeers(b, [a.id])
    const settled = nextEvent(b, event => event.peer.offer.stages[0]?.slotsFree === 8)
    for (let slotsFree = 0; slotsFree <= 8; slotsFree++) a.announce(offerOf('of a', slotsFree))
    assert.equal((await settled).offer.stages[0]?.name, 'of a')
    assert.throws(() => a.announce({ ...offerOf('of a'), threads: -1 }))
  })

  it('reports that a peer has left, once, and ends what waits for it', async test => {
    const [a, b] = [await startHost(test), await startHost(test)]
    b.handle(PROTOCOLS.stage, () => undefined)
    await a.connect(firstAddress(b))
    const stream = await a.open(b.id, PROTOCOLS.stage)
    const reading = assert.rejects(async () => {
      for await (const _ of stream.received) assert.fail('nothing was sent')
    }, /reset/)
    const left = nextEvent(a, event => event.kind === 'left')
    await b.stop()
    assert.equal((await left).id, b.id)
    await reading
    assert.deepEqual(a.peers(), [])
    await failsWith('NET_PEER_UNKNOWN', a.open(b.id, PROTOCOLS.stage))
  })

  it('comes back to a kept peer after its restart', async test => {
    const identity = await createNodeIdentity(systemRandom)
    const a = await startHost(test, { secret: 's' })
    const listen = [`/ip4/127.0.0.1/tcp/${await freePort()}`]
    const first = await startHost(test, { secret: 's', identity, listen })
    const address = firstAddress(first)
    a.keepConnected([address])
    await hasPeers(a, [first.id])
    const left = nextEvent(a, event => event.kind === 'left')
    await first.stop()
    await left
    const again = await startHost(test, { secret: 's', identity, listen })
    assert.equal(again.id, first.id)
    await hasPeers(a, [again.id])
  })

  it('gives up a connect when its signal aborts, and every later call once it has stopped', async test => {
    const [a, b] = [await startHost(test), await startHost(test)]
    await assert.rejects(a.connect(firstAddress(b), { signal: AbortSignal.abort(new Error('enough')) }), /enough/)
    await within('stopping twice', Promise.all([a.stop(), a.stop()]))
    await failsWith('NET_STOPPED', a.connect(firstAddress(b)))
    await failsWith('NET_STOPPED', a.open(b.id, PROTOCOLS.stage, { addresses: [firstAddress(b)] }))
  })

  it('announces the addresses of the interfaces when it listens on all of them', async test => {
    const a = await startHost(test, { listen: ['/ip4/0.0.0.0/tcp/0'] })
    const b = await startHost(test)
    assert.ok(a.addresses().length > 0)
    for (const address of a.addresses()) assert.doesNotMatch(address, /\/0\.0\.0\.0\//)
    assert.equal(await b.connect(firstAddress(a)), a.id)
  })

  it('says when it cannot listen', async test => {
    const a = await startHost(test)
    const taken = firstAddress(a).split('/p2p')[0] ?? ''
    await failsWith('NET_LISTEN_FAILED', startHost(test, { listen: [taken] }))
  })
})
