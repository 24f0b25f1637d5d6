/**
 * Streams between admitted peers: over the data plane where it can be had, else over libp2p and sealed. Who serves a
 * protocol need not know which, nor that streams of some protocols outlive their connections (`carried/`); guests, who
 * have no session, come over libp2p alone.
 */
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import { type ByteStream, type Clock, type Logger, messageOf, type Random, StreamError, withDeadline } from '#base'
import { acceptSealedStream, openSealedStream, type SessionFault } from '#protocol'
import { CARRIED_PROTOCOLS, type NodeOffer, type ProtocolId, type RefusalReason } from '#wire'
import { NetStream } from './byte-stream.ts'
import { remoteAddressOf } from './address.ts'
import { CarriedStreams } from './carried/carried-streams.ts'
import { rankOf } from './paths.ts'
import { lost, NetError } from './errors.ts'
import { GUEST_STREAMS_MAX, GUESTS_MAX } from './limits.ts'
import type { DataPlane } from './plane/data-plane.ts'
import type { Session } from './session.ts'
import type { NetSettings } from './settings.ts'
import type { ProbeHandler } from './types.ts'

/** One that throws resets its stream. */
export type StreamHandler = (stream: ByteStream) => void | Promise<void>

export type StreamsDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly settings: NetSettings
  readonly libp2p: Pick<Libp2p, 'handle'>
  /** Undefined: this host has none. */
  readonly plane: DataPlane | undefined
  readonly sessionOf: (connection: Connection) => Session | undefined
  /** The session that a peer's new streams use, and what the peer offers. */
  readonly preferred: (peer: string) => Session | undefined
  readonly offerOf: (peer: string) => NodeOffer | undefined
  /** Dials a peer that is not here, where it was before. */
  readonly reconnect: (peer: string, options: { readonly signal: AbortSignal }) => Promise<void>
  readonly guestCount: () => number
  readonly onFault: (session: Session, reason: RefusalReason) => void
  /** A session that seems to be there and leads nowhere. */
  readonly onDead: (session: Session) => void
  /** A peer that has left will not be back for what it had with us. */
  readonly onGone: (peer: string) => void
}

type Cancel = { readonly signal?: AbortSignal | undefined }

type Served = { readonly stream: ByteStream; readonly session: Session }

export class Streams {
  readonly #deps: StreamsDeps
  readonly #handlers = new Map<string, StreamHandler>()
  readonly #carried: CarriedStreams<Session>
  readonly #probeHandlers = new Map<string, ProbeHandler>()

