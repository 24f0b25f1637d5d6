/** The libp2p node under the host: only what we use, every buffer and count bounded. */
import type { Connection, Libp2p, PeerInfo } from '@libp2p/interface'
import { mdns } from '@libp2p/mdns'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import type { Multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { assert } from '#base'
import type { NodePrivateKey } from '#crypto'
import { adopt, type AdoptDeps, type AdoptOptions, type BytePipe } from './adopt.ts'
import {
  ADMISSION_TIMEOUT_MS,
  CONNECT_TIMEOUT_MS,
  CONNECTIONS_PER_PEER_MAX,
  HANDSHAKES_MAX,
  INBOUND_PER_SECOND_MAX,
  PEERS_MAX,
  STREAM_WINDOW_BYTES_MAX,
  STREAM_WRITE_BYTES_MAX,
  STREAMS_PER_CONNECTION_MAX,
  UNPROVEN_MAX,
} from './limits.ts'
import { PendingSockets } from './newcomers.ts'
import { writingWhole } from './thrift.ts'

/** The smallest window that Yamux allows. */
const STREAM_WINDOW_BYTES_MIN = 256 * 1024

export type NodeOptions = {
  readonly key: NodePrivateKey
  readonly listen: readonly string[]
  readonly mdns: boolean
  /** Called for each inbound socket before any cryptography, with the multiaddr that it comes from. */
  readonly refusesInbound: (from: string) => boolean
  readonly onConnection: (connection: Connection) => void
  /** Somebody on the local network. */
  readonly onFound: (peer: PeerInfo) => void
}

export type Node = {
  readonly libp2p: Libp2p
  /** What the listeners are bound to, wildcards expanded to the interfaces' addresses, without peer ids. */
  listening(): Multiaddr[]
  /** Makes a connection of bytes that came about in another way than by dialling. See `adopt`. */
  adopt(pipe: BytePipe, options: AdoptOptions): Promise<Connection | undefined>
  stop(): Promise<void>
}

/** Of libp2p's components, what we look at. */
type Components = AdoptDeps & {
  readonly transportManager: { getAddrs(): Multiaddr[] }
  readonly addressManager: object
}

/** The address manager's own timer, which libp2p does not stop. */
type AddressTimer = { readonly _updatePeerStoreAddresses?: { readonly stop?: () => void } }

const CONNECTION_LIMITS = {
  // Beyond this libp2p closes connections of its own choice, so our own bounds must bite first.
  maxConnections: PEERS_MAX * CONNECTIONS_PER_PEER_MAX + UNPROVEN_MAX + HANDSHAKES_MAX,
  maxIncomingPendingConnections: HANDSHAKES_MAX,
  inboundConnectionThreshold: INBOUND_PER_SECOND_MAX,
  inboundUpgradeTimeout: ADMISSION_TIMEOUT_MS,
  inboundStreamProtocolNegotiationTimeout: ADMISSION_TIMEOUT_MS,
  dialTimeout: CONNECT_TIMEOUT_MS,
  reconnectRetries: 0,
}

/** Makes a node that has not been started. */
export async function createNode(options: NodeOptions): Promise<Node> {
  let components: Components | undefined
  const pending = new PendingSockets()
  const libp2p = await createLibp2p({
    start: false,
    privateKey: options.key,
    addresses: { listen: [...options.listen] },
    // Both set TCP_NODELAY by default.
    transports: [tcp()],
    // TLS 1.3 is about twice as fast as Noise here; Noise is for peers that have no TLS.
    connectionEncrypters: [writingWhole(tls()), writingWhole(noise())],
    streamMuxers: [
      yamux({
        maxInboundStreams: STREAMS_PER_CONNECTION_MAX,
        maxOutboundStreams: STREAMS_PER_CONNECTION_MAX,
        streamOptions: {
          initialStreamWindowSize: STREAM_WINDOW_BYTES_MIN,
          maxStreamWindowSize: STREAM_WINDOW_BYTES_MAX,
          maxReadBufferLength: 2 * STREAM_WINDOW_BYTES_MAX,
          maxWriteBufferLength: STREAM_WRITE_BYTES_MAX,
        },
      }),
    ],
    connectionManager: CONNECTION_LIMITS,
    // The control stream carries the pings.
    connectionMonitor: { enabled: false },
    connectionGater: {
      denyInboundConnection: socket => {
        const from = placeOf(socket.remoteAddr)
        if (options.refusesInbound(from) || !pending.enter(from)) return true
        socket.addEventListener('close', () => pending.leave(from))
        return false
      },
    },
    services: {
      // A service is how libp2p hands out its components.
      inside: (all: Components) => {
        components = all
        return {}
      },
      ...(options.mdns ? { localNetwork: createLocalNetwork(options.onFound) } : {}),
    },
  })
  libp2p.addEventListener('connection:open', event => {
    pending.leave(placeOf(event.detail.remoteAddr))
    options.onConnection(event.detail)
  })
  // libp2p remembers everybody who ever connected; we do not need it, and anybody can come with any number of keys.
  libp2p.addEventListener('peer:disconnect', event => {
    libp2p.peerStore.delete(event.detail).catch(() => undefined) // Nothing to forget, then.
  })
  return {
    libp2p,
    listening: () => components?.transportManager.getAddrs() ?? [],
    adopt: async (pipe, adoptOptions) => {
      assert(components !== undefined, 'libp2p has handed out its components')
      return adopt(components, pipe, adoptOptions)
    },
    stop: async () => {
      await libp2p.stop()
      // Closing the listeners has set a timer of a second, which would keep the process alive for that long.
      const timer: AddressTimer | undefined = components?.addressManager
      timer?._updatePeerStoreAddresses?.stop?.()
    },
  }
}

/** Where an inbound connection comes from, before libp2p knows its peer and after. */
function placeOf(address: Multiaddr): string {
  const text = address.toString()
  // Those who come through a relay have nothing but their peer id to tell them apart.
  return text.includes('/p2p-circuit') ? text : text.replace(/\/p2p\/.*$/, '')
}

/** mDNS as a plain service: as a `peerDiscovery` libp2p would remember everybody who ever shouted, without a bound. */
function createLocalNetwork(onFound: (peer: PeerInfo) => void) {
  return (components: Parameters<ReturnType<typeof mdns>>[0]) => {
    const discovery = mdns({ serviceTag: '_koinon._udp.local' })(components)
    discovery.addEventListener('peer', event => onFound(event.detail))
    const service = discovery as typeof discovery & { start(): Promise<void>; stop(): Promise<void> }
    return { start: () => service.start(), stop: () => service.stop() }
  }
}
