/**
 * One connection to one peer: its hello stream from the first byte to the last. A session proves, joins, keeps the
 * offers of both sides fresh, measures the round-trip time, and ends; what follows from that for the peer (who may have
 * several sessions) is the peer table's business.
 */
import type { Connection, Stream } from '@libp2p/interface'
import {
  abortable,
  type CancelTimer,
  type Clock,
  type LogFields,
  type Logger,
  messageOf,
  type Random,
  withDeadline,
} from '#base'
import {
  decodeHello,
  withLengthPrefix,
  encodeHello,
  LengthPrefixReader,
  HELLO_BYTES_MAX,
  HELLO_UNPROVEN_BYTES_MAX,
  type HelloMessage,
  type KnownPeer,
  NONCE_BYTES,
  type NodeOffer,
  PROTOCOLS,
  type RefusalReason,
} from '#wire'
import { Admission } from './admission.ts'
import { NetError } from './errors.ts'
import { hangUp } from './hang-up.ts'
import {
  ADMISSION_TIMEOUT_MS,
  HELLO_TOKENS_MAX,
  HELLO_TOKENS_PER_SECOND,
  OFFER_INTERVAL_MS,
  PING_FIRST_INTERVAL_MS,
  PING_INTERVAL_MS,
  PINGS_FIRST,
  PINGS_MISSED_MAX,
} from './limits.ts'
import { TokenBucket } from './token-bucket.ts'

export type SessionDeps = { readonly clock: Clock; readonly random: Random; readonly log: Logger }

export type SessionOptions = {
  readonly connection: Connection
  /** Our own peer id. */
  readonly self: string
  readonly secret?: Uint8Array
  readonly owner: SessionOwner
}

/** What a session asks of the host and tells it. */
export interface SessionOwner {
  /** Whether there is room for this peer, asked once it has proved itself. */
  hasRoom(session: Session): boolean
  offer(): NodeOffer
  /** Whom we introduce to this peer. */
  introductions(session: Session): KnownPeer[]
  onJoined(session: Session, offer: NodeOffer): void
  onOffer(session: Session, offer: NodeOffer): void
  /** @param options.isNews they have just joined the peer, and so are about to dial us */
  onIntroduced(peers: readonly KnownPeer[], options: { readonly isNews: boolean }): void
  /** A ping came back; `session.rttMs` is new. */
  onRtt(session: Session): void
  onEnded(session: Session): void
}

/** proving -> admitted (proof was right) -> joined (offers exchanged) -> ended, from each of them. */
export type SessionPhase = 'proving' | 'admitted' | 'joined' | 'ended'

/** Each 8 KiB of a message cost a token more. */
const BYTES_PER_TOKEN = 8 * 1024

export class Session {
  readonly connection: Connection
  readonly peer: string
  readonly direction: 'inbound' | 'outbound'
  /** Resolves once the peer is usable; rejects with the reason where it never was. */
  readonly joined: Promise<void>
  /** Clock.monotonic() at admission. */
  joinedAt = 0
  rttMs: number | undefined
  readonly #deps: SessionDeps
  readonly #owner: SessionOwner
  readonly #admission: Admission
  readonly #bucket: TokenBucket
  readonly #joining = Promise.withResolvers<void>()
  readonly #cancels = new Set<CancelTimer>()
  #phase: SessionPhase = 'proving'
  #reader = new LengthPrefixReader(HELLO_UNPROVEN_BYTES_MAX)
  #stream: Stream | undefined
  #hasSentInfo = false
  #ping: { readonly id: number; readonly sentAt: number } | undefined
  #pingsMissed = 0
  #pongs = 0
  #offerSentAt = Number.NEGATIVE_INFINITY
  #isOfferDue = false
  #hangUp: Promise<void> | undefined

