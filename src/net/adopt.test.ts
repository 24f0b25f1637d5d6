import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import type { Connection } from '@libp2p/interface'
import { createStreamPair, systemRandom } from '#base'
import { generateNodeKey } from '#crypto'
import { createNode, type Node } from './libp2p.ts'
import { Paths } from './paths.ts'

type Side = { readonly node: Node; readonly inbound: Promise<Connection> }

async function side(): Promise<Side> {
  const inbound = Promise.withResolvers<Connection>()
  const node = await createNode({
    key: await generateNodeKey(systemRandom),
    listen: [],
    mdns: false,
    refusesInbound: () => false,
    onConnection: connection => connection.direction === 'inbound' && inbound.resolve(connection),
    onFound: () => undefined,
  })
  await node.libp2p.start()
  return { node, inbound: inbound.promise }
}

const idOf = ({ node }: Side): string => node.libp2p.peerId.toString()

describe('net / adopt', () => {
  const signal = AbortSignal.timeout(20_000)
  const [atA, atB] = ['/ip4/192.0.2.1/tcp/1', '/ip4/192.0.2.2/tcp/2']

  it('makes a secured connection with streams of a pipe that it is given', async () => {
    const [a, b] = [await side(), await side()]
    try {
      const [pipeA, pipeB] = createStreamPair('test', { a: idOf(a), b: idOf(b) })
      const paths = new Paths()
      paths.mark(atB, { kind: 'punched', transport: 'tcp' })
      await b.node.libp2p.handle('/echo/1', stream => stream.addEventListener('message', e => stream.send(e.data)))
      const [outbound] = await Promise.all([
        a.node.adopt(pipeA, { direction: 'outbound', remoteAddress: `${atB}/p2p/${idOf(b)}`, signal }),
        b.node.adopt(pipeB, { direction: 'inbound', remoteAddress: `${atA}/p2p/${idOf(a)}`, signal }),
      ])
      assert.ok(outbound)
      assert.equal((await b.inbound).remotePeer.toString(), idOf(a))
      assert.deepEqual(paths.of(outbound), { kind: 'punched', transport: 'tcp' })
      const stream = await outbound.newStream('/echo/1')
      // More than one write may hold.
      const sent = new Uint8Array(300_000).map((_, index) => index % 251)
      let received = 0
      const all = new Promise<void>(resolve => {
        stream.addEventListener('message', ({ data }) => {
          for (const byte of data.subarray()) assert.equal(byte, sent[received++])
          if (received === sent.byteLength) resolve()
        })
      })
      stream.send(sent)
      await all
      const closed = once(await b.inbound, 'close')
      await outbound.close()
      await closed
    } finally {
      await Promise.all([a.node.stop(), b.node.stop()])
    }
  })

  it('refuses a pipe with somebody else at its end, and aborts it', async () => {
    const [a, b, c] = [await side(), await side(), await side()]
    try {
      const [pipeA, pipeB] = createStreamPair('test', { a: idOf(a), b: idOf(b) })
      const results = await Promise.allSettled([
        a.node.adopt(pipeA, { direction: 'outbound', remoteAddress: `${atB}/p2p/${idOf(c)}`, signal }),
        b.node.adopt(pipeB, { direction: 'inbound', remoteAddress: `${atA}/p2p/${idOf(a)}`, signal }),
      ])
      assert.deepEqual(
        results.map(({ status }) => status),
        ['rejected', 'rejected'],
      )
      assert.throws(() => pipeA.send(new Uint8Array(1)), { code: 'STREAM_CLOSED' })
    } finally {
      await Promise.all([a, b, c].map(({ node }) => node.stop()))
    }
  })
})
