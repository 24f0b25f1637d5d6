/**
 * One connection to one peer: its hello stream from the first byte to the last. A session proves, joins, keeps the
 * offers of both sides fresh, measures the round-trip time, and ends; what follows from that for the peer (who may have
 * several sessions) is the peer table's business.
 */
import type { Connection, Stream } from '@libp2p/interface'
import { abortable, type ByteStream, type CancelTimer, codeOf, sleep, StreamError, withDeadline } from '#base'
import {
  ControlLink,
  type LinkDeps,
  type LinkFacts,
  type LinkMessage,
  Refusal,
  type RefusalFacts,
  type SecureSession,
  TokenBucket,
} from '#protocol'
import {
  CONTROL_SCHEMAS,
  type ControlBody,
  type ControlType,
  decodeBody,
  FRAME_TYPES,
  type KnownPeer,
  type NodeOffer,
  type Priority,
  PROTOCOLS,
  type RefusalReason,
} from '#wire'
import { NetStream } from './byte-stream.ts'
import { remoteAddressOf } from './address.ts'
import { lost, NetError } from './errors.ts'
import { hangUp } from './hang-up.ts'
import { CONTROL_TOKENS_MAX, CONTROL_TOKENS_PER_SECOND, LINGER_MS, OFFER_INTERVAL_MS } from './limits.ts'
import type { Living, Traffic } from './life/connections.ts'
import { Pinger } from './life/pinger.ts'
import { Silence } from './life/silence.ts'
import { plainFacts, refusalError } from './refusals.ts'
import type { NetSettings } from './settings.ts'
import type { PeerPath } from './types.ts'

export type SessionDeps = LinkDeps & { readonly settings: NetSettings }

export type SessionOptions = {
  readonly connection: Connection
  /** How the connection came about. */
  readonly path: PeerPath
  readonly secret?: Uint8Array
  readonly owner: SessionOwner
}

/** What a session asks of the host and tells it. */
export interface SessionOwner {
  /** Whether there is room for this peer, asked once it has proved itself. */
  hasRoom(session: Session): boolean
  offer(): NodeOffer
  /** Our own signed peer record, as far as it is made. */
  record(): Uint8Array | undefined
  /** Whom we introduce to this peer. */
  introductions(session: Session): KnownPeer[]
  onJoined(session: Session, message: Announcement): void
  onOffer(session: Session, message: Announcement): void
  /** @param options.isNews they have just joined the peer, and so are about to dial us */
  onIntroduced(peers: readonly KnownPeer[], options: { readonly isNews: boolean }): void
  /** A ping came back; `session.rttMs` is new. */
  onRtt(session: Session): void
  /** Something was said that is no ping, or a service's stream began or ended. */
  onUsed(session: Session): void
  /** A message that is not the session's own business. */
  onMessage(session: Session, message: LinkMessage): void
  /** The peer broke the rules, or failed to prove who it is. */
  onFault(session: Session, reason: RefusalReason): void
  /** @param ended.error why, as those who still needed it are told @param ended.code of its goodbye, where it said one */
  onEnded(session: Session, ended: { readonly error: NetError; readonly code: number | undefined }): void
}

/** What a peer says of itself. */
export type Announcement = { readonly offer: NodeOffer; readonly record?: Uint8Array | undefined }

/**
 * proving -> admitted (the link is established) -> joined (offers exchanged) -> ended, from each of them.
 * proving -> guest (the peer speaks another protocol) -> ended.
 * proving -> turned away (it waits to hear why) -> ended.
 */
export type SessionPhase = 'proving' | 'guest' | 'admitted' | 'joined' | 'turned-away' | 'ended'

/** Each 8 KiB of a message cost a token more. */
const BYTES_PER_TOKEN = 8 * 1024

/** What we send of our own accord stays below what the peer allows: clocks and networks are not exact. */
const ALLOWANCE = { tokensMax: CONTROL_TOKENS_MAX / 2, perSecond: CONTROL_TOKENS_PER_SECOND * 0.9 }

