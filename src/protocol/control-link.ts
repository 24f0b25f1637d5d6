/**
 * One control stream from its first byte to its last: negotiation, proof of the swarm secret, then messages both ways.
 *
 * ```
 *   negotiating ─► handshaking ─► proving ─► established ─► closed
 *        └───────► resuming ────────┘            │
 *   every state may go to closed                 └ the stored session stays behind, suspended: the next link resumes it
 * ```
 *
 * `formal/session.pml` models these states.
 */
import { assert, type ByteStream, type Logger, messageOf, StreamError } from '#base'
import { ed25519Verifier, equalInConstantTime, peerOfPublicKey } from '#crypto'
import { type KeyProvider, verifyHandover } from '#identity'
import {
  CONTROL_SCHEMAS,
  type ControlBody,
  type ControlType,
  decodeBody,
  encodeBody,
  type Frame,
  FRAME_TYPES,
  type Priority,
  PROTOCOL_VERSIONS,
  type RefusalReason,
  swarmProof,
} from '#wire'
import { FramePipe, type PHASE_LIMITS } from './frame-pipe.ts'
import { OUTGOING_BYTES_MAX, OUTGOING_MESSAGES_MAX, OUTGOING_ROOM, SESSION_LIFE_MS } from './limits.ts'
import { type Negotiated, type NegotiationDeps, negotiate, readRefusal, refusalFrame } from './negotiation.ts'
import { Refusal, type RefusalFacts, refusal } from './refusal.ts'
import { checkLength, SecureSession } from './secure-session.ts'
import type { SessionClaim, SessionClaims } from './session-claims.ts'
import type { AuditLog } from './types.ts'
import { uuidText } from './uuid.ts'

export type LinkState = 'negotiating' | 'handshaking' | 'resuming' | 'proving' | 'established' | 'closed'

const NEXT: Readonly<Record<LinkState, readonly LinkState[]>> = {
  negotiating: ['handshaking', 'resuming', 'closed'],
  handshaking: ['proving', 'closed'],
  resuming: ['proving', 'closed'],
  proving: ['established', 'closed'],
  established: ['closed'],
  closed: [],
}

export type LinkDeps = NegotiationDeps & {
  readonly log: Logger
  readonly audit: AuditLog
  readonly claims: SessionClaims
}

export type LinkOptions = {
  readonly role: 'dialler' | 'listener'
  /** The peer id that the secure channel has authenticated. */
  readonly peer: string
  readonly secret?: Uint8Array
  /** Whether there is room for the peer: asked once it has proved itself. */
  readonly hasRoom: () => boolean
  /** Called once, before any message. */
  readonly onEstablished: () => void
  readonly onMessage: (message: LinkMessage) => void
  /** A frame was left out that honest peers may send: it is nobody's fault, but looking at it was work. */
  readonly onLeftOut: (sizeBytes: number) => void
  /** The peer signs with another key from now on, which it has handed over to. */
  readonly onRotation: () => void
}

export type LinkMessage = { readonly type: number; readonly body: Uint8Array }

/** What people see of a link. */
export type LinkFacts = {
  readonly version: number
  readonly suite: string
  /** UUID as text. */
  readonly session: string
  readonly resumptions: number
  readonly rekeys: number
  readonly capabilities: readonly string[]
  readonly agent: string
  /** Peer id of the key that signs for the peer now. */
  readonly key: string
  readonly clockOffsetMs: number
}

/** `onSealed` is called when the message has got its place among the frames, signed with the key of that moment. */
type Waiting = { readonly type: number; readonly body: Uint8Array; readonly onSealed?: () => void }

export class ControlLink {
  readonly #deps: LinkDeps
  readonly #options: LinkOptions
  readonly #pipe: FramePipe
  readonly #waiting: Record<Priority, Waiting[]> = { high: [], normal: [], low: [] }
  readonly #claim: SessionClaim
  #state: LinkState = 'negotiating'
  #session: SecureSession | undefined
  #negotiated: Negotiated | undefined
  #theirKey: string
  #waitingBytes = 0
  #onRoom: (() => void)[] = []
  #isWriting = false

  constructor(deps: LinkDeps, options: LinkOptions & { readonly stream: ByteStream }) {
    this.#deps = deps
    this.#options = options
    this.#pipe = new FramePipe(options.stream)
    this.#theirKey = options.peer
    this.#claim = deps.claims.newClaim()
  }

  get state(): LinkState {
    return this.#state
  }

  /** The session that streams of this connection are sealed with; undefined until established. */
  get session(): SecureSession | undefined {
    return this.#state === 'established' ? this.#session : undefined
  }

