/**
 * libp2p for peers that a test plays: dials, never listens, and says nothing by itself. Apart from the host's own
 * (`src/net/libp2p.ts`) because it can come from another address of this machine, as other attackers would.
 */
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { createLibp2p, type Libp2p } from 'libp2p'
import type { NodePrivateKey } from '#crypto'

/** Whether this system has all of 127.0.0.0/8, as Linux and Windows have. */
export const HAS_MANY_ADDRESSES = process.platform !== 'darwin'

/** @param options.from the address that connections come from. @default what the system takes */
export async function startRawLibp2p(options: {
  readonly key: NodePrivateKey
  readonly from?: string
}): Promise<Libp2p> {
  const { key, from } = options
  // The option is handed to `net.connect`, which knows it; the type of the package does not say so.
  const dialOpts: object = from === undefined ? {} : { localAddress: from }
  return createLibp2p({
    privateKey: key,
    addresses: { listen: [] },
    transports: [tcp({ dialOpts })],
    connectionEncrypters: [tls(), noise()],
    streamMuxers: [yamux({ maxInboundStreams: 1024, maxOutboundStreams: 1024 })],
    connectionManager: { maxConnections: 2000, maxParallelDials: 200, dialTimeout: 15_000, reconnectRetries: 0 },
    connectionMonitor: { enabled: false },
  })
}
