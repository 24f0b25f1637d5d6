/** QUIC under libp2p, on real sockets: back-pressure, limits, who is let in, and what comes of a NAT that forgets. */
import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import type { Connection, Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { systemClock, systemRandom } from '#base'
import { generateNodeKey } from '#crypto'
import { PROTOCOLS } from '#wire'
import { firstAddress, hasPeers, startHost, within } from '../../../test/support/net-hosts.ts'
import { startUdpForwarder } from '../../../test/support/udp-forwarder.ts'
import { NetStream } from '../byte-stream.ts'
import { createNode, type Node, type NodeOptions } from '../libp2p.ts'
import { STREAM_WINDOW_BYTES_MAX } from '../limits.ts'
import { checkSettings } from '../settings.ts'

const MIB = 1024 * 1024
const LISTEN = '/ip4/127.0.0.1/udp/0/quic-v1'

type Cleaner = { after(action: () => Promise<void>): void }

async function startNode(test: Cleaner, options: Partial<NodeOptions> = {}): Promise<Node> {
  const node = await createNode({
    key: await generateNodeKey(systemRandom),
    listen: [LISTEN],
    transport: 'quic',
    mdns: false,
    refusesInbound: () => false,
    onConnection: () => undefined,
    onFound: () => undefined,
    ...options,
  })
  await node.libp2p.start()
  test.after(() => node.stop())
  return node
}

const addressOf = (node: Node) => multiaddr(node.listening()[0]?.toString() ?? '')

function portOf(node: Node): number {
  return Number(/\/udp\/(\d+)\//.exec(addressOf(node).toString())?.[1])
}

/** Both ends of one stream. */
async function streamsBetween(test: Cleaner): Promise<[Stream, Stream, Connection]> {
  const [a, b] = [await startNode(test), await startNode(test)]
  const { promise, resolve } = Promise.withResolvers<Stream>()
  await b.libp2p.handle('/test/1', stream => resolve(stream))
  const connection = await a.libp2p.dial(addressOf(b))
  return [await connection.newStream('/test/1'), await within('the stream', promise), connection]
}

function turn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}

describe('net / QUIC', () => {
  it('stops a writer whose reader does not read, within a few windows', async test => {
    const [a, b, connection] = await streamsBetween(test)
    const reader = new NetStream({ clock: systemClock }, { stream: b, peer: 'a' })
    const writer = new NetStream({ clock: systemClock }, { stream: a, peer: 'b' })
    const piece = new Uint8Array(64 * 1024).fill(7)
    const total = 64 * MIB
    let sent = 0
    const writing = (async () => {
      for (; sent < total; sent += piece.byteLength) if (!writer.send(piece)) await writer.drained()
      await writer.close()
    })()
    // The addon works in threads of its own, so turns of this loop do not count: until it has stood still for long.
    let last = -1
    for (let still = 0; still < 20_000; still = sent === last ? still + 1 : 0) {
      last = sent
      await turn()
    }
    assert.ok(sent < 3 * STREAM_WINDOW_BYTES_MAX, `${(sent / MIB).toFixed(1)} MiB went to nobody`)
    // A stream that nobody reads leaves room for others.
    const other = await within('another stream', connection.newStream('/test/1'))
    other.abort(new Error('enough'))
    let received = 0
    for await (const bytes of reader.received) received += bytes.byteLength
    await writing
    assert.equal(received, total)
  })

  it('tells a connection that is gone from streams that ended', async test => {
    const [a, b, connection] = await streamsBetween(test)
    a.send(Uint8Array.of(1))
    const reader = new NetStream({ clock: systemClock }, { stream: b, peer: 'a' }).received[Symbol.asyncIterator]()
    assert.equal((await within('the byte', reader.next())).done, false)
    connection.abort(new Error('gone'))
    await assert.rejects(within('the end', reader.next()), { code: 'STREAM_RESET' })
    await assert.rejects(connection.newStream('/test/1'))
  })

  it('bounds the streams of a connection: the next one waits, and may give up waiting', async test => {
    const settings = checkSettings({ streamsMax: 8 })
    const [a, b] = [await startNode(test), await startNode(test, { settings })]
    await b.libp2p.handle('/test/1', () => undefined, { maxInboundStreams: 100 })
    const connection = await a.libp2p.dial(addressOf(b))
    const options = { maxOutboundStreams: 100 }
    const open = () => connection.newStream('/test/1', { ...options, signal: new AbortController().signal })
    const streams = [await open()]
    while (streams.length < 8) streams.push(await open())
    const gaveUp = new AbortController()
    const waiting = connection.newStream('/test/1', { ...options, signal: gaveUp.signal })
    const next = open()
    let isThere = false
    void next.then(() => (isThere = true))
    gaveUp.abort(new Error('enough'))
    await assert.rejects(within('giving up', waiting), /enough/)
    assert.equal(isThere, false)
    for (const stream of streams.slice(0, 4)) stream.abort(new Error('done'))
    await within('the next stream', next)
  })

  it('asks who may come in with the address of the newcomer, and takes none whose identity is another', async test => {
    const asked: string[] = []
    const refusing = await startNode(test, { refusesInbound: from => asked.push(from) > 0 })
    const a = await startNode(test)
    const connection = await a.libp2p.dial(addressOf(refusing)).catch(() => undefined)
    if (connection !== undefined && connection.status === 'open') await within('the end', once(connection, 'close'))
    assert.match(asked[0] ?? '', /^\/ip4\/127\.0\.0\.1\/udp\/\d+\/quic-v1$/)
    const b = await startNode(test)
    const other = a.libp2p.peerId.toString()
    const c = await startNode(test)
    await assert.rejects(c.libp2p.dial(addressOf(b).encapsulate(`/p2p/${other}`)))
    assert.equal(c.libp2p.getConnections().length, 0)
  })

  it('serves others while handshakes hang and garbage comes in', async test => {
    const b = await startNode(test)
    const garbage = createSocket('udp4')
    for (let i = 0; i < 500; i++) {
      const bytes = systemRandom.bytes(1200)
      // Half of them look like first packets of version 1.
      if (i % 2 === 0) bytes.set([0xc3, 0, 0, 0, 1, 8])
      garbage.send(bytes, portOf(b), '127.0.0.1')
    }
    const ways = await Promise.all(
      [1, 2, 3, 4].map(async () => ({
        forwarder: await startUdpForwarder(test, portOf(b)),
        dialler: await startNode(test, { listen: [] }),
      })),
    )
    const a = await startNode(test, { listen: [] })
    const stalled = ways.map(async ({ forwarder, dialler }) => {
      forwarder.mute()
      const dialling = dialler.libp2p.dial(multiaddr(`/ip4/127.0.0.1/udp/${forwarder.port}/quic-v1`))
      return dialling.then(() => 'a dial that nobody answers', String)
    })
    await within('the first packets', Promise.all(ways.map(({ forwarder }) => forwarder.used)))
    const connecting = a.libp2p.dial(addressOf(b)).then(({ remotePeer }) => remotePeer.toString())
    const first = await within('a connection', Promise.race([...stalled, connecting]))
    assert.equal(first, b.libp2p.peerId.toString())
    garbage.close()
  })

  it('does not follow an address that changes: the connection is made again, and streams go on over the new one', async test => {
    const settings = { quicIdleMs: 3_000, quicKeepAliveMs: 500 }
    const options = { transport: 'quic', listen: [LISTEN], settings, secret: 's' } as const
    const b = await startHost(test, options)
    const port = Number(/\/udp\/(\d+)\//.exec(firstAddress(b))?.[1])
    const forwarder = await startUdpForwarder(test, port)
    const a = await startHost(test, { ...options, listen: [] })
    b.handle(PROTOCOLS.stage, async stream => {
      for await (const piece of stream.received) stream.send(piece)
    })
    a.keepConnected([`/ip4/127.0.0.1/udp/${forwarder.port}/quic-v1/p2p/${b.id}`])
    await hasPeers(a, [b.id])
    const stream = await a.open(b.id, PROTOCOLS.stage)
    const reading = stream.received[Symbol.asyncIterator]()
    stream.send(Uint8Array.of(1))
    assert.equal((await within('the echo', reading.next())).value?.[0], 1)
    const [before] = a.peers()
    await forwarder.rebind()
    stream.send(Uint8Array.of(2))
    assert.equal((await within('the echo', reading.next())).value?.[0], 2)
    // Over another connection than before.
    assert.notEqual(a.peers()[0]?.connectedAt, before?.connectedAt)
  })
})
