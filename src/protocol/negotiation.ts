/**
 * From two nodes that know each other's peer id to a session between them:
 *
 * ```
 *   dialler                                       listener
 *   HELLO {versions, suites, key, …} ───────────────►         signed
 *          ◄─────────────── HELLO {the same, for itself}      both now know version, suite and the clocks' offset
 *   HANDSHAKE -> e, e1 ─────────────────────────────►         or, where both hold the same old session:
 *          ◄──── HANDSHAKE <- e, ee, ekem1, s, es             RESUME {share} ►, ◄ {share, mac}, {mac} ►
 *   HANDSHAKE -> s, se ─────────────────────────────►
 * ```
 *
 * Every frame is signed by the key that its sender's HELLO names, and both HELLOs are the prologue of what follows: who
 * changes an offer on its way ends the handshake, so no version or suite can be talked down.
 */
import { type Clock, concatBytes, type Random, toHex } from '#base'
import { type Ed25519Verifier, ed25519Verifier, peerOfPublicKey, publicKeyOfPeer } from '#crypto'
import {
  Handshake,
  type HandoverLink,
  type HandshakeFault,
  type HandshakeResult,
  type HybridSigner,
  type KeyProvider,
  Resumption,
  verifyChain,
} from '#identity'
import {
  AGENT,
  CIPHER_SUITES,
  commonSuite,
  CONTROL_SCHEMAS,
  type ControlBody,
  type ControlType,
  decodeBody,
  encodeBody,
  type Frame,
  FRAME_TYPES,
  type FrameContext,
  type FrameNonce,
  type Hello,
  newestCommonVersion,
  NONCE_BYTES,
  PROTOCOL_VERSIONS,
  SESSION_ID_BYTES,
} from '#wire'
import type { FramePipe } from './frame-pipe.ts'
import { CLOCK_OFFSET_MS_MAX, RESUMPTIONS_MAX } from './limits.ts'
import { Refusal, refusal } from './refusal.ts'
import type { ReplayFilter } from './replay-filter.ts'
import type { SessionClaim } from './session-claims.ts'
import { signFrame, verifyFrame } from './signed-frames.ts'
import type { PeerKeyStore, SessionStore, StoredSession } from './types.ts'
import { newUuid } from './uuid.ts'

/** Who we are towards peers. Changes when the key is rotated. */
export type Party = {
  /** The peer id of our connections. */
  readonly peer: string
  readonly signer: KeyProvider
  /** How the key came to be what it is, the oldest statement first. */
  readonly handovers: readonly Uint8Array[]
  readonly hybrid?: HybridSigner
  readonly capabilities: readonly string[]
}

export type NegotiationDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly party: Party
  readonly sessions: SessionStore
  readonly peerKeys: PeerKeyStore
  readonly replay: ReplayFilter
}

export type NegotiationOptions = {
  readonly pipe: FramePipe
  readonly role: 'dialler' | 'listener'
  /** The peer id that the secure channel has authenticated. */
  readonly peer: string
  readonly hasSecret: boolean
  /** Takes the session that comes of it, or that it hopes to resume. Whoever made it closes it. */
  readonly claim: SessionClaim
  readonly onHandshake: (kind: 'handshaking' | 'resuming') => void
}

export type Negotiated = {
  readonly id: Uint8Array
  readonly keys: HandshakeResult
  readonly version: number
  readonly suite: string
  readonly resumptions: number
  /** When the session was made by a whole handshake, Unix milliseconds: resumptions do not make it younger. */
  readonly createdAt: number
  /** When this exchange began, Unix milliseconds: no frame under its keys is older. */
  readonly startedAt: number
  /** Theirs minus ours, in milliseconds. */
  readonly clockOffsetMs: number
  readonly theirs: Hello
  readonly ours: Hello
}

const NO_SESSION = new Uint8Array(SESSION_ID_BYTES)
const PROLOGUE = new TextEncoder().encode('koinon/session/1')

