/**
 * The data plane: streams as TLS sockets of their own beside the connection that holds the session, where a direct
 * connection can be had. What would cross a stream of libp2p in a multiplexer, sealed inside TLS, crosses one TLS socket:
 * nobody stands between the two ends, so one encryption will do. A stream that cannot be had here goes over libp2p.
 *
 * A server listens at a port of its own, which peers are told in the offer. It takes connections only for sessions that
 * are admitted, and a connection ends with the session that its key comes from.
 */
import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type TLSSocket } from 'node:tls'
import { assert, type ByteStream, type Clock, type Logger, messageOf, type Random, withDeadline } from '#base'
import { decodePlaneIdentity, encodePlaneIdentity, type PlaneIdentity } from '#protocol'
import { decodeAddress } from '../address.ts'
import { NetError } from '../errors.ts'
import { Breakers } from '../life/breakers.ts'
import {
  HANDSHAKES_MAX,
  PLANE_BACKLOG,
  PLANE_RETRY_MS_MAX,
  PLANE_RETRY_MS_MIN,
  STREAMS_PER_CONNECTION_MAX,
} from '../limits.ts'
import { PendingSockets } from '../newcomers.ts'
import type { Session } from '../session.ts'
import type { NetSettings } from '../settings.ts'
import { dial, isKeyed, serverOptions } from './handshake.ts'
import { PlaneStream, type PlaneStreamSettings } from './plane-stream.ts'

export type DataPlaneDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly settings: PlaneStreamSettings & Pick<NetSettings, 'admissionTimeoutMs' | 'planeTimeoutMs'>
  readonly sessions: () => Iterable<Session>
  /** Whether a socket from this multiaddr is closed before anything is said. */
  readonly refuses: (from: string) => boolean
  readonly serves: (protocol: string) => boolean
  /** @param from the multiaddr of the socket's other end */
  readonly onStream: (stream: ByteStream, session: Session, from: string) => void
}

export type DataPlaneOptions = {
  /** IP addresses to listen at. */
  readonly hosts: readonly string[]
  /** The same at all of them. 0: any that is free. */
  readonly port: number
  /** Ports that others of this process will want: none of these where any would do. @default none */
  readonly avoids?: (port: number) => boolean
}

export type PlaneOpenOptions = {
  readonly protocol: string
  /** Where the peer's data plane listens, as it says. */
  readonly port: number
  /** The addresses that the peer offers. */
  readonly offered: readonly string[]
  readonly signal?: AbortSignal | undefined
}

/** Streams go over libp2p while a peer is left alone here, so one failure is enough for that. */
const RETRY = {
  breakerFailures: 1,
  breakerWindowMs: PLANE_RETRY_MS_MIN,
  breakerWaitMsMin: PLANE_RETRY_MS_MIN,
  breakerWaitMsMax: PLANE_RETRY_MS_MAX,
}

export class DataPlane {
  readonly #deps: DataPlaneDeps
  readonly #options: DataPlaneOptions
  readonly #servers: Server[] = []
  readonly #sockets = new Set<TLSSocket>()
  readonly #pending = new PendingSockets()
  readonly #identities = new WeakMap<TLSSocket, { readonly identity: PlaneIdentity; readonly session: Session }>()
  /** By peer id. */
  readonly #breakers: Breakers
  /** Peers to whom a stream was opened here since they came. */
  readonly #reached = new Set<string>()
  #port: number | undefined

  constructor(deps: DataPlaneDeps, options: DataPlaneOptions) {
    this.#deps = deps
    this.#options = options
    this.#breakers = new Breakers(deps, RETRY)
  }

  /** The port that peers are told; undefined until it is had. */
  get port(): number | undefined {
    return this.#port
  }