  constructor(deps: SessionDeps, options: SessionOptions) {
    const { connection, self, secret, owner } = options
    this.#deps = deps
    this.#owner = owner
    this.connection = connection
    this.peer = connection.remotePeer.toString()
    this.direction = connection.direction
    this.joined = this.#joining.promise
    this.joined.catch(() => undefined) // Whoever waits for it hears of it; often nobody does.
    this.#bucket = new TokenBucket(deps, { tokensMax: HELLO_TOKENS_MAX, perSecond: HELLO_TOKENS_PER_SECOND })
    this.#admission = new Admission({
      role: connection.direction === 'outbound' ? 'dialler' : 'listener',
      self,
      peer: this.peer,
      nonce: deps.random.bytes(NONCE_BYTES),
      ...(secret === undefined ? {} : { secret }),
    })
    connection.addEventListener('close', () => this.#finish(this.#lost()))
    this.#after(ADMISSION_TIMEOUT_MS, () => {
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

  /** The dialler opens the hello stream. Failures end the session. */
  async begin(): Promise<void> {
    const options = { what: 'opening the hello stream', timeoutMs: ADMISSION_TIMEOUT_MS }
    try {
      const stream = await withDeadline(this.#deps.clock, options, signal =>
        abortable(this.connection.newStream(PROTOCOLS.hello, { signal }), signal),
      )
      this.attach(stream)
    } catch (error) {
      this.end(new NetError(this.#lost().fault, 'the peer does not answer as a Koinon node', { cause: error }))
    }
  }

  /** Takes the hello stream, the first one only. */
  attach(stream: Stream): void {
    if (this.#stream !== undefined || this.#phase !== 'proving') {
      stream.abort(new Error('one hello stream a connection'))
      return
    }
    this.#stream = stream
    stream.addEventListener('close', () => this.end(this.#lost()))
    stream.addEventListener('remoteCloseWrite', () => this.end(this.#lost()))
    stream.addEventListener('message', event => {
      if (event.data instanceof Uint8Array) this.#onBytes(event.data)
      else for (const piece of event.data) this.#onBytes(piece)
    })
    this.#sendAll(this.#admission.begin())
  }

  /** Sends our offer soon: at once, or when the shortest interval is over, or when the peer reads again. */
  announce(): void {
    if (!this.#hasSentInfo || this.#isOfferDue || this.#phase === 'ended') return
    const waitMs = this.#offerSentAt + OFFER_INTERVAL_MS - this.#deps.clock.monotonic()
    if (waitMs <= 0 && this.#stream?.writableNeedsDrain === false) {
      this.#offerSentAt = this.#deps.clock.monotonic()
      this.#send({ kind: 'offer', offer: this.#owner.offer() })
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
    if (this.#phase === 'joined' && this.#stream?.writableNeedsDrain === false) this.#send({ kind: 'peers', peers })
  }

  /** Tells the peer why, then ends. */
  refuse(reason: RefusalReason): void {
    if (this.#phase === 'ended') return
    this.#send({ kind: 'refuse', reason })
    this.#endWith(this.#refusal(reason, 'us'), { awaitsPeer: this.#stream !== undefined })
  }

  /** Ends the session and its connection. Idempotent. */
  end(error: NetError): void {
    this.#endWith(error, { awaitsPeer: false })
  }

  /** Resolves when the connection is gone. */
  async ended(): Promise<void> {
    await this.#hangUp
  }

  #endWith(error: NetError, options: { readonly awaitsPeer: boolean }): void {
    this.#finish(error, () => hangUp(this.#deps.clock, this.connection, options))
  }

  /** The phase changes first: hanging up makes events that must find the session ended. */
  #finish(error: NetError, hangUp?: () => Promise<void>): void {
    if (this.#phase === 'ended') return
    const phase = this.#phase
    this.#phase = 'ended'
    this.#hangUp = hangUp?.()
    for (const cancel of this.#cancels) cancel()
    this.#cancels.clear()
    this.#joining.reject(error)
    if (phase !== 'joined') this.#deps.log.info('a connection ended before admission', plainFacts(error))
    this.#owner.onEnded(this)
  }

  #onBytes(piece: Uint8Array): void {
    if (this.#phase === 'ended') return
    const bodies = this.#reader.push(piece)
    if ('code' in bodies) {
      this.refuse('malformed')
      return
    }
    for (const body of bodies) this.#onFrame(body)
  }

  #onFrame(body: Uint8Array): void {
    if (this.#phase === 'ended') return
    if (!this.#bucket.take(1 + body.byteLength / BYTES_PER_TOKEN)) {
      this.refuse('flood')
      return
    }
    const message = decodeHello(body)
    if ('code' in message) this.refuse(message.code === 'WIRE_HELLO_VERSION' ? 'version' : 'malformed')
    else if (message.kind === 'refuse') this.end(this.#refusal(message.reason, 'peer'))
    else if (this.#phase === 'proving') this.#onProving(message)
    else if (this.#phase === 'admitted') this.#onAdmitted(message)
    else this.#onJoined(message)
  }

  #onProving(message: HelloMessage): void {
    const step = this.#admission.receive(message)
    if (step.verdict === 'admitted' && !this.#owner.hasRoom(this)) {
      this.refuse('full')
      return
    }
    this.#sendAll(step.send)
    if (step.verdict === undefined || this.phase === 'ended') return
    if (step.verdict !== 'admitted') {
      this.refuse(step.verdict.refused)
      return
    }
    // The other side waits for our answer before it sends its next message, so nothing longer can have come yet.
    this.#reader = new LengthPrefixReader(HELLO_BYTES_MAX)
    this.#phase = 'admitted'
    if (this.direction === 'outbound') this.#sendInfo()
  }

  #onAdmitted(message: HelloMessage): void {
    if (message.kind !== 'info') {
      this.refuse('malformed')
      return
    }
    if (this.direction === 'inbound') this.#sendInfo()
    if (this.phase === 'ended') return
    this.#phase = 'joined'
    this.joinedAt = this.#deps.clock.monotonic()
    this.#owner.onJoined(this, message.offer)
    this.#joining.resolve()
    this.#owner.onIntroduced(message.peers, { isNews: false })
    this.#pingPeer()
  }

  #onJoined(message: HelloMessage): void {
    switch (message.kind) {
      case 'offer':
        this.#owner.onOffer(this, message.offer)
        return
      case 'peers':
        this.#owner.onIntroduced(message.peers, { isNews: true })
        return
      case 'ping':
        this.#send({ kind: 'pong', id: message.id })
        return
      case 'pong':
        this.#onPong(message.id)
        return
      case 'hello':
      case 'proof':
      case 'info':
      case 'refuse':
        this.refuse('malformed')
    }
  }

  #sendInfo(): void {
    this.#hasSentInfo = true
    this.#offerSentAt = this.#deps.clock.monotonic()
    this.#send({ kind: 'info', offer: this.#owner.offer(), peers: this.#owner.introductions(this) })
  }

  #pingPeer(): void {
    this.#after(PING_INTERVAL_MS, () => this.#pingPeer())
    if (this.#ping !== undefined && ++this.#pingsMissed >= PINGS_MISSED_MAX) {
      this.end(this.#lost())
      return
    }
    this.#sendPing()
  }

  #sendPing(): void {
    // A peer that does not read gets no second ping to keep; it still has to answer the first.
    if (this.#stream?.writableNeedsDrain === true && this.#ping !== undefined) return
    this.#ping = { id: this.#deps.random.uint32(), sentAt: this.#deps.clock.monotonic() }
    this.#send({ kind: 'ping', id: this.#ping.id })
  }

  #onPong(id: number): void {
    const ping = this.#ping
    if (ping?.id !== id) return // The answer to a ping that was given up.
    this.#ping = undefined
    this.#pingsMissed = 0
    const sampleMs = this.#deps.clock.monotonic() - ping.sentAt
    // Smoothed as TCP does (RFC 6298), but a shorter time is believed at once: no path answers faster than it is, and
    // the first answers come while both nodes are busy with starting.
    const before = this.rttMs ?? sampleMs
    this.rttMs = sampleMs < before ? sampleMs : before + (sampleMs - before) / 8
    this.#owner.onRtt(this)
    this.#pongs++
    if (this.#pongs < PINGS_FIRST) this.#after(PING_FIRST_INTERVAL_MS, () => this.#sendPing())
  }

  #sendAll(messages: readonly HelloMessage[]): void {
    for (const message of messages) this.#send(message)
  }

  #send(message: HelloMessage): void {
    if (this.#phase === 'ended' || this.#stream === undefined) return
    try {
      this.#stream.send(withLengthPrefix(encodeHello(message)))
    } catch (error) {
      this.#deps.log.debug('a hello message could not be sent', { error: messageOf(error) })
      this.end(this.#lost())
    }
  }

  #after(delayMs: number, action: () => void): void {
    const cancel = this.#deps.clock.after(delayMs, () => {
      this.#cancels.delete(cancel)
      action()
    })
    this.#cancels.add(cancel)
  }

  #lost(): NetError {
    return new NetError({ code: 'NET_CONNECTION_LOST', peer: this.peer }, 'the connection to the peer was lost')
  }

  #refusal(reason: RefusalReason, by: 'us' | 'peer'): NetError {
    const { peer } = this
    if (reason === 'version') {
      const message = 'the peer speaks another revision of the protocol; update the older of the two nodes'
      return new NetError({ code: 'NET_VERSION', peer, by }, message)
    }
    const who = by === 'us' ? 'this node refused the peer' : 'the peer refused this node'
    return new NetError({ code: 'NET_NOT_ADMITTED', peer, reason, by }, `${who}: ${REFUSALS[reason]}`)
  }
}

/** Who refused whom and why, without addresses. */
function plainFacts(error: NetError): LogFields {
  const { fault } = error
  return fault.code === 'NET_NOT_ADMITTED' ? { ...fault } : { code: fault.code }
}

/** What to do about a refusal, as the end of a sentence. */
const REFUSALS: Readonly<Record<RefusalReason, string>> = {
  version: 'another revision of the protocol',
  'secret-needed': 'one of the two has a swarm secret and the other has none; give both the same secret',
  'secret-unexpected': 'one of the two has a swarm secret and the other has none; give both the same secret',
  'proof-wrong': 'the two have different swarm secrets; give both the same secret',
  full: 'it has as many peers as it takes',
  flood: 'too many messages',
  malformed: 'a message that is not of the protocol',
  slow: 'no admission in time',
  stopping: 'the node is going away',
}