  constructor(deps: StreamsDeps) {
    this.#deps = deps
    this.#carried = new CarriedStreams<Session>({
      ...deps,
      sessionOf: deps.preferred,
      rankOf: ({ path }) => rankOf(path),
      openCarrier: (session, protocol, cancel) => this.#open(session, protocol, cancel),
      onFault: (session, what) => {
        deps.log.warn('a stream broke the protocol', { peer: session.peer, what })
        deps.onFault(session, 'malformed')
      },
    })
  }

  /** Whether admitted peers may open streams of the protocol. */
  serves(protocol: string): boolean {
    return this.#handlers.has(protocol) || this.#probeHandlers.has(protocol)
  }

  /** @throws NetError */
  open(session: Session, protocol: ProtocolId, cancel: Cancel): Promise<ByteStream> {
    if (CARRIED_PROTOCOLS.has(protocol)) return this.#carried.open(session, protocol, cancel)
    return this.#open(session, protocol, cancel)
  }

  /** A peer has a session: what waits for one goes on. */
  sessionJoined(session: Session, options: { readonly isReturn: boolean }): void {
    this.#carried.sessionJoined(session, options)
  }

  /** A peer's last session has ended; `isFinal`: because one of us wanted that. */
  peerLeft(session: Session, options: { readonly isFinal: boolean }): void {
    this.#carried.peerLeft(session.peer, { ...options, direction: session.direction })
  }

  /** Ends streams that would outlive the host. */
  async stop(): Promise<void> {
    await this.#carried.stop()
  }

  async #open(session: Session, protocol: string, cancel: Cancel): Promise<ByteStream> {
    const offer = this.#deps.offerOf(session.peer)
    const { plane } = this.#deps
    if (plane !== undefined && offer?.planePort !== undefined) {
      const { planePort: port, addresses: offered } = offer
      const stream = await plane.open(session, { protocol, port, offered, ...cancel })
      if (stream !== undefined) return stream
    }
    const stream = await this.#newStream(session, protocol, cancel)
    return openSealedStream(this.#sealing(this.#netStream(stream, session), session))
  }

  handle(protocol: ProtocolId, handler: StreamHandler): void {
    this.#handlers.set(protocol, handler)
    const admit = (stream: NetStream, session: Session): Promise<ByteStream> => {
      if (!session.isAdmitted) throw new Error('the peer has not been admitted')
      return acceptSealedStream(this.#deps, this.#sealing(stream, session))
    }
    const serve = ({ stream, session }: Served): Promise<void> => this.#toHandler(handler, stream, session)
    this.#serve(protocol, serve, { admit, streamsMax: this.#deps.settings.streamsMax })
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
      const isDirect = session.path.kind === 'direct' && remoteAddressOf(session.connection) !== undefined
      if (!isDirect || this.#deps.guestCount() >= GUESTS_MAX || !session.becomeGuest()) throw new Error('not a probe')
      return stream
    }
    this.#serve(protocol, serve, { admit, streamsMax: 1 })
  }

  /** A stream that came over the data plane, from a socket there. */
  async serve(stream: ByteStream, session: Session, from: string): Promise<void> {
    const handler = this.#handlers.get(stream.protocol)
    try {
      if (handler !== undefined) await this.#toHandler(handler, stream, session)
      else await this.#probeHandlers.get(stream.protocol)?.(stream, { address: from, isPlane: true })
    } catch (error) {
      this.#failed(stream, error)
    }
  }

  /** Where the protocol's streams are carried: what came may be another carrier of one that the handler has already. */
  async #toHandler(handler: StreamHandler, stream: ByteStream, session: Session): Promise<void> {
    const isCarried = CARRIED_PROTOCOLS.has(stream.protocol)
    const served = isCarried ? await this.#carried.accept(stream, session) : stream
    if (served === undefined) return
    try {
      await handler(served)
    } catch (error) {
      this.#failed(served, error)
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
    const limits = { maxInboundStreams: options.streamsMax, maxOutboundStreams: this.#deps.settings.streamsMax }
    const serve = async (stream: Stream, connection: Connection): Promise<void> => {
      const session = this.#deps.sessionOf(connection)
      let served: ByteStream | undefined
      try {
        if (session === undefined) throw new Error('the connection is being closed')
        served = await options.admit(this.#netStream(stream, session), session)
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

  /** The connection is of use from here to the stream's end. */
  #netStream(stream: Stream, session: Session): NetStream {
    session.used()
    stream.addEventListener('close', () => session.used())
    return new NetStream(this.#deps, { stream, peer: session.peer, traffic: session.streamTraffic })
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

  async #newStream(session: Session, protocol: string, cancel: Cancel): Promise<Stream> {
    const { peer, connection } = session
    const { signal } = cancel
    const what = 'opening a stream'
    const deadline = { what, timeoutMs: this.#deps.settings.openTimeoutMs, ...(signal === undefined ? {} : { signal }) }
    try {
      return await withDeadline(this.#deps.clock, deadline, signal =>
        connection.newStream(protocol, { signal, maxOutboundStreams: this.#deps.settings.streamsMax }),
      )
    } catch (error) {
      if (signal?.aborted === true) throw error
      if (session.phase === 'ended') throw lost(peer)
      const fault = { code: 'NET_PROTOCOL_REFUSED', peer, protocol } as const
      throw new NetError(fault, `the peer did not accept a ${protocol} stream`, { cause: error })
    }
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(messageOf(error))
}
