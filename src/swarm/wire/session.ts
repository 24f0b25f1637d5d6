/** A session over a pipe of bytes: see `PeerSession`. */
import { Bitfield, type CancelTimer } from '#base'
import { Asked } from './asked.ts'
import type { SessionEnd, WireFault } from './errors.ts'
import { decodeHandshake } from './extended.ts'
import { lost, malformed, timedOut, tooLarge, unasked } from './faults.ts'
import { hangUp } from './hang-up.ts'
import { Inlet } from './inlet.ts'
import { IDLE_TIMEOUT_MS, KEEP_ALIVE_MS, REQUESTS_TOLD_MAX, WIRE_PIECES_MAX } from './limits.ts'
import { decodeBody, encodeMessage } from './messages.ts'
import { Outbox } from './outbox.ts'
import { Padding } from './padding.ts'
import { EXTENSION_IDS, type ExtensionIds, ID, NO_EXTENSIONS } from './protocol.ts'
import { type MessageSink, MessageReader } from './reader.ts'
import type {
  BlockSpan,
  BytePipe,
  ExtendedHandshake,
  Extension,
  PeerMessage,
  PeerSession,
  PieceLayout,
  ReceivedMessage,
  SessionDeps,
  SessionFacts,
  SessionOptions,
} from './types.ts'

/** What the handshake, or the greeting, has settled. */
export type SessionTerms = {
  readonly party: string
  readonly kind: 'koinon' | 'bittorrent'
  readonly pipe: BytePipe
  /** Where the handshake was read from. @default the pipe's beginning */
  readonly inlet?: Inlet
  /** Bytes that the other side takes requests for, and that this side does. */
  readonly theirRequestBytesMax: number
  readonly ownRequestBytesMax: number
  /** Whether both know BEP 6, and BEP 10. */
  readonly isFast: boolean
  readonly isExtended: boolean
}

const OFFERED: { readonly [kind in PeerSession['kind']]: readonly Extension[] } = {
  koinon: ['metadata', 'core', 'votes'],
  bittorrent: ['metadata'],
}

/** A session that is ready to start. */
export function createPeerSession(deps: SessionDeps, terms: SessionTerms, options: SessionOptions): PeerSession {
  return new WireSession(deps, terms, options)
}

class WireSession implements PeerSession, MessageSink {
  readonly takeBuffer: SessionOptions['takeBuffer']
  onMessage: (message: ReceivedMessage) => void = () => undefined
  onWritable: () => void = () => undefined
  onEnd: (end: SessionEnd) => void = () => undefined
  readonly #deps: SessionDeps
  readonly #terms: SessionTerms
  readonly #says: ExtendedHandshake
  readonly #offered: readonly Extension[]
  readonly #inlet: Inlet
  readonly #outbox: Outbox
  readonly #asked: Asked
  readonly #reader: MessageReader
  readonly #padding = new Padding()
  #layout: PieceLayout | undefined
  #theirs: ExtendedHandshake | undefined
  #ids: ExtensionIds = NO_EXTENSIONS
  #end: SessionEnd | undefined
  #hasSaidPieces = false
  #reading: Promise<void> | undefined
  #isPaused = false
  #wake: (() => void) | undefined
  #receivedBytes = 0
  #receivedAt: number
  #sentAt: number
  #cancelTick: CancelTimer = () => undefined