/** Refuses a peer, or fails as the stream fails. @throws Refusal, StreamError */
export async function negotiate(deps: NegotiationDeps, options: NegotiationOptions): Promise<Negotiated> {
  return new Negotiation(deps, options).run()
}

/** The frame of a refusal before there is a session. Signed, so that nobody else can speak for us. */
export function refusalFrame(
  { clock, random, party }: Pick<NegotiationDeps, 'clock' | 'random' | 'party'>,
  { peer, body }: { readonly peer: string; readonly body: ControlBody<typeof FRAME_TYPES.refuse> },
): Uint8Array | Promise<Uint8Array> {
  return signFrame({
    type: FRAME_TYPES.refuse,
    payload: encodeBody(body),
    nonce: { timeMs: clock.now(), epoch: 0, sequence: 0, random: random.uint32() },
    context: { sender: party.signer.publicKey, recipient: keyOf(peer), session: NO_SESSION },
    signer: party.signer,
  })
}

/** What a refusal from before the session says. Undefined: the key that speaks for the peer has not signed it. */
export function readRefusal(
  frame: Frame,
  { party, verifier }: { readonly party: Party; readonly verifier: Ed25519Verifier },
): Refusal | undefined {
  const context = { sender: verifier.publicKey, recipient: keyOf(party.peer), session: NO_SESSION }
  if (!verifyFrame(frame, context, verifier)) return undefined
  const decoded = decodeBody(CONTROL_SCHEMAS[FRAME_TYPES.refuse], frame.payload)
  if ('code' in decoded) return refusal('malformed', decoded.problem)
  const { reason, versions, retryAfterMs } = decoded.body
  return new Refusal(
    {
      code: 'PROTOCOL_REFUSED',
      reason,
      by: 'peer',
      ...(versions === undefined ? {} : { versions }),
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    },
    'the peer refused',
  )
}

/** A HELLO and the frame that carried it. */
type Said = { readonly hello: Hello; readonly frame: { readonly prefix: Uint8Array; readonly payload: Uint8Array } }

/** `stored`: the session that both resume, where they do. */
type Greeted = { readonly ours: Said; readonly theirs: Said; readonly stored: StoredSession | undefined }

class Negotiation {
  readonly #deps: NegotiationDeps
  readonly #options: NegotiationOptions
  /** Which of the peer's keys signs: the connection's own until its HELLO says another. */
  #theirKey: Uint8Array
  #verifier: Ed25519Verifier
  #session: Uint8Array = NO_SESSION
  #sent = 0
  #received = 0
  #sentAtMs = 0
  #clockOffsetMs = 0

  constructor(deps: NegotiationDeps, options: NegotiationOptions) {
    this.#deps = deps
    this.#options = options
    this.#theirKey = keyOf(options.peer)
    this.#verifier = ed25519Verifier(this.#theirKey)
  }

  async run(): Promise<Negotiated> {
    const { role, onHandshake } = this.#options
    const startedAt = this.#deps.clock.now()
    const { ours, theirs, stored } = role === 'dialler' ? await this.#dial() : await this.#listen()
    const { version, suite } = commonGround(theirs.hello)
    const [dialler, listener] = role === 'dialler' ? [ours, theirs] : [theirs, ours]
    const prologue = prologueOf(dialler, listener)
    const isResumed = stored !== undefined
    onHandshake(isResumed ? 'resuming' : 'handshaking')
    this.#session = isResumed ? stored.id : dialler.hello.session
    const keys = isResumed ? await this.#resume(stored, prologue) : await this.#handshake(prologue)
    return {
      id: this.#session,
      keys,
      version,
      suite,
      resumptions: isResumed ? stored.resumptions + 1 : 0,
      createdAt: isResumed ? stored.createdAt : this.#deps.clock.now(),
      startedAt,
      clockOffsetMs: this.#clockOffsetMs,
      theirs: theirs.hello,
      ours: ours.hello,
    }
  }

