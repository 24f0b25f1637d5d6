/**
 * libp2p's components as kad-dht sees them. The library dials, serves and pings by itself; here each of these passes the
 * host's gate and a bound: connections come from the host, streams are counted by bytes, requests by peer, and a newcomer
 * has to be admitted, to have room in its group of addresses, and to answer a PING of this very protocol.
 */
import type { Connection, NewStreamOptions, PeerId, PeerStore, Stream, StreamHandler } from '@libp2p/interface'
import { TypedEventEmitter, type Libp2pEvents } from '@libp2p/interface'
import type { KadDHTComponents } from '@libp2p/kad-dht'
import type { Multiaddr } from '@multiformats/multiaddr'
import { abortError, type Clock, withDeadline } from '#base'
import { PROTOCOLS } from '#wire'
import type { AddressBook } from './address-book.ts'
import { groupOf } from './address-group.ts'
import type { KadDatastore } from './datastore.ts'
import type { Asker } from './dht.ts'
import { pointOf } from './distance.ts'
import { ANSWER_BYTES_MAX, REQUEST_BYTES_MAX, STREAMS_PER_CONNECTION_MAX } from './limits.ts'
import type { RequestRates } from './request-rates.ts'
import { refused, type TableGuard } from './table-guard.ts'
import type { KadComponents, KadGate } from './types.ts'

/** A length of two and a message of type PING: field 1, 5. The answer is the same. */
const PING = Uint8Array.of(2, 0x08, 5)

export type ComponentsDeps = {
  readonly clock: Clock
  readonly host: KadComponents
  readonly gate: KadGate
  readonly addresses: AddressBook
  readonly datastore: KadDatastore
  readonly guard: TableGuard
  readonly rates: RequestRates
  readonly ownAddresses: () => Multiaddr[]
  /** A peer has answered, or has not. */
  readonly onAnswer: (peer: PeerId, isAnswered: boolean) => void
}

export type ComponentsOptions = {
  readonly isLocalExempt: boolean
  /** Bound of opening one stream, connection and all. */
  readonly requestMs: number
  /** Longest life of a stream that is served. */
  readonly serveMs: number
}

/** What kad-dht gives to `openStream`: libp2p's options, and what the walk has put among them. */
type StreamOptions = NewStreamOptions & { readonly asker?: Asker }

export function wrapComponents(deps: ComponentsDeps, options: ComponentsOptions): KadDHTComponents {
  const { host } = deps
  const open = opener(deps)
  // kad-dht waits for some pings without a bound of its own.
  const bounded = <T>(given: AbortSignal | undefined, task: (signal: AbortSignal) => Promise<T>): Promise<T> => {
    const deadline = { what: 'a request of the DHT', timeoutMs: options.requestMs }
    return withDeadline(deps.clock, given === undefined ? deadline : { ...deadline, signal: given }, task)
  }
  const ping = async (peer: PeerId, signal: AbortSignal): Promise<number> => {
    const id = peer.toString()
    if (deps.gate.mayRoute?.(id) === false) throw refused('gate')
    const connection = await open(peer, signal)
    const group = groupOf(connection.remoteAddr, options)
    deps.guard.enter(id, { group, point: pointOf(peer.toMultihash().bytes) })
    try {
      await pingOver(connection, signal)
      deps.onAnswer(peer, true)
      // The library adds it now, unless its bucket has filled up meanwhile.
      deps.clock.after(options.requestMs, () => deps.guard.settle(id))
    } catch (error) {
      deps.guard.settle(id)
      throw error
    }
    return 0
  }
  return {
    peerId: host.peerId,
    privateKey: host.privateKey,
    logger: host.logger,
    datastore: deps.datastore,
    // The library uses four of its methods, and those are there.
    peerStore: deps.addresses as Pick<PeerStore, 'get' | 'getInfo' | 'merge' | 'all'> as PeerStore,
    events: new TypedEventEmitter<Libp2pEvents>(),
    addressManager: { ...host.addressManager, getAddresses: deps.ownAddresses },
    // The library names peers only.
    ping: { ping: (peer, given) => bounded(given?.signal, signal => ping(peer as PeerId, signal)) },
    registrar: registrarOf(deps, options),
    connectionManager: {
      ...host.connectionManager,
      isDialable: async addresses => {
        const acceptable = deps.addresses.acceptable(Array.isArray(addresses) ? addresses : [addresses])
        if (deps.gate.openConnection !== undefined) return acceptable.length > 0
        return acceptable.length > 0 && (await host.connectionManager.isDialable(acceptable))
      },
      openStream: async (target, protocol, given: StreamOptions = {}) => {
        const peer = target as PeerId
        given.asker?.ask(peer.toString())
        try {
          const stream = await bounded(given.signal, async signal => {
            const connection = await open(peer, signal)
            return connection.newStream(protocol, { signal, maxOutboundStreams: STREAMS_PER_CONNECTION_MAX })
          })
          limitBytes(stream, ANSWER_BYTES_MAX)
          deps.onAnswer(peer, true)
          return stream
        } catch (error) {
          if (given.signal?.aborted !== true) deps.onAnswer(peer, false)
          throw error
        }
      },
    },
  }
}

