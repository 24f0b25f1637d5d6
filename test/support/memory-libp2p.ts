/**
 * A network in memory for real libp2p nodes: any addresses that a test likes, no sockets, no encryption (both ends are in
 * this process, so who is who is simply said). All else is libp2p as it is: upgrade, Yamux, protocol negotiation.
 */
import {
  type Connection,
  type Libp2p,
  type Listener,
  type Logger,
  type Transport,
  transportSymbol,
} from '@libp2p/interface'
import { TypedEventEmitter, type ListenerEvents, type PeerId, type Upgrader } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { multiaddrConnectionPair } from '@libp2p/utils'
import { yamux } from '@libp2p/yamux'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { createLibp2p, type ServiceFactoryMap } from 'libp2p'
import type { NodePrivateKey } from '#crypto'

export type MemoryFabric = {
  /** Who listens, by address. */
  readonly hosts: Map<string, { readonly peer: PeerId; readonly address: Multiaddr; readonly upgrader: Upgrader }>
  /** Connections made. */
  dials: number
}

const SILENT: Logger = Object.assign(() => undefined, {
  enabled: false,
  error: () => undefined,
  trace: () => undefined,
  newScope: (): Logger => SILENT,
})

export function createMemoryFabric(): MemoryFabric {
  return { hosts: new Map(), dials: 0 }
}

class MemoryTransport implements Transport {
  readonly [Symbol.toStringTag] = 'koinon/memory'
  readonly [transportSymbol] = true as const
  readonly #network: MemoryFabric
  readonly #peer: PeerId
  readonly #address: Multiaddr

  constructor(network: MemoryFabric, peer: PeerId, address: Multiaddr) {
    this.#network = network
    this.#peer = peer
    this.#address = address
  }

  async dial(target: Multiaddr, { upgrader, signal }: Parameters<Transport['dial']>[1]): Promise<Connection> {
    const key = plain(target)
    const other = this.#network.hosts.get(key)
    if (other === undefined) throw new Error(`nobody listens at ${key}`)
    this.#network.dials++
    const [outbound, inbound] = pipesBetween(this.#address, other.address)
    const skipEncryption = true as const
    const accepted = other.upgrader.upgradeInbound(inbound, { skipEncryption, remotePeer: this.#peer, signal })
    accepted.catch((error: Error) => inbound.abort(error))
    return await upgrader.upgradeOutbound(outbound, { skipEncryption, remotePeer: other.peer, signal })
  }

  createListener({ upgrader }: Parameters<Transport['createListener']>[0]): Listener {
    const network = this.#network
    const peer = this.#peer
    const address = this.#address
    const events = new TypedEventEmitter<ListenerEvents>()
    return Object.assign(events, {
      listen: (): Promise<void> => {
        network.hosts.set(plain(address), { peer, address, upgrader })
        queueMicrotask(() => events.dispatchEvent(new CustomEvent('listening')))
        return Promise.resolve()
      },
      getAddrs: () => [address],
      updateAnnounceAddrs: () => undefined,
      close: (): Promise<void> => {
        network.hosts.delete(plain(address))
        events.dispatchEvent(new CustomEvent('close'))
        return Promise.resolve()
      },
    })
  }

  listenFilter(addresses: Multiaddr[]): Multiaddr[] {
    return addresses
  }

  dialFilter(addresses: Multiaddr[]): Multiaddr[] {
    return addresses
  }
}

function pipesBetween(from: Multiaddr, to: Multiaddr) {
  return multiaddrConnectionPair({ outbound: { remoteAddr: to }, inbound: { remoteAddr: from } })
}

function plain(address: Multiaddr): string {
  return address.toString().replace(/\/p2p\/[A-Za-z0-9]+$/, '')
}

/** A started libp2p node on such a network. @param address such as `/ip4/198.51.100.7/tcp/1` */
export async function createMemoryHost<S extends Record<string, unknown>>(
  network: MemoryFabric,
  options: { readonly key: NodePrivateKey; readonly address: string; readonly services: ServiceFactoryMap<S> },
): Promise<Libp2p<S>> {
  const peer = peerIdFromPrivateKey(options.key)
  const address = multiaddr(options.address)
  return await createLibp2p({
    privateKey: options.key,
    addresses: { listen: [options.address] },
    transports: [() => new MemoryTransport(network, peer, address)],
    streamMuxers: [yamux()],
    connectionManager: {
      maxConnections: 2_000,
      inboundConnectionThreshold: 1e6,
      reconnectRetries: 0,
      maxParallelDials: 500,
    },
    connectionMonitor: { enabled: false },
    connectionGater: { denyDialMultiaddr: () => false },
    services: options.services,
    // libp2p makes several loggers for each stream, which costs more than what is done on it.
    logger: { forComponent: () => SILENT },
  })
}