  #resumable(): StoredSession | undefined {
    const { sessions, peerKeys } = this.#deps
    // What is kept about a peer moves with its key.
    const stored = sessions.find(peerKeys.current(this.#options.peer))
    const isUsable =
      stored !== undefined && stored.resumptions < RESUMPTIONS_MAX && CIPHER_SUITES.includes(stored.suite)
    return isUsable ? stored : undefined
  }

  async #dial(): Promise<Greeted> {
    const session = newUuid(this.#deps.random)
    const found = this.#resumable()
    const stored = found !== undefined && this.#options.claim.take(found.id) ? found : undefined
    const resume = stored === undefined ? undefined : { session: stored.id, epoch: stored.resumptions }
    const ours = await this.#sayHello(session, resume)
    const theirs = await this.#hearHello()
    const { clock } = this.#deps
    this.#setClock(theirs.hello.time - (this.#sentAtMs + clock.now()) / 2)
    if (!same(theirs.hello.session, session)) throw refusal('malformed', 'the listener answers for another session')
    const accepted = theirs.hello.resume
    if (accepted !== undefined && (resume === undefined || !sameResume(accepted, resume))) {
      throw refusal('malformed', 'the listener resumes what was not offered')
    }
    if (stored !== undefined && accepted !== undefined) return { ours, theirs, stored }
    this.#take(session)
    return { ours, theirs, stored: undefined }
  }

  async #listen(): Promise<Greeted> {
    const theirs = await this.#hearHello()
    this.#take(theirs.hello.session)
    // One way only; the dialler's next frame gives the round trip.
    this.#setClock(theirs.hello.time - this.#deps.clock.now())
    const wanted = theirs.hello.resume
    const found = this.#resumable()
    const known = found === undefined ? undefined : { session: found.id, epoch: found.resumptions }
    const isWanted = wanted !== undefined && known !== undefined && sameResume(wanted, known)
    const isOurs = isWanted && this.#options.claim.take(known.session)
    const ours = await this.#sayHello(theirs.hello.session, isOurs ? known : undefined)
    return { ours, theirs, stored: isOurs ? found : undefined }
  }

  /** The dialler makes the id up. One that is another session's would be mistaken for it. */
  #take(session: Uint8Array): void {
    if (!this.#options.claim.take(session)) throw refusal('malformed', 'a session that is in use is proposed')
  }