export class Session implements Living {
  readonly connection: Connection
  readonly peer: string
  readonly direction: 'inbound' | 'outbound'
  readonly path: PeerPath
  /** Resolves once the peer is usable; rejects with the reason where it never was. */
  readonly joined: Promise<void>
  /** Open streams of the data plane whose keys come from this session: they end with it. */
  readonly planeStreams = new Set<ByteStream>()
  /** Clock.monotonic() at admission. */
  joinedAt = 0
  /** Bytes of the streams of services so far. Whoever carries them counts. */
  readonly streamTraffic: Traffic = { bytesIn: 0, bytesOut: 0 }
  readonly #controlTraffic: Traffic = { bytesIn: 0, bytesOut: 0 }
  readonly #silence = new Silence()
  readonly #pinger: Pinger
  /** Where the peer says that it sees us: a multiaddr, as it was sent. */
  observedAddress: string | undefined
  readonly #deps: SessionDeps
  readonly #owner: SessionOwner
  readonly #secret: Uint8Array | undefined
  readonly #bucket: TokenBucket
  /** What the peer still takes of us without calling it a flood. */
  readonly #allowance: TokenBucket
  readonly #joining = Promise.withResolvers<void>()
  readonly #cancels = new Set<CancelTimer>()
  #phase: SessionPhase = 'proving'
  #link: ControlLink | undefined
  #stream: Stream | undefined
  #hasSentInfo = false
  #guestStreams = 0
  #turnedAway: { readonly reason: RefusalReason; readonly facts: RefusalFacts } | undefined
  #offerSentAt = Number.NEGATIVE_INFINITY
  #isOfferDue = false
  #hangUp: Promise<void> | undefined
  #goodbyeCode: number | undefined

  constructor(deps: SessionDeps, options: SessionOptions) {
    const { connection, path, secret, owner } = options
    this.#deps = deps
    this.#owner = owner
    this.#secret = secret
    this.connection = connection
    this.peer = connection.remotePeer.toString()
    this.direction = connection.direction
    this.path = path
    this.joined = this.#joining.promise
    this.joined.catch(() => undefined) // Whoever waits for it hears of it; often nobody does.
    this.#bucket = new TokenBucket(deps, { tokensMax: CONTROL_TOKENS_MAX, perSecond: CONTROL_TOKENS_PER_SECOND })
    this.#allowance = new TokenBucket(deps, ALLOWANCE)
    const pinger = {
      ...deps,
      send: (id: number) => this.#sendPing(id),
      onRtt: () => owner.onRtt(this),
      onDead: () => this.end(lost(this.peer)),
    }
    this.#pinger = new Pinger(pinger, deps.settings)
    connection.addEventListener('close', () => this.#finish(lost(this.peer)))
    this.#after(this.#deps.settings.admissionTimeoutMs, () => {
      if (this.#phase === 'proving' || this.#phase === 'admitted') this.refuse('slow')
    })
  }

  get phase(): SessionPhase {
    return this.#phase
  }

  /** Whether the peer has proved itself: only then may it open other streams. */
  get isAdmitted(): boolean {
    return this.#phase === 'admitted' || this.#phase === 'joined'
  }

  /** Smoothed round-trip time of the last pings, in milliseconds. */
  get rttMs(): number | undefined {
    return this.#pinger.rttMs
  }

  /** Pings in a row that the peer has not answered in time. */
  get pingFailures(): number {
    return this.#pinger.failures
  }

  /** Open streams of services. The control stream is none of them. */
  get streams(): { readonly plane: number; readonly libp2p: number } {
    return { plane: this.planeStreams.size, libp2p: Math.max(0, this.connection.streams.length - 1) }
  }

  /** What people see of the protocol that is spoken; undefined until it is settled. */
  get facts(): LinkFacts | undefined {
    return this.#link?.facts
  }

  /** What streams of this connection are sealed with. @throws NetError where there is no session any more */
  get secure(): SecureSession {
    const session = this.#link?.session
    if (session === undefined) throw lost(this.peer)
    return session
  }