  get facts(): LinkFacts | undefined {
    const negotiated = this.#negotiated
    const session = this.#session
    if (negotiated === undefined || session === undefined) return undefined
    return {
      version: negotiated.version,
      suite: negotiated.suite,
      session: uuidText(negotiated.id),
      resumptions: negotiated.resumptions,
      rekeys: session.rekeys,
      capabilities: negotiated.theirs.capabilities,
      agent: negotiated.theirs.agent,
      key: this.#theirKey,
      clockOffsetMs: negotiated.clockOffsetMs,
    }
  }

  /** Talks until the link ends. @throws Refusal where one side refused the other, StreamError where the stream ended */
  async run(): Promise<never> {
    try {
      await this.#establish()
      for (;;) this.#receive(await this.#nextBody())
    } catch (error) {
      if (error instanceof Refusal && error.fault.by === 'us') await this.#sayRefusal(error)
      this.#close()
      throw error
    }
  }

  /** In the place of `run`, before a refusal: resolves when the peer has said something, so that it listens, or is gone. */
  async heard(): Promise<void> {
    await this.#pipe.next().catch(() => undefined) // It is gone: nobody will hear the refusal.
  }

  /**
   * Queues a message of the established session.
   *
   * @returns its size in bytes; 0: the peer does not read, and the message was not taken
   * @throws SessionError PROTOCOL_MESSAGE_TOO_LONG: found now, because later it would end the link
   */
  send(type: number, body: unknown, options: { readonly priority?: Priority } = {}): number {
    if (this.#state !== 'established') return 0
    const bytes = encodeBody(body)
    checkLength(bytes)
    return this.#queue({ type, body: bytes }, options.priority ?? 'normal') ? bytes.byteLength : 0
  }

  /** Resolves when few messages wait to be sent, or none can be any more. */
  async room(): Promise<void> {
    if (this.#state === 'closed' || this.#waitingCount() <= OUTGOING_ROOM) return
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#onRoom.push(resolve)
    await promise
  }

  /** Tells the peer why, as far as that can be told, and lets `run` end. */
  async refuse(reason: RefusalReason, facts: RefusalFacts = {}): Promise<void> {
    if (this.#state === 'closed') return
    const said = this.#sayRefusal(refusal(reason, 'refused by this node', facts))
    this.#close()
    await said
  }

  /** Says goodbye as the last message, as far as that can be said, and lets `run` end. @param code why, 0 to 65535 */
  async goodbye(code: number): Promise<void> {
    if (this.#state !== 'established') return
    const said = this.#sendNow(FRAME_TYPES.goodbye, { code }).catch((error: unknown) => {
      this.#deps.log.debug('a goodbye could not be said', { error: messageOf(error) })
    })
    this.#close()
    await said
  }

  /** From now on this node signs with the new key of the statement. */
  rotate(statement: Uint8Array, signer: KeyProvider): void {
    if (this.#state !== 'established') return
    const body = encodeBody({ statement })
    this.#queue({ type: FRAME_TYPES.rotation, body, onSealed: () => this.#session?.setSigner(signer) }, 'high')
  }

  async #establish(): Promise<void> {
    const { role, peer, secret } = this.#options
    const negotiated = await negotiate(this.#deps, {
      pipe: this.#pipe,
      role,
      peer,
      hasSecret: secret !== undefined,
      claim: this.#claim,
      onHandshake: kind => this.#advance(kind),
    })
    this.#negotiated = negotiated
    this.#theirKey = peerOfPublicKey(negotiated.theirs.key)
    const { clock, random, replay, party } = this.#deps
    this.#session = new SecureSession(
      { clock, random, replay },
      {
        id: negotiated.id,
        role,
        signer: party.signer,
        peerKey: negotiated.theirs.key,
        keys: negotiated.keys,
        resumptions: negotiated.resumptions,
        keysSinceMs: negotiated.startedAt,
      },
    )
    this.#session.setClockOffset(negotiated.clockOffsetMs)
    this.#advance('proving')
    // A resumption is written down before anything is sealed in its epoch: an epoch that came again would look like a
    // replay to the peer. A new session is not worth keeping before both have proved themselves.
    if (negotiated.resumptions > 0) this.#remember(negotiated)
    await this.#prove(negotiated)
    if (negotiated.resumptions === 0) this.#remember(negotiated)
    this.#advance('established')
    this.#options.onEstablished()
  }