  async #sayHello(session: Uint8Array, resume: Hello['resume']): Promise<Said> {
    const { party, clock, random } = this.#deps
    const hello: Hello = {
      versions: [...PROTOCOL_VERSIONS],
      preferred: Math.max(...PROTOCOL_VERSIONS),
      suites: [...CIPHER_SUITES],
      capabilities: [...party.capabilities],
      agent: AGENT,
      key: party.signer.publicKey,
      handovers: [...party.handovers],
      session,
      time: clock.now(),
      nonce: random.bytes(NONCE_BYTES),
      secret: this.#options.hasSecret,
      ...(resume === undefined ? {} : { resume }),
    }
    const payload = encodeBody(hello)
    const frame = await this.#send(FRAME_TYPES.hello, payload)
    return { hello, frame: { prefix: frame.subarray(0, 32), payload } }
  }

  async #hearHello(): Promise<Said> {
    const frame = await this.#next(FRAME_TYPES.hello)
    const hello = this.#decode(FRAME_TYPES.hello, frame)
    const chain = this.#identify(hello)
    this.#verify(frame, this.#helloContext('theirs'))
    const { peerKeys, clock } = this.#deps
    for (const statement of chain) peerKeys.record({ ...statement, at: clock.now() })
    const key = concatBytes([hello.key, hello.session, hello.nonce])
    // Only what was seen counts: the time in a first HELLO is on the sender's clock, which nobody has measured yet.
    const now = clock.now()
    if (this.#deps.replay.check(key, now, now) === 'seen') throw refusal('replay', 'a HELLO came twice')
    // Before we answer: who has nothing in common with us is told so, instead of whom it has reached.
    commonGround(hello)
    const { hasSecret } = this.#options
    if (hello.secret !== hasSecret) throw refusal(hasSecret ? 'secret-needed' : 'secret-unexpected', 'one has a secret')
    return { hello, frame }
  }

  /** Which key speaks for the peer: its own, or the last of a chain of hand-overs that goes through its own. */
  #identify(hello: Hello): readonly HandoverLink[] {
    const { peer } = this.#options
    const { peerKeys } = this.#deps
    const speaker = peerOfPublicKey(hello.key)
    const chain = verifyChain(hello.handovers)
    if ('code' in chain) throw refusal('authentication', chain.what)
    const ids = chain.peers.length === 0 ? [speaker] : chain.peers
    if (ids.at(-1) !== speaker || !ids.includes(peer)) {
      throw refusal('authentication', 'the HELLO is signed by a key that does not speak for the peer')
    }
    const known = peerKeys.current(peer)
    if (!ids.includes(known)) throw refusal('superseded', `the peer has handed over to ${known}`)
    this.#theirKey = hello.key
    this.#verifier = ed25519Verifier(hello.key)
    return chain.statements
  }

  #verify(frame: Frame, context: FrameContext): void {
    if (!verifyFrame(frame, context, this.#verifier)) throw refusal('authentication', 'a signature does not hold')
  }

  #setClock(offsetMs: number): void {
    if (Math.abs(offsetMs) > CLOCK_OFFSET_MS_MAX) {
      throw refusal('clock', `the clocks differ by ${Math.round(offsetMs / 1000)} s`)
    }
    this.#clockOffsetMs = Math.round(offsetMs)
  }

  async #handshake(prologue: Uint8Array): Promise<HandshakeResult> {
    const { random, party, peerKeys, clock } = this.#deps
    const speaker = peerOfPublicKey(this.#theirKey)
    const hybridKey = peerKeys.hybridKey(speaker)
    const handshake = new Handshake(
      { random },
      {
        role: this.#options.role,
        prologue,
        identity: party.signer,
        ...(party.hybrid === undefined ? {} : { hybrid: party.hybrid }),
        expected: { publicKey: this.#theirKey, ...(hybridKey === undefined ? {} : { hybridKey }) },
      },
    )
    while (handshake.turn !== 'done') {
      if (handshake.turn === 'write') await this.#send(FRAME_TYPES.handshake, await handshake.write())
      else assertHolds(handshake.read((await this.#signed(FRAME_TYPES.handshake)).payload))
    }
    const result = handshake.result()
    if (result.hybridKey !== undefined) peerKeys.pinHybridKey(speaker, result.hybridKey, clock.now())
    return result
  }

  async #resume(stored: StoredSession, prologue: Uint8Array): Promise<HandshakeResult> {
    const { random, sessions } = this.#deps
    const resumption = new Resumption(
      { random },
      { role: this.#options.role, secret: stored.resumptionSecret, prologue },
    )
    try {
      while (resumption.turn !== 'done') {
        if (resumption.turn === 'write') await this.#send(FRAME_TYPES.resume, encodeBody(resumption.write()))
        else assertHolds(resumption.read(this.#decode(FRAME_TYPES.resume, await this.#signed(FRAME_TYPES.resume))))
      }
    } catch (error) {
      // The two do not hold the same secret after all: the next attempt starts from nothing.
      if (error instanceof Refusal) sessions.remove(stored.id)
      throw error
    }
    return resumption.result()
  }

  async #send(type: number, payload: Uint8Array): Promise<Uint8Array> {
    const { clock, party } = this.#deps
    const frame = await signFrame({
      type,
      payload,
      nonce: this.#nonce(),
      context: type === FRAME_TYPES.hello ? this.#helloContext('ours') : this.#context('ours'),
      signer: party.signer,
    })
    this.#sentAtMs = clock.now()
    if (!this.#options.pipe.send(frame)) await this.#options.pipe.drained()
    return frame
  }

  #nonce(): FrameNonce {
    const { clock, random } = this.#deps
    return { timeMs: clock.now(), epoch: 0, sequence: this.#sent++, random: random.uint32() }
  }

  /** The peer's next frame, signature checked. The first one of the listener also measures the clocks better. */
  async #signed(type: number): Promise<Frame> {
    const frame = await this.#next(type)
    this.#verify(frame, this.#context('theirs'))
    if (this.#options.role === 'listener' && this.#received === 2) {
      this.#setClock(frame.nonce.timeMs - (this.#sentAtMs + this.#deps.clock.now()) / 2)
    }
    return frame
  }

  async #next(type: number): Promise<Frame> {
    const frame = await this.#options.pipe.next()
    if ('code' in frame) {
      const reason = frame.code === 'WIRE_FRAME_VERSION' ? 'version' : 'malformed'
      throw refusal(reason, `bytes that are no frame: ${frame.code}`)
    }
    if (frame.type === FRAME_TYPES.refuse) throw this.#refused(frame)
    if (frame.type !== type) throw refusal('malformed', 'a frame out of turn')
    if (frame.nonce.epoch !== 0 || frame.nonce.sequence !== this.#received) {
      throw refusal('replay', 'a frame out of order')
    }
    this.#received++
    return frame
  }

  #refused(frame: Frame): Refusal {
    // The key of its HELLO, or of the connection where none came: an older key cannot refuse for a newer one.
    const said = readRefusal(frame, { party: this.#deps.party, verifier: this.#verifier })
    return said ?? refusal('authentication', 'a refusal with a wrong signature')
  }

  #decode<T extends ControlType>(type: T, frame: Frame): ControlBody<T> {
    const decoded = decodeBody(CONTROL_SCHEMAS[type], frame.payload)
    if ('code' in decoded) throw refusal('malformed', decoded.problem)
    return decoded.body as ControlBody<T>
  }

  #context(side: 'ours' | 'theirs'): FrameContext {
    const { publicKey } = this.#deps.party.signer
    const [sender, recipient] = side === 'ours' ? [publicKey, this.#theirKey] : [this.#theirKey, publicKey]
    return { sender, recipient, session: this.#session }
  }

  /** Before the HELLOs nobody knows of the other's newer keys: they are addressed to the peer id of the connection. */
  #helloContext(side: 'ours' | 'theirs'): FrameContext {
    const { party } = this.#deps
    return side === 'ours'
      ? { sender: party.signer.publicKey, recipient: keyOf(this.#options.peer), session: NO_SESSION }
      : { sender: this.#theirKey, recipient: keyOf(party.peer), session: NO_SESSION }
  }
}

/** Connections are only made between Ed25519 keys, which their peer ids hold. */
function keyOf(peer: string): Uint8Array {
  const key = publicKeyOfPeer(peer)
  if (key === undefined) throw refusal('authentication', 'the peer id holds no Ed25519 key')
  return key
}

function commonGround(theirs: Hello): { readonly version: number; readonly suite: string } {
  const version = newestCommonVersion(PROTOCOL_VERSIONS, theirs.versions)
  if (version === undefined) throw refusal('version', `the peer speaks versions ${theirs.versions.join(', ')}`)
  const suite = commonSuite(CIPHER_SUITES, theirs.suites)
  if (suite === undefined) throw refusal('suite', 'no common cipher suite')
  return { version, suite }
}

function assertHolds(fault: HandshakeFault | undefined): void {
  if (fault !== undefined) throw refusal('authentication', fault.what)
}

function prologueOf(dialler: Said, listener: Said): Uint8Array {
  const parts = [PROLOGUE, dialler.frame.prefix, dialler.frame.payload, listener.frame.prefix, listener.frame.payload]
  return concatBytes(
    parts.flatMap(part => {
      const length = new Uint8Array(4)
      new DataView(length.buffer).setUint32(0, part.byteLength)
      return [length, part]
    }),
  )
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return toHex(a) === toHex(b)
}

type Resume = NonNullable<Hello['resume']>

function sameResume(a: Resume, b: Resume): boolean {
  return a.epoch === b.epoch && same(a.session, b.session)
}
