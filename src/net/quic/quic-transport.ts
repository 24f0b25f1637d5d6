/**
 * libp2p over QUIC (RFC 9000; libp2p's TLS 1.3 certificates). A client socket is bound for each family at the first dial;
 * it is not the listener's, so a NAT sees another port for dials than for the listener.
 */
import { lookup } from 'node:dns/promises'
import {
  type ComponentLogger,
  type Connection,
  type CreateListenerOptions,
  type DialTransportOptions,
  type Listener,
  type Transport,
  serviceCapabilities,
  transportSymbol,
} from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import type { Multiaddr } from '@multiformats/multiaddr'
import { abortable } from '#base'
import { encodeNodeKey, type NodePrivateKey } from '#crypto'
import { decodeAddress } from '../address.ts'
import type { NetSettings } from '../settings.ts'
import type { NativeClient, NativeConnection, QuicAddon } from './addon.ts'
import { endpointOf, QuicConnection, quicMuxer } from './quic-connection.ts'
import { QuicListener } from './quic-listener.ts'

export type QuicOptions = {
  readonly addon: QuicAddon
  /** Must hold its private bytes: the addon signs by itself. */
  readonly key: NodePrivateKey
  readonly settings: NetSettings
}

type Components = { readonly logger: ComponentLogger }

/** A transport for `createLibp2p`. @throws where the addon refuses the key */
export function quic(options: QuicOptions): (components: Components) => Transport {
  const { addon, key, settings } = options
  const config = new addon.QuinnConfig({
    privateKeyProto: encodeNodeKey(key),
    handshakeTimeout: settings.admissionTimeoutMs,
    maxIdleTimeout: settings.quicIdleMs,
    keepAliveInterval: settings.quicKeepAliveMs,
    maxConcurrentStreamLimit: settings.streamsMax,
    maxStreamData: settings.streamWindowBytes,
    maxConnectionData: settings.quicConnectionBytes,
    receiveBufferSize: settings.quicSocketBytes,
    sendBufferSize: settings.quicSocketBytes,
  })
  return ({ logger }) => new QuicTransport({ logger, addon, config, settings })
}

type Deps = Components & { readonly addon: QuicAddon; readonly config: object; readonly settings: NetSettings }

class QuicTransport implements Transport {
  readonly [transportSymbol] = true
  readonly [Symbol.toStringTag] = 'koinon:quic'
  readonly [serviceCapabilities] = ['@libp2p/transport']
  readonly #deps: Deps
  readonly #clients: { ip4?: NativeClient; ip6?: NativeClient } = {}

  constructor(deps: Deps) {
    this.#deps = deps
  }

  start(): void {}

  stop(): void {
    this.#clients.ip4?.abort()
    this.#clients.ip6?.abort()
    delete this.#clients.ip4
    delete this.#clients.ip6
  }

  listenFilter(addresses: Multiaddr[]): Multiaddr[] {
    return addresses.filter(address => {
      const decoded = decodeAddress(address.toString())
      return decoded?.transport === 'quic' && decoded.relay === undefined
    })
  }

  dialFilter(addresses: Multiaddr[]): Multiaddr[] {
    return this.listenFilter(addresses)
  }

  async dial(address: Multiaddr, options: DialTransportOptions): Promise<Connection> {
    const { logger, settings } = this.#deps
    const expected = decodeAddress(address.toString())?.peer
    const native = await this.#connect(address, options.signal)
    let connection: QuicConnection | undefined
    try {
      connection = new QuicConnection({ native, direction: 'outbound', log: logger.forComponent('koinon:quic') })
      if (expected !== undefined && expected !== connection.peer) throw new Error('another peer answers there')
      return await options.upgrader.upgradeOutbound(connection, {
        skipEncryption: true,
        skipProtection: true,
        remotePeer: peerIdFromString(connection.peer),
        muxerFactory: quicMuxer(native, settings),
        signal: options.signal,
      })
    } catch (error) {
      if (connection === undefined) native.abort()
      else connection.abort(error instanceof Error ? error : new Error(String(error)))
      throw error
    }
  }

  createListener({ upgrader }: CreateListenerOptions): Listener {
    return new QuicListener({ ...this.#deps, upgrader })
  }

  /** The addon cannot be told to give up: a connection that comes too late is closed. */
  async #connect(address: Multiaddr, signal: AbortSignal): Promise<NativeConnection> {
    const { kind, host, port } = endpointOf(address)
    const family = kind === 'dns4' ? 4 : kind === 'dns6' ? 6 : 0
    const found = kind.startsWith('dns') ? await abortable(lookup(host, { family }), signal) : { address: host }
    const dialling = this.#client(found.address.includes(':') ? 'ip6' : 'ip4').outboundConnection(found.address, port)
    try {
      return await abortable(dialling, signal)
    } catch (error) {
      dialling.then(
        late => late.abort(),
        () => undefined,
      )
      throw error
    }
  }

  #client(family: 'ip4' | 'ip6'): NativeClient {
    const { addon, config } = this.#deps
    const client = this.#clients[family] ?? new addon.Client(config, family === 'ip4' ? 0 : 1)
    this.#clients[family] = client
    return client
  }
}