  /** @throws NetError NET_LISTEN_FAILED where a port that was asked for cannot be had */
  async start(): Promise<void> {
    for (const host of this.#options.hosts) {
      let server: Server
      try {
        server = await this.#listen(host, this.#port ?? this.#options.port)
      } catch (error) {
        if (this.#options.port === 0) {
          this.#deps.log.warn('the data plane does without an address', { error: messageOf(error) })
          continue
        }
        await this.stop()
        throw new NetError({ code: 'NET_LISTEN_FAILED' }, 'the port of the data plane could not be had', {
          cause: error,
        })
      }
      this.#servers.push(server)
      this.#port = portOf(server)
    }
  }

  /** Where the system chooses a port that is to be avoided, that one is held until it has chosen another. */
  async #listen(host: string, port: number): Promise<Server> {
    const server = this.#createServer()
    server.listen({ host, port, backlog: PLANE_BACKLOG })
    try {
      await once(server, 'listening')
      if (port !== 0 || this.#options.avoids?.(portOf(server)) !== true) return server
    } catch (error) {
      server.close()
      throw error
    }
    try {
      return await this.#listen(host, port)
    } finally {
      server.close()
    }
  }

  /** Resolves when all sockets are gone: at once, or when handshakes that were under way have come to an end. */
  async stop(): Promise<void> {
    const closed = this.#servers.splice(0).map(server => new Promise<void>(resolve => server.close(() => resolve())))
    for (const socket of this.#sockets) socket.destroy()
    await Promise.all(closed)
    this.#port = undefined
  }

  /**
   * A stream to the session's peer, at the address where the session's connection goes.
   * @returns undefined where it cannot be had now @throws the signal's reason
   */
  async open(session: Session, options: PlaneOpenOptions): Promise<ByteStream | undefined> {
    const { protocol, port, offered, signal } = options
    const { settings } = this.#deps
    const { peer, path, connection, secure } = session
    // Elsewhere the other end of the connection is not the peer, or a NAT that maps no port of the data plane.
    if (path.kind !== 'direct') return undefined
    const host = decodeAddress(connection.remoteAddr.toString())?.host
    const isFull = session.planeStreams.size >= STREAMS_PER_CONNECTION_MAX
    if (host === undefined || isFull || !this.#mayListen(session, host, offered)) return undefined
    if (this.#breakers.enter(peer) !== undefined) return undefined
    const cancel = signal === undefined ? {} : { signal }
    const { identity, key } = secure.openPlane()
    const target = { host, port, identity: encodePlaneIdentity(identity), key, protocol }
    const deadline = { what: 'opening a stream of the data plane', timeoutMs: settings.planeTimeoutMs, ...cancel }
    try {
      const socket = await withDeadline(this.#deps.clock, deadline, signal => dial({ ...target, signal }))
      this.#breakers.succeeded(peer)
      this.#reached.add(peer)
      return this.#streamOf(socket, session, protocol)
    } catch (error) {
      if (signal?.aborted === true) {
        this.#breakers.gaveUp(peer)
        throw error
      }
      // That the peer does not serve a protocol says that there is a way to it.
      if (isOfProtocol(error)) this.#breakers.succeeded(peer)
      else this.#failed(peer, error)
      return undefined
    }
  }

  /** A stream to the session's peer at a place that is to be tried. What comes of it changes nothing here. @throws Error */
  async probe(
    session: Session,
    target: { readonly host: string; readonly port: number; readonly protocol: string; readonly signal: AbortSignal },
  ): Promise<ByteStream> {
    const { identity, key } = session.secure.openPlane()
    const socket = await dial({ ...target, identity: encodePlaneIdentity(identity), key })
    return this.#streamOf(socket, session, target.protocol)
  }

  /** Forgets what was found out about a peer that has left. */
  forget(peer: string): void {
    this.#breakers.succeeded(peer)
    this.#reached.delete(peer)
  }

  /** Whoever came to us from an address that it does not offer came through a NAT: nothing listens for us there. */
  #mayListen(session: Session, host: string, offered: readonly string[]): boolean {
    if (session.direction === 'outbound' || this.#reached.has(session.peer)) return true
    return offered.some(address => decodeAddress(address)?.host === host)
  }

  /**
   * A socket is given to TLS only once it has a place, and from then on only TLS ends it: Node 24 corrupts its memory where
   * a socket is destroyed under a `TLSSocket`.
   */
  #createServer(): Server {
    const keys = {
      find: (socket: TLSSocket, text: string) => this.#keyFor(socket, text),
      serves: this.#deps.serves,
      timeoutMs: this.#deps.settings.admissionTimeoutMs,
    }
    const tls = createTlsServer(serverOptions(keys), socket => this.#onSecure(socket))
    tls.on('tlsClientError', (error, socket) => {
      this.#deps.log.debug('a connection to the data plane failed', { error: error.message })
      socket.destroy()
    })
    const server = createServer({ noDelay: true, keepAlive: true }, socket => {
      if (this.#enters(socket)) tls.emit('connection', socket)
      else socket.destroy()
    })
    return server.on('error', error => this.#deps.log.warn('the data plane has trouble', { error: error.message }))
  }

  /** Before any cryptography: places are few, and for one address fewer. */
  #enters(socket: Socket): boolean {
    const from = multiaddrOf(socket)
    if (this.#pending.size >= HANDSHAKES_MAX || this.#deps.refuses(from) || !this.#pending.enter(from)) return false
    socket.once('close', () => this.#pending.leave(from))
    return true
  }

  #keyFor(socket: TLSSocket, text: string): Uint8Array | undefined {
    const identity = decodePlaneIdentity(text)
    if (identity === undefined) return undefined
    for (const session of this.#deps.sessions()) {
      const key = session.isAdmitted ? session.secure.planeKeyFor(identity) : undefined
      if (key === undefined) continue
      this.#identities.set(socket, { identity, session })
      return key
    }
    return undefined
  }

  #onSecure(socket: TLSSocket): void {
    this.#pending.leave(multiaddrOf(socket))
    const keyed = this.#identities.get(socket)
    const protocol = socket.alpnProtocol
    const canBe = keyed !== undefined && isKeyed(socket) && typeof protocol === 'string' && keyed.session.isAdmitted
    if (!canBe || keyed.session.planeStreams.size >= STREAMS_PER_CONNECTION_MAX) socket.destroy()
    else if (!keyed.session.secure.acceptPlane(keyed.identity)) socket.destroy()
    else this.#deps.onStream(this.#streamOf(socket, keyed.session, protocol), keyed.session, multiaddrOf(socket))
  }

  #streamOf(socket: TLSSocket, session: Session, protocol: string): ByteStream {
    const stream = new PlaneStream(this.#deps, { socket, peer: session.peer, protocol, traffic: session.streamTraffic })
    this.#sockets.add(socket)
    session.planeStreams.add(stream)
    session.used()
    void stream.gone.then(() => {
      this.#sockets.delete(socket)
      session.planeStreams.delete(stream)
      session.used()
    })
    if (!session.isAdmitted) stream.abort(new Error('the session has ended'))
    return stream
  }

  #failed(peer: string, error: unknown): void {
    this.#breakers.failed(peer)
    this.#deps.log.info('a peer has no data plane for us; streams go over libp2p', { peer, error: messageOf(error) })
  }
}

function portOf(server: Server): number {
  const bound = server.address()
  assert(typeof bound === 'object' && bound !== null, 'a server that listens has a port')
  return bound.port
}

/** The alert of RFC 7301, 3.2, as OpenSSL calls it. */
function isOfProtocol(error: unknown): boolean {
  return error instanceof Error && 'code' in error && String(error.code).endsWith('_NO_APPLICATION_PROTOCOL')
}

function multiaddrOf({ remoteAddress = '', remotePort = 0 }: Socket): string {
  return `/${remoteAddress.includes(':') ? 'ip6' : 'ip4'}/${remoteAddress}/tcp/${remotePort}`
}
