/** Streams of two real hosts whose sockets somebody cuts: over the data plane, and over libp2p. */
import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { type ByteStream, concatBytes, seededRandom } from '#base'
import { PROTOCOLS } from '#wire'
import { CutProxy } from '../../../test/support/cut-proxy.ts'
import { freePort } from '../../../test/support/free-port.ts'
import { firstAddress, nextEvent, offerOf, startHost, within } from '../../../test/support/net-hosts.ts'
import { HAS_MANY_ADDRESSES } from '../../../test/support/raw-libp2p.ts'
import type { Host } from '../types.ts'

type Pair = { readonly a: Host; readonly b: Host; readonly libp2p: CutProxy; readonly plane: CutProxy }

/** Two hosts, with a proxy between them for each kind of socket: one listens at another loopback address. */
async function pairOf(test: TestContext, way: 'plane' | 'libp2p'): Promise<Pair> {
  // Nobody else is given these numbers, so each is to be had at both addresses.
  const [port, planePort] = [await freePort(), await freePort()]
  const host = '127.0.0.2'
  const [libp2p, plane] = [new CutProxy({ host, port }), new CutProxy({ host, port: planePort })]
  await Promise.all([libp2p.start(port), plane.start(planePort)])
  test.after(() => Promise.all([libp2p.stop(), plane.stop()]))
  const offer = { ...offerOf('b'), addresses: [`/ip4/127.0.0.1/tcp/${port}`] }
  const listen = [`/ip4/127.0.0.2/tcp/${port}`]
  const b = await startHost(test, { listen, offer, planePort: way === 'plane' ? planePort : 'off' })
  // Which way a stream goes is not to depend on how fast this machine is.
  const a = await startHost(test, { settings: { planeTimeoutMs: 20_000 } })
  await a.connect(firstAddress(b).replace('127.0.0.2', '127.0.0.1'))
  return { a, b, libp2p, plane }
}

/** Sends in pieces; `after` is called behind each. */
async function sendAll(
  stream: ByteStream,
  bytes: Uint8Array,
  after: (sent: number) => Promise<void> | void,
): Promise<void> {
  const size = 40_000
  for (let at = 0; at < bytes.byteLength; at += size) {
    if (!stream.send(bytes.subarray(at, at + size))) await stream.drained()
    await after(at)
  }
  await stream.close()
}

async function echo(stream: ByteStream): Promise<void> {
  for await (const piece of stream.received) if (!stream.send(piece)) await stream.drained()
  await stream.close()
}

async function readAll(stream: ByteStream): Promise<Uint8Array> {
  const pieces: Uint8Array[] = []
  for await (const piece of stream.received) pieces.push(piece)
  return concatBytes(pieces)
}

const isSkipped = HAS_MANY_ADDRESSES ? false : 'this system has one loopback address'

describe('net / carried streams of hosts', { skip: isSkipped }, () => {
  for (const way of ['plane', 'libp2p'] as const) {
    it(`go on over the ${way} when their sockets are cut again and again`, async test => {
      const { a, b, libp2p, plane } = await pairOf(test, way)
      const gone: string[] = []
      const accepted = new Promise<void>(resolve => {
        b.handle(PROTOCOLS.stage, stream => {
          resolve()
          return echo(stream)
        })
      })
      for (const host of [a, b]) host.onGone(peer => gone.push(peer))
      const stream = await a.open(b.id, PROTOCOLS.stage)
      assert.deepEqual(a.peers()[0]?.streams, { plane: way === 'plane' ? 1 : 0, libp2p: way === 'plane' ? 0 : 1 })
      await within('the stream', accepted)
      const bytes = seededRandom(1).bytes(8_000_000)
      let cuts = 0
      const cut = async (sent: number): Promise<void> => {
        const turn = sent / 40_000
        if (turn % 25 !== 24 || cuts === 7) return
        cuts++
        if (way === 'plane' && turn % 50 === 24) plane.cut({ withReset: cuts % 2 === 0 })
        else libp2p.cut({ withReset: cuts % 2 === 0 })
        await new Promise(resolve => setImmediate(resolve))
      }
      const [answer] = await within('the echo', Promise.all([readAll(stream), sendAll(stream, bytes, cut)]))
      assert.equal(cuts, 7)
      assert.ok(Buffer.compare(answer, bytes) === 0)
      assert.deepEqual(gone, [])
    })
  }

  it('wait for a way that is gone for a while', async test => {
    const { a, b, libp2p, plane } = await pairOf(test, 'plane')
    b.handle(PROTOCOLS.stage, echo)
    const stream = await a.open(b.id, PROTOCOLS.stage)
    const left = nextEvent(a, event => event.kind === 'left')
    // Connections are taken and reset: where they are refused, streams are given up sooner (carried-streams.test.ts).
    const turnedAway = libp2p.goAway()
    void plane.goAway()
    await left
    stream.send(Uint8Array.of(1, 2, 3))
    await within('a try to come back', turnedAway)
    libp2p.comeBack()
    const { value } = await within('the echo', stream.received[Symbol.asyncIterator]().next())
    assert.deepEqual(value, Uint8Array.of(1, 2, 3))
  })

  it('end at once where the peer says goodbye, and it is gone then', async test => {
    const { a, b } = await pairOf(test, 'plane')
    b.handle(PROTOCOLS.stage, echo)
    const stream = await a.open(b.id, PROTOCOLS.stage)
    const gone = new Promise<string>(resolve => a.onGone(resolve))
    const pieces = stream.received[Symbol.asyncIterator]()
    stream.send(Uint8Array.of(1))
    await within('the echo', pieces.next())
    const ended = assert.rejects(within('the end', pieces.next()), { code: 'STREAM_RESET' })
    await b.stop()
    await ended
    assert.equal(await within('the end of the peer', gone), b.id)
  })
})