/** A connection that may be used, with what is known of the peer's addresses. */
function opener({ host, gate, addresses }: ComponentsDeps) {
  const openConnection = async (peer: PeerId, signal: AbortSignal): Promise<Connection> => {
    const known = await addresses.addressesOf(peer)
    if (gate.openConnection !== undefined) {
      const texts = known.map(address => address.toString())
      return await gate.openConnection(peer.toString(), texts, { signal })
    }
    const isOpen = (connection: Connection): boolean => connection.status === 'open'
    const current = host.connectionManager.getConnections(peer).find(isOpen)
    if (current !== undefined) return current
    const targets = known.map(address => address.encapsulate(`/p2p/${peer.toString()}`))
    return await host.connectionManager.openConnection(targets.length === 0 ? peer : targets, { signal })
  }
  return async (peer: PeerId, signal: AbortSignal): Promise<Connection> => {
    const connection = await openConnection(peer, signal)
    if (!connection.remotePeer.equals(peer)) throw refused('gate')
    if (connection.direction === 'outbound') addresses.told(peer, [connection.remoteAddr])
    return connection
  }
}

/** Serves admitted connections only, each within its rate, and no stream beyond its bytes. */
function registrarOf(
  { clock, host, gate, rates }: ComponentsDeps,
  options: ComponentsOptions,
): KadDHTComponents['registrar'] {
  const serve =
    (handler: StreamHandler): StreamHandler =>
    async (stream, connection) => {
      const peer = connection.remotePeer.toString()
      if (gate.isAdmitted?.(connection) === false || !rates.take(peer)) {
        stream.abort(refused('gate'))
        return
      }
      limitBytes(stream, REQUEST_BYTES_MAX, bytes => rates.charge(peer, bytes))
      // kad-dht waits ten seconds for each message, whatever it is told; nobody needs more than one.
      const late = new RangeError('a stream of the DHT was open for too long')
      const cancel = clock.after(options.serveMs, () => stream.abort(late))
      try {
        await handler(stream, connection)
      } catch (error) {
        // kad-dht rejects for bytes that are no message. They are the peer's fault, and its stream's end.
        stream.abort(error instanceof Error ? error : new Error(String(error)))
      } finally {
        cancel()
      }
    }
  const { registrar } = host
  return {
    getProtocols: () => registrar.getProtocols(),
    getHandler: protocol => registrar.getHandler(protocol),
    getTopologies: protocol => registrar.getTopologies(protocol),
    use: (protocol, middleware) => registrar.use(protocol, middleware),
    unuse: protocol => registrar.unuse(protocol),
    getMiddleware: protocol => registrar.getMiddleware(protocol),
    handle: (protocol, handler, given) => registrar.handle(protocol, serve(handler), given),
    unhandle: (protocol, given) => registrar.unhandle(protocol, given),
    register: (protocol, topology) => registrar.register(protocol, topology),
    unregister: id => registrar.unregister(id),
  }
}

function limitBytes(stream: Stream, bytesMax: number, onBytes?: (bytes: number) => void): void {
  let bytes = 0
  stream.addEventListener('message', ({ data }) => {
    bytes += data.byteLength
    onBytes?.(data.byteLength)
    if (bytes > bytesMax) stream.abort(new RangeError('more bytes than a message of the DHT has'))
  })
}

/** Asks over a stream of this protocol, so that only who serves it enters the table. */
async function pingOver(connection: Connection, signal: AbortSignal): Promise<void> {
  const stream = await connection.newStream(PROTOCOLS.kad, { signal, maxOutboundStreams: STREAMS_PER_CONNECTION_MAX })
  try {
    await new Promise<void>((resolve, reject) => {
      const answer: number[] = []
      stream.addEventListener('message', ({ data }) => {
        answer.push(...data.subarray(0, PING.byteLength))
        if (answer.length < PING.byteLength) return
        if (PING.every((byte, index) => answer[index] === byte)) resolve()
        else reject(new Error('the peer answered a ping with something else'))
      })
      stream.addEventListener('close', () => reject(new Error('the peer did not answer a ping')))
      signal.addEventListener('abort', () => reject(abortError(signal)), { once: true })
      stream.send(PING)
    })
    stream.close({ signal }).catch(() => stream.abort(new Error('the peer does not close')))
  } catch (error) {
    stream.abort(error instanceof Error ? error : new Error(String(error)))
    throw error
  }
}
