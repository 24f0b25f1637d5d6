/**
 * The other side of the network benchmark, in a process of its own: a node of ours over each transport, a host with a data
 * plane, and `node:tls` alone. All serve the same: a sink for bulk, and answers as long as their requests. Prints where they
 * are, and ends when its standard input does.
 */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer, type TLSSocket } from 'node:tls'
import { systemClock, systemRandom } from '#base'
import { generateNodeKey } from '#crypto'
import { createHost } from '#net'
import { PROTOCOLS } from '#wire'
import { NetStream } from '../../src/net/byte-stream.ts'
import { createNode, type Node } from '../../src/net/libp2p.ts'
import { hostDeps } from '../../test/support/net-hosts.ts'
import { ByteReader } from './byte-reader.ts'
import type { Way } from './raw-stream.ts'
import { SELF_SIGNED } from '../../test/support/self-signed.ts'

export const NET_PROTOCOL = '/koinon-bench/net/1'
/** First byte of a stream: what it is for. After it the size of a request and of its answer, four bytes. */
export const FOR_REQUESTS = 1
export const FOR_BULK = 2

/** Multiaddrs of the nodes, and of the host with the data plane; a port of 127.0.0.1 for `node:tls`. */
export type NetFacts = {
  readonly tcp: string
  readonly quic: string
  readonly ws: string
  readonly host: string
  readonly tlsPort: number
}

/** A node below sessions, over one transport. */
export async function startBareNode(listen: readonly string[]): Promise<Node> {
  const node = await createNode({
    key: await generateNodeKey(systemRandom),
    listen,
    mdns: false,
    refusesInbound: () => false,
    onConnection: () => undefined,
    onFound: () => undefined,
  })
  await node.libp2p.start()
  return node
}

/** A socket of `node:tls` as the benchmark takes all ways. */
export function tlsWay(socket: TLSSocket): Way {
  return {
    send: bytes => socket.write(bytes),
    drained: async () => {
      if (socket.writableNeedDrain) await once(socket, 'drain')
    },
    received: socket as AsyncIterable<Uint8Array>,
  }
}

async function serve(stream: Way): Promise<void> {
  const reader = new ByteReader(stream)
  const [purpose = 0, ...size] = await reader.take(5)
  const sizeBytes = new DataView(Uint8Array.from(size).buffer).getUint32(0)
  for (;;) {
    if (purpose === FOR_REQUESTS) stream.send((await reader.take(sizeBytes)).slice())
    else {
      const total = new DataView((await reader.take(8)).slice().buffer).getFloat64(0)
      await reader.skip(total)
      stream.send(Uint8Array.of(1))
    }
  }
}

/** A stream ends when its client has had enough. */
function quietly(stream: Way): void {
  serve(stream).catch(() => undefined)
}

async function startTls(): Promise<number> {
  const options = { ...SELF_SIGNED, minVersion: 'TLSv1.3', noDelay: true } as const
  const server = createServer(options, socket => {
    socket.on('error', () => undefined)
    quietly(tlsWay(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

async function main(): Promise<void> {
  const listens = ['/ip4/127.0.0.1/tcp/0', '/ip4/127.0.0.1/udp/0/quic-v1', '/ip4/127.0.0.1/tcp/0/ws']
  const nodes = await Promise.all(listens.map(listen => startBareNode([listen])))
  for (const { libp2p } of nodes) {
    await libp2p.handle(NET_PROTOCOL, (stream, { remotePeer }) =>
      quietly(new NetStream({ clock: systemClock }, { stream, peer: remotePeer.toString() })),
    )
  }
  const host = await createHost(await hostDeps(), { listen: listens.slice(0, 1), mdns: false })
  host.handle(PROTOCOLS.stage, stream => quietly(stream))
  await host.start()
  const [tcp = '', quic = '', ws = ''] = nodes.map(node => node.listening()[0]?.toString())
  const facts: NetFacts = { tcp, quic, ws, host: host.addresses()[0] ?? '', tlsPort: await startTls() }
  process.stdout.write(`${JSON.stringify(facts)}\n`)
  process.stdin.on('end', () => process.exit(0)).resume()
}

if (import.meta.main) await main()
