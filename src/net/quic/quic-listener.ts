/**
 * Where QUIC connections come in. Handshakes run beside one another, as many as there are places, so that those who begin
 * one and say no more do not keep others out.
 */
import {
  type ComponentLogger,
  type Listener,
  type ListenerEvents,
  TypedEventEmitter,
  type Upgrader,
} from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { getThinWaistAddresses } from '@libp2p/utils'
import type { Multiaddr } from '@multiformats/multiaddr'
import { QUIC_HANDSHAKES_MAX } from '../limits.ts'
import type { NativeConnection, NativeServer, QuicAddon } from './addon.ts'
import { endpointOf, QuicConnection, quicMuxer, type StreamSettings } from './quic-connection.ts'

export type QuicListenerDeps = {
  readonly addon: QuicAddon
  readonly config: object
  readonly logger: ComponentLogger
  readonly upgrader: Upgrader
  readonly settings: StreamSettings
}

export class QuicListener extends TypedEventEmitter<ListenerEvents> implements Listener {
  readonly #deps: QuicListenerDeps
  readonly #closing = new AbortController()
  readonly #connections = new Set<QuicConnection>()
  #server: NativeServer | undefined
  #address: Multiaddr | undefined

  constructor(deps: QuicListenerDeps) {
    super()
    this.#deps = deps
  }

  async listen(address: Multiaddr): Promise<void> {
    const { addon, config } = this.#deps
    const { host, port } = endpointOf(address)
    this.#server = new addon.Server(config, host, port)
    this.#address = address
    for (let i = 0; i < QUIC_HANDSHAKES_MAX; i++) void this.#accept(this.#server)
    this.safeDispatchEvent('listening')
  }

  getAddrs(): Multiaddr[] {
    const [server, address] = [this.#server, this.#address]
    if (server === undefined || address === undefined) return []
    return getThinWaistAddresses(address, server.port()).map(thin => thin.encapsulate('/quic-v1'))
  }

  updateAnnounceAddrs(): void {}

  async close(): Promise<void> {
    const server = this.#server
    if (server === undefined) return
    this.#server = undefined
    this.#closing.abort()
    for (const connection of this.#connections) connection.abort(new Error('the listener is closed'))
    await server.abort()
    this.safeDispatchEvent('close')
  }

  async #accept(server: NativeServer): Promise<void> {
    while (this.#server === server) {
      try {
        const native = await server.inboundConnection()
        // The place is free again: what follows has bounds of its own.
        void this.#upgrade(native)
      } catch {
        // A handshake that failed costs its place no longer; a listener that is closed ends the loop.
      }
    }
  }

  async #upgrade(native: NativeConnection): Promise<void> {
    const { logger, upgrader, settings } = this.#deps
    let connection: QuicConnection | undefined
    try {
      if (this.#closing.signal.aborted) throw new Error('the listener is closed')
      connection = new QuicConnection({ native, direction: 'inbound', log: logger.forComponent('koinon:quic') })
      const open = connection
      this.#connections.add(open)
      open.addEventListener('close', () => this.#connections.delete(open))
      await upgrader.upgradeInbound(open, {
        skipEncryption: true,
        skipProtection: true,
        remotePeer: peerIdFromString(open.peer),
        muxerFactory: quicMuxer(native, settings),
        signal: this.#closing.signal,
      })
    } catch (error) {
      if (connection === undefined) native.abort()
      else connection.abort(error instanceof Error ? error : new Error(String(error)))
    }
  }
}
