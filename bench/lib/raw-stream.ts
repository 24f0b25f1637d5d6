/**
 * libp2p as its packages come: TCP, TLS, Yamux, no option of ours, and streams used as their documentation says. What a
 * program without Koinon would have, and what bulk is measured against.
 */
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import type { Stream } from '@libp2p/interface'
import { createLibp2p, type Libp2p } from 'libp2p'
import type { ByteStream } from '#base'

export const RAW_PROTOCOL = '/koinon-bench/raw/1'

/** What the benchmark needs of a stream, to treat all kinds alike. */
export type Way = Pick<ByteStream, 'send' | 'drained' | 'received'>

export function createRawLibp2p(listen: readonly string[]): Promise<Libp2p> {
  return createLibp2p({
    addresses: { listen: [...listen] },
    transports: [tcp()],
    connectionEncrypters: [tls()],
    streamMuxers: [yamux()],
  })
}

export function rawWay(stream: Stream): Way {
  return { send: bytes => stream.send(bytes), drained: () => stream.onDrain(), received: piecesOf(stream) }
}

async function* piecesOf(stream: Stream): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const data of stream) {
    if (data instanceof Uint8Array) yield data
    else yield* data
  }
}
