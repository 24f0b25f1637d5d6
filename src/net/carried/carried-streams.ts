/**
 * The streams of a host that outlive their carriers: who has which, what becomes of those that have lost theirs, and how
 * late carriers find the stream that they are for.
 *
 * A stream is known by its peer and 16 random bytes. Only a session of that very peer can bring a carrier for it.
 */
import {
  type ByteStream,
  type CancelTimer,
  type Clock,
  type Logger,
  type Random,
  StreamError,
  toHex,
  withDeadline,
} from '#base'
import {
  CARRIED_ENDED_MAX,
  CARRIED_PEERS_REMEMBERED_MAX,
  CARRIED_PER_PEER_MAX,
  CARRIED_START_MS_MAX,
  CARRIED_STARTING_MAX,
  CARRIED_UNKNOWN_MAX,
  CARRIED_WAITING_BYTES_MAX,
  CARRIED_WAITING_MAX,
  CARRIED_WINDOW_MS,
} from '../limits.ts'
import { type CarriedSettings, CarriedStream, lostBy, resetBy } from './carried-stream.ts'
import { Carrier } from './carrier.ts'
import { type CarriedFrame, type OpenFrame, type ResetReason, STREAM_ID_BYTES } from './frames.ts'
import { Recovery } from './recovery.ts'

/** What is asked of a session. */
export type CarrierSession = { readonly peer: string; readonly direction: 'inbound' | 'outbound' }

export type CarriedStreamsDeps<S> = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly settings: CarriedSettings
  /** The session that new carriers use; undefined: the peer is not here. */
  readonly sessionOf: (peer: string) => S | undefined
  /** How good the path of a session is: lower is better. Streams move to a better one. */
  readonly rankOf: (session: S) => number
  readonly openCarrier: (
    session: S,
    protocol: string,
    options: { readonly signal?: AbortSignal | undefined },
  ) => Promise<ByteStream>
  /** Dials a peer that is not here, at the addresses that were known. Rejects where that does not lead to it. */
  readonly reconnect: (peer: string, options: { readonly signal: AbortSignal }) => Promise<void>
  /** A session on which no carrier can be had although it seems to be there. */
  readonly onDead: (session: S) => void
  readonly onFault: (session: S, what: string) => void
  /** A peer has left, and nothing that it had with us waits for its return any more. */
  readonly onGone: (peer: string) => void
}

type PeerStreams<S> = {
  readonly streams: Map<string, CarriedStream<S>>
  /** How streams of before have ended, the oldest first. */
  readonly ended: Map<string, ResetReason>
  readonly recovery: Recovery<S>
  /** It has left, and streams wait for its return. */
  isMissed: boolean
  /** Stops the timer that forgets how its streams have ended, where it has left and nothing else of it is here. */
  cancelForgetting: CancelTimer | undefined
}

export class CarriedStreams<S extends CarrierSession> {
  readonly #deps: CarriedStreamsDeps<S>
  readonly #peers = new Map<string, PeerStreams<S>>()
  readonly #waiting = new Map<CarriedStream<S>, () => void>()
  readonly #unknown = new WeakMap<S, number>()
  readonly #starting = new Set<Carrier<S>>()
  #isStopped = false

  constructor(deps: CarriedStreamsDeps<S>) {
    this.#deps = deps
  }

  /** Opens a stream: its first bytes go out without waiting for an answer. @throws as `openCarrier` does */
  async open(
    session: S,
    protocol: string,
    options: { readonly signal?: AbortSignal | undefined },
  ): Promise<ByteStream> {
    const { peer } = session
    const carrier = this.#carrier(await this.#deps.openCarrier(session, protocol, options), session)
    if (this.#isStopped || (this.#peers.get(peer)?.streams.size ?? 0) >= CARRIED_PER_PEER_MAX) {
      carrier.abort()
      throw new StreamError({ code: 'STREAM_RESET' }, 'there are too many streams with the peer')
    }
    const stream = this.#create({ id: this.#deps.random.bytes(STREAM_ID_BYTES), peer, protocol, role: 'opener' })
    stream.begin(carrier)
    void carrier.run()
    return stream
  }

