/**
 * Streams between admitted peers: over the data plane where it can be had, else over libp2p and sealed. Who serves a
 * protocol need not know which; guests, who have no session, come over libp2p alone.
 */
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import { type ByteStream, type Clock, type Logger, messageOf, StreamError, withDeadline } from '#base'
import { acceptSealedStream, openSealedStream, type SessionFault } from '#protocol'
import type { ProtocolId, RefusalReason } from '#wire'
import { NetStream } from './byte-stream.ts'
import { remoteAddressOf } from './address.ts'
import { lost, NetError } from './errors.ts'
import { GUEST_STREAMS_MAX, GUESTS_MAX, OPEN_TIMEOUT_MS, STREAMS_PER_CONNECTION_MAX } from './limits.ts'
import type { DataPlane } from './plane/data-plane.ts'
import type { Session } from './session.ts'
import type { ProbeHandler } from './types.ts'

/** One that throws resets its stream. */
export type StreamHandler = (stream: ByteStream) => void | Promise<void>

export type StreamsDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly libp2p: Pick<Libp2p, 'handle'>
  /** Undefined: this host has none. */
  readonly plane: DataPlane | undefined
  readonly sessionOf: (connection: Connection) => Session | undefined
  readonly guestCount: () => number
  readonly onFault: (session: Session, reason: RefusalReason) => void
}

export type OpenOptions = {
  readonly signal?: AbortSignal
  /** Where the peer's data plane listens, as it says. */
  readonly planePort?: number | undefined
}

type Served = { readonly stream: ByteStream; readonly session: Session }

export class Streams {
  readonly #deps: StreamsDeps
  readonly #handlers = new Map<string, StreamHandler>()
  readonly #probeHandlers = new Map<string, ProbeHandler>()

  constructor(deps: StreamsDeps) {
    this.#deps = deps
  }

  /** Whether admitted peers may open streams of the protocol. */
  serves(protocol: string): boolean {
    return this.#handlers.has(protocol) || this.#probeHandlers.has(protocol)
  }

  async open(session: Session, protocol: ProtocolId, options: OpenOptions): Promise<ByteStream> {
    const { planePort, ...cancel } = options
    if (planePort !== undefined) {
      const stream = await this.#deps.plane?.open(session, { protocol, port: planePort, ...cancel })
      if (stream !== undefined) return stream
    }
    const stream = await this.#newStream(session, protocol, cancel)
    return openSealedStream(this.#sealing(new NetStream(this.#deps, { stream, peer: session.peer }), session))
  }

  handle(protocol: ProtocolId, handler: StreamHandler): void {
    this.#handlers.set(protocol, handler)
    const admit = (stream: NetStream, session: Session): Promise<ByteStream> => {
      if (!session.isAdmitted) throw new Error('the peer has not been admitted')
      return acceptSealedStream(this.#deps, this.#sealing(stream, session))
    }
    const serve = ({ stream }: Served): void | Promise<void> => handler(stream)
    this.#serve(protocol, serve, { admit, streamsMax: STREAMS_PER_CONNECTION_MAX })
  }

  handleGuests(protocol: ProtocolId, handler: StreamHandler): void {
    const serve = async ({ stream, session }: Served): Promise<void> => {
      const isGuest = session.phase === 'guest'
      await Promise.resolve(handler(stream)).finally(() => isGuest && session.guestStreamEnded())
    }
    const admit = (stream: NetStream, session: Session): ByteStream => {
      const hasRoom = session.isAdmitted || session.phase === 'guest' || this.#deps.guestCount() < GUESTS_MAX
      if (!hasRoom || !(session.isAdmitted || session.becomeGuest())) throw new Error('no room for a guest')
      return stream
    }
    this.#serve(protocol, serve, { admit, streamsMax: GUEST_STREAMS_MAX })
  }

  /** Takes streams on connections that were made for them: of guests, and of the data plane; never a session's own. */
  handleProbes(protocol: ProtocolId, handler: ProbeHandler): void {
    this.#probeHandlers.set(protocol, handler)
    const serve = async ({ stream, session }: Served): Promise<void> => {
      const address = remoteAddressOf(session.connection) ?? ''
      await Promise.resolve(handler(stream, { address, isPlane: false })).finally(() => session.guestStreamEnded())
    }
    const admit = (stream: NetStream, session: Session): ByteStream => {
      const isDirect = remoteAddressOf(session.connection) !== undefined
      if (!isDirect || this.#deps.guestCount() >= GUESTS_MAX || !session.becomeGuest()) throw new Error('not a probe')
      return stream
    }
    this.#serve(protocol, serve, { admit, streamsMax: 1 })
  }

  /** A stream that came over the data plane, from a socket there. */
  async serve(stream: ByteStream, from: string): Promise<void> {
    try {
      await this.#handlers.get(stream.protocol)?.(stream)
      await this.#probeHandlers.get(stream.protocol)?.(stream, { address: from, isPlane: true })
    } catch (error) {
      this.#failed(stream, error)
    }
  }

  #serve(
    protocol: ProtocolId,
    handler: (served: Served) => void | Promise<void>,
    options: {
      readonly admit: (stream: NetStream, session: Session) => ByteStream | Promise<ByteStream>
      readonly streamsMax: number
    },
  ): void {
    const limits = { maxInboundStreams: options.streamsMax, maxOutboundStreams: STREAMS_PER_CONNECTION_MAX }
    const serve = async (stream: Stream, connection: Connection): Promise<void> => {
      const session = this.#deps.sessionOf(connection)
      let served: ByteStream | undefined
      try {
        if (session === undefined) throw new Error('the connection is being closed')
        served = await options.admit(new NetStream(this.#deps, { stream, peer: session.peer }), session)
        await handler({ stream: served, session })
      } catch (error) {
        if (served === undefined) stream.abort(asError(error))
        else this.#failed(served, error)
      }
    }
    this.#deps.libp2p.handle(protocol, serve, limits).catch((error: unknown) => {
      this.#deps.log.error('a protocol cannot be served', { protocol, error: messageOf(error) })
    })
  }

  #failed(stream: ByteStream, error: unknown): void {
    const facts = { protocol: stream.protocol, error: messageOf(error) }
    if (error instanceof StreamError) this.#deps.log.debug('a stream ended under its handler', facts)
    else this.#deps.log.warn('a stream was reset, its handler failed', facts)
    stream.abort(asError(error))
  }

  #sealing(stream: ByteStream, session: Session): Parameters<typeof openSealedStream>[0] {
    const onFault = ({ reason, isHostile, what }: SessionFault): void => {
      this.#deps.log.warn('a stream broke the protocol', { peer: session.peer, reason, what })
      if (isHostile) this.#deps.onFault(session, reason)
    }
    return { stream, session: session.secure, onFault }
  }

  async #newStream(session: Session, protocol: ProtocolId, cancel: { readonly signal?: AbortSignal }): Promise<Stream> {
    const { peer, connection } = session
    const deadline = { what: 'opening a stream', timeoutMs: OPEN_TIMEOUT_MS, ...cancel }
    try {
      return await withDeadline(this.#deps.clock, deadline, signal =>
        connection.newStream(protocol, { signal, maxOutboundStreams: STREAMS_PER_CONNECTION_MAX }),
      )
    } catch (error) {
      if (cancel.signal?.aborted === true) throw error
      if (session.phase === 'ended') throw lost(peer)
      const fault = { code: 'NET_PROTOCOL_REFUSED', peer, protocol } as const
      throw new NetError(fault, `the peer did not accept a ${protocol} stream`, { cause: error })
    }
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(messageOf(error))
}