  /** Both show that they hold the swarm's secret, and with it that they hold the session's keys. The dialler is first. */
  async #prove(negotiated: Negotiated): Promise<void> {
    const { role } = this.#options
    if (role === 'dialler') await this.#sendNow(FRAME_TYPES.proof, this.#proof(negotiated, role))
    const theirs = this.#decode(FRAME_TYPES.proof, await this.#nextBody())
    const expected = this.#proof(negotiated, role === 'dialler' ? 'listener' : 'dialler')
    if (!isProof(theirs, expected)) throw refusal('proof-wrong', 'the peer has another swarm secret')
    if (!this.#options.hasRoom()) throw refusal('full', 'there are as many peers as this node takes')
    if (role === 'listener') await this.#sendNow(FRAME_TYPES.proof, this.#proof(negotiated, role))
  }

  #proof({ ours, theirs }: Negotiated, prover: 'dialler' | 'listener'): ControlBody<typeof FRAME_TYPES.proof> {
    const { role, peer, secret } = this.#options
    if (secret === undefined) return {}
    const isDialler = role === 'dialler'
    const self = this.#deps.party.peer
    const mac = swarmProof(secret, {
      role: prover,
      dialler: isDialler ? self : peer,
      listener: isDialler ? peer : self,
      diallerNonce: isDialler ? ours.nonce : theirs.nonce,
      listenerNonce: isDialler ? theirs.nonce : ours.nonce,
    })
    return { mac }
  }

  #remember({ id, keys, version, suite, resumptions, createdAt }: Negotiated): void {
    const { sessions } = this.#deps
    sessions.save({
      id,
      peer: this.#theirKey,
      resumptionSecret: keys.resumptionSecret,
      resumptions,
      version,
      suite,
      createdAt,
      expiresAt: createdAt + SESSION_LIFE_MS,
    })
  }

  #receive(message: LinkMessage): void {
    if (message.type === FRAME_TYPES.rotation) this.#rotated(this.#decode(FRAME_TYPES.rotation, message).statement)
    else if (message.type === FRAME_TYPES.refuse) throw this.#refused(message)
    else this.#options.onMessage(message)
  }

  #rotated(bytes: Uint8Array): void {
    const { audit, clock, peerKeys } = this.#deps
    const { peer } = this.#options
    const statement = verifyHandover(bytes)
    if ('code' in statement || statement.from.peer !== this.#theirKey) {
      audit.record('peer-key-refused', { peer, key: this.#theirKey })
      throw refusal('authentication', 'a hand-over that the old key has not signed')
    }
    const { from, to } = statement
    peerKeys.record({ from: from.peer, to: to.peer, bytes, at: clock.now() })
    this.#session?.setPeerKey(to.publicKey)
    this.#theirKey = to.peer
    audit.record('peer-key-rotated', { peer, from: from.peer, to: to.peer })
    this.#options.onRotation()
  }

  #refused(message: LinkMessage): Refusal {
    const { reason, retryAfterMs } = this.#decode(FRAME_TYPES.refuse, message)
    const facts = retryAfterMs === undefined ? {} : { retryAfterMs }
    return new Refusal({ code: 'PROTOCOL_REFUSED', reason, by: 'peer', ...facts }, 'the peer refused')
  }

  /** The next message, opened. A frame that honest peers may send, and that cannot be taken, is left out. */
  async #nextBody(): Promise<LinkMessage> {
    for (;;) {
      const frame = await this.#pipe.next()
      if ('code' in frame) throw refusal('malformed', `bytes that are no frame of a session: ${frame.code}`)
      if (frame.type === FRAME_TYPES.refuse && this.#state === 'proving') this.#hearLateRefusal(frame)
      const body = this.#open(frame)
      if (body !== undefined) return { type: frame.type, body }
    }
  }

  /** A listener that refuses our last message of the handshake has no session to say so in. @throws Refusal */
  #hearLateRefusal(frame: Frame): void {
    if (this.#options.role !== 'dialler' || this.#negotiated === undefined) return
    const verifier = ed25519Verifier(this.#negotiated.theirs.key)
    const said = readRefusal(frame, { party: this.#deps.party, verifier })
    if (said !== undefined) throw said
  }

  #open(frame: Frame): Uint8Array | undefined {
    assert(this.#session !== undefined, 'messages come after the handshake')
    const opened = this.#session.openControl(frame)
    if ('body' in opened) return opened.body
    if (opened.isHostile) throw refusal(opened.reason, opened.what)
    this.#deps.audit.record('replay', { peer: this.#options.peer, what: opened.what })
    this.#options.onLeftOut(frame.payload.byteLength)
    return undefined
  }

  #decode<T extends ControlType>(type: T, message: LinkMessage): ControlBody<T> {
    if (message.type === FRAME_TYPES.refuse && type !== FRAME_TYPES.refuse) throw this.#refused(message)
    if (message.type !== type) throw refusal('malformed', 'a message out of turn')
    const decoded = decodeBody(CONTROL_SCHEMAS[type], message.body)
    if ('code' in decoded) throw refusal('malformed', decoded.problem)
    return decoded.body as ControlBody<T>
  }

  async #sendNow(type: number, body: unknown): Promise<void> {
    assert(this.#session !== undefined, 'messages come after the handshake')
    if (!this.#pipe.send(await this.#session.sealControl(type, encodeBody(body)))) await this.#pipe.drained()
  }

  #queue(message: Waiting, priority: Priority): boolean {
    if (
      this.#waitingCount() >= OUTGOING_MESSAGES_MAX ||
      this.#waitingBytes + message.body.byteLength > OUTGOING_BYTES_MAX
    )
      return false
    this.#waiting[priority].push(message)
    this.#waitingBytes += message.body.byteLength
    this.#pump()
    return true
  }

  #waitingCount(): number {
    return this.#waiting.high.length + this.#waiting.normal.length + this.#waiting.low.length
  }

  #tellOfRoom(): void {
    for (const tell of this.#onRoom.splice(0)) tell()
  }

  /** Frames leave in the order in which they are sealed, one after the other, urgent ones first. */
  #pump(): void {
    while (!this.#isWriting && this.#state === 'established') {
      const message = this.#waiting.high.shift() ?? this.#waiting.normal.shift() ?? this.#waiting.low.shift()
      if (message === undefined || this.#session === undefined) return
      this.#waitingBytes -= message.body.byteLength
      if (this.#waitingCount() <= OUTGOING_ROOM) this.#tellOfRoom()
      const frame = this.#seal(this.#session, message)
      if (frame === undefined) return
      message.onSealed?.()
      if (frame instanceof Uint8Array) {
        if (!this.#write(frame)) this.#resumeWhen(this.#pipe.drained())
      } else {
        this.#resumeWhen(frame.then(bytes => (this.#write(bytes) ? undefined : this.#pipe.drained())))
      }
    }
  }

  /** Undefined: the session has used up its keys, or the signing key cannot be had. */
  #seal(session: SecureSession, { type, body }: Waiting): Uint8Array | Promise<Uint8Array> | undefined {
    try {
      return session.sealControl(type, body)
    } catch (error) {
      this.#fail(error)
      return undefined
    }
  }

  #resumeWhen(ready: Promise<void>): void {
    this.#isWriting = true
    ready
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        this.#isWriting = false
        this.#pump()
      })
  }

  #write(frame: Uint8Array): boolean {
    try {
      return this.#pipe.send(frame)
    } catch (error) {
      this.#fail(error)
      return true
    }
  }

  #fail(error: unknown): void {
    if (this.#state === 'closed') return
    this.#deps.log.debug('a control message could not be sent', { error: messageOf(error) })
    this.#pipe.abort(error instanceof Error ? error : new StreamError({ code: 'STREAM_RESET' }, messageOf(error)))
  }

  async #sayRefusal({ fault }: Refusal): Promise<void> {
    const { reason, retryAfterMs } = fault
    const body = {
      reason,
      ...(reason === 'version' ? { versions: [...PROTOCOL_VERSIONS] } : {}),
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    }
    try {
      if (this.#session === undefined) {
        this.#pipe.send(await refusalFrame(this.#deps, { peer: this.#options.peer, body }))
      } else {
        await this.#sendNow(FRAME_TYPES.refuse, body)
      }
    } catch (error) {
      this.#deps.log.debug('a refusal could not be said', { error: messageOf(error) })
    }
  }

  #advance(next: LinkState): void {
    assert(NEXT[this.#state].includes(next), `a link goes from ${this.#state} to ${NEXT[this.#state].join(' or ')}`)
    this.#state = next
    if (next === 'proving' || next === 'established') this.#pipe.setPhase(next satisfies keyof typeof PHASE_LIMITS)
  }

  #close(): void {
    if (this.#state === 'closed') return
    this.#advance('closed')
    this.#session?.close()
    this.#claim.close()
    for (const queue of Object.values(this.#waiting)) queue.length = 0
    this.#tellOfRoom()
  }
}

function isProof(
  theirs: ControlBody<typeof FRAME_TYPES.proof>,
  expected: ControlBody<typeof FRAME_TYPES.proof>,
): boolean {
  if (expected.mac === undefined) return theirs.mac === undefined
  return theirs.mac !== undefined && equalInConstantTime(theirs.mac, expected.mac)
}
