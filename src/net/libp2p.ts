/** The libp2p node under the host: only what we use, every buffer and count bounded. */
import type { Connection, Libp2p, PeerInfo } from '@libp2p/interface'
import { mdns } from '@libp2p/mdns'
import { noise } from '@libp2p/noise'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import type { Multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { assert } from '#base'
import type { NodePrivateKey } from '#crypto'
import { adopt, type AdoptDeps, type AdoptOptions, type BytePipe } from './adopt.ts'
import { PendingSockets } from './newcomers.ts'
import { DEFAULT_SETTINGS, type NetSettings } from './settings.ts'
import { writingWhole } from './thrift.ts'
import { listenable, mountTransports } from './transports.ts'
import type { Transport, TransportMode } from './types.ts'

/** The smallest window that Yamux allows. */
const STREAM_WINDOW_BYTES_MIN = 256 * 1024

export type NodeOptions = {
  readonly key: NodePrivateKey
  /** The same key with its private bytes, for QUIC. @default `key` */
  readonly quicKey?: NodePrivateKey
  readonly listen: readonly string[]
  readonly mdns: boolean
  /** Called for each inbound socket before any cryptography, with the multiaddr that it comes from. */
  readonly refusesInbound: (from: string) => boolean
  readonly onConnection: (connection: Connection) => void
  /** Somebody on the local network. */
  readonly onFound: (peer: PeerInfo) => void
  /** @default 'dual' */
  readonly transport?: TransportMode
  /** @default DEFAULT_SETTINGS */
  readonly settings?: NetSettings
  /** Whether a peer that has proved its id may stay. @default everybody may */
  readonly allows?: (peer: string) => boolean
  /** Services of others, by their names. */
  readonly services?: Readonly<Record<string, (components: never) => object>>
}

export type Node = {
  readonly libp2p: Libp2p
  /** What can be dialled. */
  readonly transports: ReadonlySet<Transport>
  /** Where both QUIC and TCP were wanted and only TCP is to be had: why. */
  readonly quicMissing: string | undefined
  /** What the listeners are bound to, wildcards expanded to the interfaces' addresses, without peer ids. */
  listening(): Multiaddr[]
  /** Makes a connection of bytes that came about in another way than by dialling. See `adopt`. */
  adopt(pipe: BytePipe, options: AdoptOptions): Promise<Connection | undefined>
  stop(): Promise<void>
}

/** Of libp2p's components, what we look at. */
type Components = Omit<AdoptDeps, 'settings'> & {
  readonly transportManager: { getAddrs(): Multiaddr[] }
  readonly addressManager: object
}

/** The address manager's own timer, which libp2p does not stop. */
type AddressTimer = { readonly _updatePeerStoreAddresses?: { readonly stop?: () => void } }

/** Beyond `maxConnections` libp2p closes connections of its own choice, so our own bounds must bite first. */
function connectionLimits(settings: NetSettings) {
  return {
    maxConnections: settings.connectionsMax,
    maxIncomingPendingConnections: settings.handshakesMax,
    inboundConnectionThreshold: settings.inboundPerSecondMax,
    inboundUpgradeTimeout: settings.admissionTimeoutMs,
    inboundStreamProtocolNegotiationTimeout: settings.admissionTimeoutMs,
    dialTimeout: settings.dialTimeoutMs,
    reconnectRetries: 0,
  }
}

function createMuxer(settings: NetSettings): ReturnType<typeof yamux> {
  return yamux({
    maxInboundStreams: settings.streamsMax,
    maxOutboundStreams: settings.streamsMax,
    streamOptions: {
      initialStreamWindowSize: STREAM_WINDOW_BYTES_MIN,
      maxStreamWindowSize: settings.streamWindowBytes,
      maxReadBufferLength: 2 * settings.streamWindowBytes,
      maxWriteBufferLength: settings.streamWriteBytes,
    },
  })
}

/**
 * Makes a node that has not been started.
 * @throws NetError NET_QUIC_MISSING, NET_LISTEN_FAILED where the addresses do not fit the mode
 */
export async function createNode(options: NodeOptions): Promise<Node> {
  let components: Components | undefined
  const pending = new PendingSockets()
  const { settings = DEFAULT_SETTINGS, transport: mode = 'dual', key } = options
  const mounted = await mountTransports({ mode, key: options.quicKey ?? key, settings })
  const libp2p = await createLibp2p({
    start: false,
    privateKey: key,
    addresses: { listen: listenable(options.listen, mounted) },
    transports: mounted.transports,
    // TLS 1.3 is about twice as fast as Noise here; Noise is for peers that have no TLS.
    connectionEncrypters: [writingWhole(tls()), writingWhole(noise())],
    streamMuxers: [createMuxer(settings)],
    connectionManager: connectionLimits(settings),
    // The control stream carries the pings.
    connectionMonitor: { enabled: false },
    connectionGater: {
      denyInboundConnection: socket => {
        const from = placeOf(socket.remoteAddr)
        if (options.refusesInbound(from) || !pending.enter(from)) return true
        socket.addEventListener('close', () => pending.leave(from))
        return false
      },
      denyInboundEncryptedConnection: peer => options.allows?.(peer.toString()) === false,
    },
    services: {
      // A service is how libp2p hands out its components.
      inside: (all: Components) => {
        components = all
        return {}
      },
      ...(options.mdns ? { localNetwork: createLocalNetwork(options.onFound) } : {}),
      ...(options.services as Record<string, (components: Components) => object> | undefined),
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
    transports: mounted.kinds,
    quicMissing: mounted.quicMissing,
    listening: () => components?.transportManager.getAddrs() ?? [],
    adopt: async (pipe, adoptOptions) => {
      assert(components !== undefined, 'libp2p has handed out its components')
      const { upgrader, logger } = components
      return adopt({ upgrader, logger, settings }, pipe, adoptOptions)
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