  /** The dialler opens the control stream. Failures end the session. */
  async begin(): Promise<void> {
    const options = { what: 'opening the control stream', timeoutMs: this.#deps.settings.admissionTimeoutMs }
    try {
      const stream = await withDeadline(this.#deps.clock, options, signal =>
        abortable(this.connection.newStream(PROTOCOLS.control, { signal }), signal),
      )
      this.attach(stream)
    } catch (error) {
      this.end(
        new NetError({ code: 'NET_CONNECTION_LOST', peer: this.peer }, 'the peer does not answer as a Koinon node', {
          cause: error,
        }),
      )
    }
  }

  /** Takes the control stream, the first one only. */
  attach(stream: Stream): void {
    if (this.#stream !== undefined || (this.#phase !== 'proving' && this.#phase !== 'turned-away')) {
      stream.abort(new Error('one control stream a connection'))
      return
    }
    this.#stream = stream
    this.#link = new ControlLink(this.#deps, {
      stream: new NetStream(this.#deps, { stream, peer: this.peer, traffic: this.#controlTraffic }),
      role: this.direction === 'outbound' ? 'dialler' : 'listener',
      peer: this.peer,
      ...(this.#secret === undefined ? {} : { secret: this.#secret }),
      hasRoom: () => this.#owner.hasRoom(this),
      onEstablished: () => this.#onEstablished(),
      onMessage: message => this.#onMessage(message),
      onLeftOut: sizeBytes => void this.#takes(sizeBytes),
      onRotation: () => this.#owner.onRtt(this),
    })
    const turnedAway = this.#turnedAway
    if (turnedAway === undefined) this.#link.run().catch((error: unknown) => this.#onLinkEnd(error))
    else void this.#link.heard().then(() => this.refuse(turnedAway.reason, turnedAway.facts))
  }

  /** The peer speaks another protocol than ours, on a stream that begins now. @returns whether that can be */
  becomeGuest(): boolean {
    const isNew = this.#phase === 'proving' && this.#stream === undefined
    if (isNew && this.direction === 'inbound') this.#phase = 'guest'
    if (this.#phase !== 'guest') return false
    this.#guestStreams++
    return true
  }

  /** A stream of a guest has ended. A guest that opens no other soon gives its place back. */
  guestStreamEnded(): void {
    this.#guestStreams--
    this.#after(this.#deps.settings.admissionTimeoutMs, () => {
      if (this.#phase === 'guest' && this.#guestStreams === 0) this.refuse('slow')
    })
  }

  /** Bytes of all its streams so far. */
  get traffic(): Traffic {
    const [services, control] = [this.streamTraffic, this.#controlTraffic]
    return { bytesIn: services.bytesIn + control.bytesIn, bytesOut: services.bytesOut + control.bytesOut }
  }

  /** Asks the peer whether it is there, where somebody waits for it in vain. */
  lookForSilence(): void {
    if (this.#silence.look(this.#deps.clock.monotonic(), this.streamTraffic)) this.#pinger.doubt()
  }

  /** A service's stream began or ended, or something was said that is no ping. */
  used(): void {
    if (this.#phase !== 'ended') this.#owner.onUsed(this)
  }

  /** Sends a message of the established session. False: it was not taken. @throws SessionError for one that is too long */
  send(type: number, body: unknown, options: { readonly priority?: Priority } = {}): boolean {
    const sizeBytes = this.#link?.send(type, body, options) ?? 0
    if (sizeBytes === 0) return false
    this.#allowance.charge(1 + sizeBytes / BYTES_PER_TOKEN)
    this.#used(type)
    return true
  }

  /** Resolves when few messages wait to be sent and the peer will bear more, or none can be sent any more. */
  async room(): Promise<void> {
    await this.#link?.room()
    const waitMs = this.#allowance.retryAfterMs(0)
    if (waitMs > 0) await sleep(this.#deps.clock, waitMs)
  }

  /** Signs with another key from now on. */
  rotate(statement: Uint8Array, signer: Parameters<ControlLink['rotate']>[1]): void {
    this.#link?.rotate(statement, signer)
  }

  /** Sends our offer soon: at once, or when the shortest interval is over, or when the peer reads again. */
  announce(): void {
    if (!this.#hasSentInfo || this.#isOfferDue || this.#phase === 'ended') return
    const waitMs = this.#offerSentAt + OFFER_INTERVAL_MS - this.#deps.clock.monotonic()
    if (waitMs <= 0 && this.#stream?.writableNeedsDrain === false) {
      this.#offerSentAt = this.#deps.clock.monotonic()
      this.send(FRAME_TYPES.offer, this.#announcement())
      return
    }
    this.#isOfferDue = true
    this.#after(Math.max(waitMs, OFFER_INTERVAL_MS / 2), () => {
      this.#isOfferDue = false
      this.announce()
    })
  }

  /** Tells the peer of others. Only a hint: left out where the peer does not read. */
  introduce(peers: KnownPeer[]): void {
    if (this.#phase === 'joined' && this.#stream?.writableNeedsDrain === false) this.send(FRAME_TYPES.peers, { peers })
  }

  /** Refuses a peer that has just connected as soon as it asks, so that it hears why; soon, where it does not. */
  turnAway(reason: RefusalReason, facts: RefusalFacts = {}): void {
    this.#phase = 'turned-away'
    this.#turnedAway = { reason, facts }
    this.#after(LINGER_MS, () => this.refuse(reason, facts))
  }

  /** Tells the peer why, then ends. */
  refuse(reason: RefusalReason, facts: RefusalFacts = {}): void {
    if (this.#phase === 'ended') return
    const said = this.#link?.refuse(reason, facts)
    this.#endWith(refusalError(this.peer, { reason, by: 'us' }), { awaitsPeer: this.#stream !== undefined, said })
  }

  /** Says goodbye, then ends. @param code why, 0 to 65535 */
  retire(code: number): void {
    if (this.#phase === 'ended') return
    this.#goodbyeCode = code
    const said = this.#link?.goodbye(code)
    this.#endWith(lost(this.peer), { awaitsPeer: true, said })
  }

  /** Ends the session and its connection. Idempotent. */
  end(error: NetError): void {
    this.#endWith(error, { awaitsPeer: false })
  }

  /** Resolves when the connection is gone. */
  async ended(): Promise<void> {
    await this.#hangUp
  }

  #endWith(
    error: NetError,
    options: { readonly awaitsPeer: boolean; readonly said?: Promise<void> | undefined },
  ): void {
    this.#finish(error, async () => {
      await options.said
      await hangUp(this.#deps.clock, this.connection, options)
    })
  }

  /** The phase changes first: hanging up makes events that must find the session ended. */
  #finish(error: NetError, hangUp?: () => Promise<void>): void {
    if (this.#phase === 'ended') return
    const phase = this.#phase
    this.#phase = 'ended'
    this.#hangUp = hangUp?.()
    for (const cancel of this.#cancels) cancel()
    this.#cancels.clear()
    this.#pinger.stop()
    for (const stream of this.planeStreams) stream.abort(error)
    this.#joining.reject(error)
    if (phase !== 'joined') this.#deps.log.info('a connection ended before admission', plainFacts(error))
    this.#owner.onEnded(this, { error, code: this.#goodbyeCode })
  }

  /** What ended the link is what ends the session. */
  #onLinkEnd(error: unknown): void {
    if (this.#phase === 'ended') return
    if (!(error instanceof Refusal)) {
      if (!(error instanceof StreamError)) this.#deps.log.error('a control stream failed', { error: codeOf(error) })
      this.end(lost(this.peer))
      return
    }
    const { reason, by } = error.fault
    if (by === 'us') this.#owner.onFault(this, reason)
    // The link has said why; the side that has spoken waits until the other has heard.
    this.#endWith(refusalError(this.peer, { reason, by }), { awaitsPeer: by === 'us' })
  }

  #onEstablished(): void {
    this.#phase = 'admitted'
    if (this.direction === 'outbound') this.#sendInfo()
  }

  #onMessage(message: LinkMessage): void {
    if (!this.#takes(message.body.byteLength)) return
    this.#used(message.type)
    if (this.#phase === 'admitted') this.#onAdmitted(message)
    else this.#onJoined(message)
  }

  /** Whether the peer may say so much more now; where not, it is a flood. */
  #takes(sizeBytes: number): boolean {
    // What was on its way when it was told of a flood is no other one.
    if (this.#phase === 'ended') return false
    if (this.#bucket.take(1 + sizeBytes / BYTES_PER_TOKEN)) return true
    this.#owner.onFault(this, 'flood')
    this.refuse('flood')
    return false
  }

  #onAdmitted(message: LinkMessage): void {
    const info = message.type === FRAME_TYPES.info ? this.#decode(FRAME_TYPES.info, message) : undefined
    if (info === undefined) {
      this.#malformed()
      return
    }
    if (this.direction === 'inbound') this.#sendInfo()
    if (this.phase === 'ended') return
    this.#phase = 'joined'
    this.joinedAt = this.#deps.clock.monotonic()
    this.observedAddress = info.observed
    this.#owner.onJoined(this, info)
    this.#joining.resolve()
    this.#owner.onIntroduced(info.peers, { isNews: false })
    this.#pinger.start()
  }

  #onJoined(message: LinkMessage): void {
    switch (message.type) {
      case FRAME_TYPES.offer:
        this.#take(FRAME_TYPES.offer, message, body => this.#owner.onOffer(this, body))
        return
      case FRAME_TYPES.peers:
        this.#take(FRAME_TYPES.peers, message, body => this.#owner.onIntroduced(body.peers, { isNews: true }))
        return
      case FRAME_TYPES.ping:
        this.#take(FRAME_TYPES.ping, message, ({ id }) =>
          this.send(FRAME_TYPES.pong, { id, time: this.#deps.clock.now() }, { priority: 'high' }),
        )
        return
      case FRAME_TYPES.pong:
        this.#take(FRAME_TYPES.pong, message, ({ id }) => this.#pinger.pong(id))
        return
      case FRAME_TYPES.goodbye:
        this.#take(FRAME_TYPES.goodbye, message, ({ code }) => {
          this.#goodbyeCode = code
          this.end(lost(this.peer))
        })
        return
      case FRAME_TYPES.info:
      case FRAME_TYPES.proof:
        this.#malformed()
        return
      default:
        this.#owner.onMessage(this, message)
    }
  }

  #take<T extends ControlType>(type: T, message: LinkMessage, use: (body: ControlBody<T>) => void): void {
    const body = this.#decode(type, message)
    if (body === undefined) this.#malformed()
    else use(body)
  }

  #decode<T extends ControlType>(type: T, message: LinkMessage): ControlBody<T> | undefined {
    const decoded = decodeBody(CONTROL_SCHEMAS[type], message.body)
    return 'code' in decoded ? undefined : (decoded.body as ControlBody<T>)
  }

  #malformed(): void {
    this.#owner.onFault(this, 'malformed')
    this.refuse('malformed')
  }

  #announcement(): Announcement {
    return { offer: this.#owner.offer(), record: this.#owner.record() }
  }

  #sendInfo(): void {
    this.#hasSentInfo = true
    this.#offerSentAt = this.#deps.clock.monotonic()
    const [peers, observed] = [this.#owner.introductions(this), remoteAddressOf(this.connection)]
    this.send(FRAME_TYPES.info, { ...this.#announcement(), peers, observed })
  }

  /** A peer that does not read gets no ping to keep. */
  #sendPing(id: number): void {
    if (this.#stream?.writableNeedsDrain !== true) this.send(FRAME_TYPES.ping, { id }, { priority: 'high' })
  }

  #used(type: number): void {
    if (type !== FRAME_TYPES.ping && type !== FRAME_TYPES.pong) this.used()
  }

  #after(delayMs: number, action: () => void): void {
    const cancel = this.#deps.clock.after(delayMs, () => {
      this.#cancels.delete(cancel)
      action()
    })
    this.#cancels.add(cancel)
  }
}