  /**
   * A carrier that a peer has opened. Hears out its first frame, which says what it is for.
   * @returns the stream, where it is a new one; undefined: the carrier was for one that is here, or is refused
   */
  async accept(bytes: ByteStream, session: S): Promise<ByteStream | undefined> {
    const carrier = this.#carrier(bytes, session)
    const sameCount = [...this.#starting].filter(other => other.session === session).length
    if (this.#isStopped || sameCount >= CARRIED_STARTING_MAX) {
      carrier.abort() // Whoever means well tries again.
      return undefined
    }
    const first = Promise.withResolvers<ByteStream | undefined>()
    carrier.handTo({
      onData: () => this.#refuse(carrier, 'data before the first frame', first.resolve),
      onFrame: frame => first.resolve(this.#onFirst(carrier, bytes.protocol, frame)),
      onFault: what => this.#refuse(carrier, what, first.resolve),
      onEnd: () => first.resolve(undefined),
    })
    this.#starting.add(carrier)
    void carrier.run()
    const options = { what: 'the first frame of a stream', timeoutMs: CARRIED_START_MS_MAX }
    try {
      return await withDeadline(this.#deps.clock, options, () => first.promise)
    } catch {
      carrier.abort() // It said nothing for so long: nothing was begun.
      return undefined
    } finally {
      this.#starting.delete(carrier)
    }
  }

  /**
   * There is a session: those who wait for one have it, and those on a worse path move. `isReturn`: the peer dials again
   * although there is a session, so it has lost that one, and what we have on it leads nowhere.
   */
  sessionJoined(session: S, { isReturn }: { readonly isReturn: boolean }): void {
    const of = this.#peers.get(session.peer)
    if (of === undefined) return
    of.isMissed = false
    of.cancelForgetting?.()
    of.recovery.wake()
    const rank = this.#deps.rankOf(session)
    for (const stream of of.streams.values()) {
      const now = stream.session
      const isWorse = now !== undefined && this.#deps.rankOf(now) > rank - (isReturn ? 1 : 0)
      if (isWorse && stream.role === 'opener' && stream.phase === 'flowing') void of.recovery.carry(stream, session)
    }
  }

  /**
   * The peer's last session has ended. `isFinal`: by the word of one of us, so nothing waits for another one.
   * Otherwise its streams have their time to be resumed, and `onGone` tells when none of them waits any more.
   */
  peerLeft(peer: string, options: { readonly isFinal: boolean; readonly direction: 'inbound' | 'outbound' }): void {
    const of = this.#peers.get(peer)
    if (of === undefined) {
      this.#deps.onGone(peer)
      return
    }
    of.isMissed = true
    of.recovery.setDialler(options.direction === 'outbound')
    for (const stream of of.streams.values()) {
      if (options.isFinal) stream.fail(resetBy(new Error('one of the two nodes has ended the session')))
      else stream.giveUpCarrier()
    }
    this.#tidy(peer)
  }

  /** Ends every stream. Resolves when no task is left. */
  async stop(): Promise<void> {
    this.#isStopped = true
    for (const carrier of this.#starting) carrier.abort()
    const peers = [...this.#peers.values()]
    for (const { streams } of peers) for (const stream of streams.values()) stream.abort(new Error('the host stops'))
    for (const { cancelForgetting } of peers) cancelForgetting?.()
    await Promise.all(peers.map(({ recovery }) => recovery.settled()))
  }

  #onFirst(carrier: Carrier<S>, protocol: string, frame: CarriedFrame): ByteStream | undefined {
    const { session } = carrier
    if (frame.kind !== 'open') {
      this.#refuse(carrier, 'a first frame that opens nothing')
      return undefined
    }
    const { peer } = session
    const key = toHex(frame.id)
    const of = this.#peers.get(peer)
    const known = of?.streams.get(key)
    if (known !== undefined) {
      if (known.role === 'opener' || known.protocol !== protocol || frame.number === 0) {
        this.#refuse(carrier, 'an opening of a stream that is another')
      } else known.accept(carrier, frame)
      return undefined
    }
    const ended = of?.ended.get(key)
    if (ended !== undefined) carrier.dismiss({ kind: 'reset', reason: ended })
    else if (this.#isOfAnother(peer, key)) this.#refuse(carrier, 'the id of another peer’s stream')
    else if (frame.hasHeard) this.#onUnknown(carrier)
    else return this.#begin(carrier, protocol, frame)
    return undefined
  }

  /** The peer has never heard of us on it, so it is new, even where an earlier carrier was lost on its way. */
  #begin(carrier: Carrier<S>, protocol: string, frame: OpenFrame): ByteStream | undefined {
    const { peer } = carrier.session
    if (this.#isStopped || this.#peer(peer).streams.size >= CARRIED_PER_PEER_MAX) {
      carrier.dismiss({ kind: 'reset', reason: 'full' })
      return undefined
    }
    const stream = this.#create({ id: frame.id, peer, protocol, role: 'listener' })
    stream.accept(carrier, frame)
    return stream.phase === 'ended' ? undefined : stream
  }

  /** We have started again since, or gave it up; many of these are guesses. */
  #onUnknown(carrier: Carrier<S>): void {
    const { session } = carrier
    const count = (this.#unknown.get(session) ?? 0) + 1
    this.#unknown.set(session, count)
    if (count > CARRIED_UNKNOWN_MAX) this.#refuse(carrier, 'too many streams that nobody knows')
    else carrier.dismiss({ kind: 'reset', reason: 'unknown' })
  }

  #isOfAnother(peer: string, key: string): boolean {
    for (const [other, { streams }] of this.#peers) if (other !== peer && streams.has(key)) return true
    return false
  }

  #refuse(carrier: Carrier<S>, what: string, settle?: (stream: undefined) => void): void {
    carrier.dismiss({ kind: 'reset', reason: 'fault' })
    settle?.(undefined)
    this.#deps.onFault(carrier.session, what)
  }

  #carrier(bytes: ByteStream, session: S): Carrier<S> {
    return new Carrier(this.#deps.clock, bytes, session)
  }

  #create(options: ConstructorParameters<typeof CarriedStream<S>>[1]): CarriedStream<S> {
    const owner = {
      onWaiting: (stream: CarriedStream<S>) => this.#onWaiting(stream),
      onResumed: (stream: CarriedStream<S>) => this.#onResumed(stream),
      onEnded: (stream: CarriedStream<S>, how: 'finished' | 'reset') => this.#onEnded(stream, how),
      onFault: this.#deps.onFault,
    }
    const stream = new CarriedStream<S>({ ...this.#deps, owner }, options)
    this.#peer(options.peer).streams.set(toHex(options.id), stream)
    return stream
  }

  #peer(peer: string): PeerStreams<S> {
    const known = this.#peers.get(peer)
    if (known !== undefined) return known
    const streams = new Map<string, CarriedStream<S>>()
    const waiting = (): CarriedStream<S>[] =>
      [...streams.values()].filter(({ phase }) => phase === 'waiting' || phase === 'resuming')
    const made = {
      streams,
      ended: new Map<string, ResetReason>(),
      isMissed: false,
      cancelForgetting: undefined,
      recovery: new Recovery<S>(
        { ...this.#deps, carrierOf: (bytes, session) => this.#carrier(bytes, session) },
        { peer, waiting },
      ),
    }
    this.#peers.set(peer, made)
    return made
  }

  /** Waiting costs memory: only so many may, and where one may not it is lost at once. */
  #onWaiting(stream: CarriedStream<S>): void {
    const { log, clock } = this.#deps
    let heldBytes = stream.heldBytes
    for (const other of this.#waiting.keys()) if (other !== stream) heldBytes += other.heldBytes
    const isFull = !this.#waiting.has(stream) && this.#waiting.size >= CARRIED_WAITING_MAX
    if (this.#isStopped || isFull || heldBytes > CARRIED_WAITING_BYTES_MAX) {
      stream.fail(lostBy('the connection was lost, and too many streams wait already'))
      return
    }
    if (!this.#waiting.has(stream)) {
      log.info('a stream has lost its carrier and waits for another', { peer: stream.peer, protocol: stream.protocol })
      const expire = (): void => stream.fail(lostBy('the connection was lost, and no other was found in time'))
      this.#waiting.set(stream, clock.after(CARRIED_WINDOW_MS, expire))
    }
    this.#peer(stream.peer).recovery.wake()
  }

  #onResumed(stream: CarriedStream<S>): void {
    this.#waiting.get(stream)?.()
    if (!this.#waiting.delete(stream)) return
    this.#deps.log.info('a stream goes on over another carrier', { peer: stream.peer, protocol: stream.protocol })
  }

  #onEnded(stream: CarriedStream<S>, how: 'finished' | 'reset'): void {
    this.#waiting.get(stream)?.()
    this.#waiting.delete(stream)
    const of = this.#peers.get(stream.peer)
    const key = toHex(stream.id)
    if (of?.streams.delete(key) !== true) return
    if (stream.role === 'listener') of.ended.set(key, how)
    for (const oldest of of.ended.keys()) {
      if (of.ended.size <= CARRIED_ENDED_MAX) break
      of.ended.delete(oldest)
    }
    of.recovery.wake()
    this.#tidy(stream.peer)
  }

  /** Where a peer that has left has no stream here any more, it is gone. */
  #tidy(peer: string): void {
    const of = this.#peers.get(peer)
    if (of === undefined || of.streams.size > 0) return
    const { isMissed } = of
    of.isMissed = false
    if (this.#deps.sessionOf(peer) === undefined) this.#forgetLater(peer, of)
    if (isMissed) this.#deps.onGone(peer)
  }

  /** The last word on a stream may be lost with the session: whoever comes back in time to ask still hears how it ended. */
  #forgetLater(peer: string, of: PeerStreams<S>): void {
    of.cancelForgetting?.()
    const forget = (): void => {
      if (of.streams.size === 0 && this.#deps.sessionOf(peer) === undefined) this.#peers.delete(peer)
    }
    const isFull = this.#peers.size > CARRIED_PEERS_REMEMBERED_MAX
    if (this.#isStopped || isFull || of.ended.size === 0) forget()
    else of.cancelForgetting = this.#deps.clock.after(CARRIED_WINDOW_MS, forget)
  }
}