  constructor(deps: SessionDeps, terms: SessionTerms, options: SessionOptions) {
    this.#deps = deps
    this.#terms = terms
    this.takeBuffer = options.takeBuffer
    this.#says = { requestsMax: REQUESTS_TOLD_MAX, ...options.says }
    this.#layout = options.layout
    this.#offered = OFFERED[terms.kind]
    this.#inlet = terms.inlet ?? new Inlet(terms.pipe)
    this.#asked = new Asked(terms.isFast)
    this.#reader = new MessageReader(this)
    this.#outbox = new Outbox(terms.pipe, {
      onWritable: () => {
        if (this.#end === undefined) this.#tell(() => this.onWritable())
      },
      onLost: what => this.#fault(lost(what)),
    })
    this.#receivedAt = deps.clock.monotonic()
    this.#sentAt = this.#receivedAt
  }

  get party(): string {
    return this.#terms.party
  }

  get kind(): PeerSession['kind'] {
    return this.#terms.kind
  }

  get requestBytesMax(): number {
    return this.#terms.theirRequestBytesMax
  }

  get theirs(): ExtendedHandshake | undefined {
    return this.#theirs
  }

  get end(): SessionEnd | undefined {
    return this.#end
  }

  get facts(): SessionFacts {
    return {
      receivedBytes: this.#receivedBytes,
      sentBytes: this.#outbox.sentBytes,
      openRequests: this.#asked.openCount,
    }
  }

  start(): void {
    if (this.#reading !== undefined || this.#end !== undefined) return
    if (this.#terms.isExtended) this.send({ kind: 'extended-handshake', ...this.#says })
    this.#tick()
    this.#reading = this.#read()
  }

  setLayout(layout: PieceLayout): void {
    this.#layout = layout
  }

  supports(extension: Extension): boolean {
    return this.#offered.includes(extension) && this.#ids[extension] !== 0
  }

  send(message: PeerMessage): boolean {
    if (this.#end !== undefined) return false
    const understood = this.#terms.isFast ? message : this.#withoutFast(message)
    if (understood === undefined || !this.#noteSent(understood)) return this.#outbox.push([])
    this.#sentAt = this.#deps.clock.monotonic()
    const isAnswer = understood.kind === 'piece' || understood.kind === 'reject'
    const whole = isAnswer ? this.#padding.answer(understood) : understood
    const onTaken = understood.kind === 'piece' ? understood.onTaken : undefined
    return this.#outbox.push(encodeMessage(whole, { ids: this.#ids, offered: this.#offered }), onTaken)
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#receivedAt = this.#deps.clock.monotonic()
    this.#wake?.()
  }

  close(why = 'not needed any more'): void {
    if (this.#finish({ kind: 'closed', by: 'us', why })) this.#hangUp()
  }

  fail(what: string): void {
    this.#fault({ code: 'SWARM_BAD_PEER', blame: 'peer', what })
  }

  // What the reader asks and tells.

  get isStopped(): boolean {
    return this.#isPaused || this.#end !== undefined
  }

  get bitfieldBytes(): { readonly min: number; readonly max: number } {
    const count = this.#layout?.pieceCount
    if (count === undefined) return { min: 0, max: Math.ceil(WIRE_PIECES_MAX / 8) }
    return { min: Math.ceil(count / 8), max: Math.ceil(count / 8) }
  }

  get hashesBytesMax(): number {
    return this.#asked.hashesBytesMax
  }

  allowPiece(piece: number, offset: number, length: number): WireFault | undefined {
    return this.#asked.answered({ piece, offset, length }) ? undefined : unasked('a block')
  }

  onKeepAlive(): void {
    this.onMessage({ kind: 'keep-alive' })
  }

  onPiece(piece: number, offset: number, bytes: Uint8Array<ArrayBuffer>): void {
    this.onMessage({ kind: 'piece', piece, offset, bytes })
  }

  onBody(id: number, body: Uint8Array): WireFault | undefined {
    if (id === ID.extended && !this.#isOffered(body[0])) return undefined
    const message = decodeBody(id, body)
    if (message === undefined) return undefined
    if ('code' in message) return message
    if (message.kind === 'extended-handshake') this.#noteHandshake(body.subarray(1), message)
    if (message.kind === 'request' || message.kind === 'cancel') return this.#onSpan(message)
    const verdict = this.#check(message)
    if (verdict === 'ignore') return undefined
    if (verdict !== 'take') return verdict
    this.onMessage(message)
    return undefined
  }

  #isOffered(id: number | undefined): boolean {
    if (!this.#terms.isExtended) return false
    return id === 0 || this.#offered.some(extension => EXTENSION_IDS[extension] === id)
  }

  #noteHandshake(body: Uint8Array, theirs: ExtendedHandshake): void {
    const found = decodeHandshake(body)
    if ('ids' in found) this.#ids = found.ids
    this.#theirs = theirs
  }

  /** Whether a message makes sense now. */
  #check(message: ReceivedMessage): 'take' | 'ignore' | WireFault {
    switch (message.kind) {
      case 'have':
        return message.piece < this.#pieceCount ? 'take' : malformed('a piece that the torrent does not have')
      case 'have-all':
      case 'have-none':
        if (!this.#terms.isFast) return malformed('a message of BEP 6, which was not agreed on')
        return this.#checkFirst()
      case 'bitfield':
        if (this.#layout !== undefined && Bitfield.decode(message.bytes, this.#layout.pieceCount) === undefined) {
          return malformed('a bitfield with pieces that the torrent does not have')
        }
        return this.#checkFirst()
      case 'choke':
        this.#asked.choked()
        return 'take'
      case 'reject':
        return this.#asked.answered(message) ? 'take' : 'ignore'
      case 'hashes':
        return this.#asked.answeredHashes(message) ? 'take' : unasked('hashes')
      case 'hash-reject':
        return this.#asked.answeredHashes(message) ? 'take' : 'ignore'
      case 'metadata':
        return this.#checkChunk('metadata', message)
      case 'core':
        return this.#checkChunk(message.document, message)
      case 'votes':
        return this.#asked.answeredVotes() ? 'take' : unasked('votes')
      default:
        return 'take'
    }
  }

  get #pieceCount(): number {
    return this.#layout?.pieceCount ?? WIRE_PIECES_MAX
  }

  /** What a side has is said once, before any `have` of its own. */
  #checkFirst(): 'take' | WireFault {
    if (this.#hasSaidPieces) return malformed('its pieces for the second time')
    this.#hasSaidPieces = true
    return 'take'
  }

  #onSpan(message: BlockSpan & { readonly kind: 'request' | 'cancel' }): WireFault | undefined {
    const { kind, piece, length } = message
    if (length > this.#terms.ownRequestBytesMax) return tooLarge('a request')
    if (length === 0 || piece >= this.#pieceCount) return malformed('a request for what the torrent does not have')
    const inside = this.#layout === undefined ? message : this.#padding.trimmed(message, this.#layout)
    if (inside === undefined || (inside.length < length && this.#terms.kind === 'koinon')) {
      return malformed('a request beyond the end of a piece')
    }
    if (inside.length < length && kind === 'request') this.#padding.note(message)
    this.onMessage({ kind, piece, offset: inside.offset, length: inside.length })
    return undefined
  }

  #checkChunk(
    document: string,
    { what, chunk }: { readonly what: 'request' | 'data' | 'reject'; readonly chunk: number },
  ): 'take' | 'ignore' | WireFault {
    if (what === 'request' || this.#asked.answeredChunk(document, chunk)) return 'take'
    return what === 'reject' ? 'ignore' : unasked('a chunk of a document')
  }

  /** The same without BEP 6; undefined: there is nothing to say. */
  #withoutFast(message: PeerMessage): PeerMessage | undefined {
    if (message.kind === 'have-none' || message.kind === 'reject') return undefined
    if (message.kind !== 'have-all') return message
    if (this.#layout === undefined) return undefined
    return { kind: 'bitfield', bytes: Bitfield.full(this.#layout.pieceCount).encode() }
  }

  /** Remembers what is asked for. @returns whether it is sent */
  #noteSent(message: PeerMessage): boolean {
    switch (message.kind) {
      case 'request':
        this.#asked.request(message)
        return true
      case 'cancel':
        return this.#asked.cancel(message)
      case 'hash-request':
        this.#asked.askHashes(message)
        return true
      case 'metadata':
      case 'core': {
        if (!this.supports(message.kind)) return false
        const document = message.kind === 'core' ? message.document : 'metadata'
        if (message.what === 'request') this.#asked.askChunk(document, message.chunk)
        return true
      }
      case 'votes-request':
        if (this.supports('votes')) this.#asked.askVotes()
        return this.supports('votes')
      case 'votes':
        return this.supports('votes')
      case 'extended-handshake':
        return this.#terms.isExtended
      default:
        return true
    }
  }

  /** A bug of the owner's costs the session, not the process: what reaches it comes from the network. */
  #tell(call: () => void): void {
    try {
      call()
    } catch (error) {
      this.#ownerFailed(error)
    }
  }

  #ownerFailed(error: unknown): void {
    this.#deps.logger.error('the owner of a session failed', { party: this.party, error: stackOf(error) })
    this.#fault(lost('its owner failed'))
  }

  /** Never rejects: what breaks ends the session. After the end it reads on to the other side's, and throws that away. */
  async #read(): Promise<void> {
    try {
      for (;;) {
        const { done, value: chunk } = await this.#inlet.next()
        if (done === true) break
        if (this.#end !== undefined) continue
        this.#receivedAt = this.#deps.clock.monotonic()
        this.#receivedBytes += chunk.byteLength
        // Nobody waits where nothing holds it up: blocks come in tens of thousands of pieces.
        for (let at = this.#parse(chunk, 0); this.#isHeldUp(chunk, at); at = this.#parse(chunk, at))
          await this.#resumed()
      }
      this.#ended()
    } catch {
      this.#fault(lost('the connection broke'))
    }
  }

  /** @returns where it stopped: at the end, or before because it was told to, or because the session is over */
  #parse(chunk: Uint8Array, from: number): number {
    let stopped: number | WireFault = from
    try {
      stopped = this.#reader.push(chunk, from)
    } catch (error) {
      this.#ownerFailed(error)
    }
    if (typeof stopped === 'number') return stopped
    this.#fault(stopped)
    return chunk.byteLength
  }

  #isHeldUp(chunk: Uint8Array, at: number): boolean {
    return this.#end === undefined && (at < chunk.byteLength || this.#isPaused)
  }

  #resumed(): Promise<void> {
    if (!this.isStopped) return Promise.resolve()
    return new Promise(resolve => {
      this.#wake = () => {
        this.#wake = undefined
        resolve()
      }
    })
  }

  #ended(): void {
    if (this.#reader.isBetweenMessages) {
      if (this.#finish({ kind: 'closed', by: 'peer', why: 'the other side has ended it' })) this.#hangUp()
    } else this.#fault(lost('the connection ended within a message'))
  }

  #tick(): void {
    this.#cancelTick = this.#deps.clock.after(KEEP_ALIVE_MS / 2, () => {
      const now = this.#deps.clock.monotonic()
      if (!this.#isPaused && now - this.#receivedAt >= IDLE_TIMEOUT_MS) {
        this.#fault(timedOut('nothing came for too long'))
        return
      }
      if (now - this.#sentAt >= KEEP_ALIVE_MS / 2) this.send({ kind: 'keep-alive' })
      this.#tick()
    })
  }

  #hangUp(): void {
    const reading = (this.#reading ??= this.#read())
    const lastWords = this.#outbox.finish()
    void hangUp({ clock: this.#deps.clock, pipe: this.#terms.pipe }, { lastWords, reading }) // Never rejects.
  }

  #fault(fault: WireFault): void {
    if (!this.#finish({ kind: 'fault', fault })) return
    this.#outbox.drop()
    this.#terms.pipe.abort(new Error(fault.what))
  }

  /** @returns whether it was not over before */
  #finish(end: SessionEnd): boolean {
    if (this.#end !== undefined) return false
    this.#end = end
    this.#cancelTick()
    this.#wake?.()
    // Never within a call of the owner's.
    queueMicrotask(() => this.#tell(() => this.onEnd(end)))
    return true
  }
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}
