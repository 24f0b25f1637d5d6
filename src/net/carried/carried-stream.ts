/**
 * A stream that outlives its carrier. Each side counts the bytes of both directions; what the other side's user has not
 * taken is kept, and goes out again where a new carrier begins. Users see one `ByteStream`: nothing is lost, nothing
 * comes twice, and a change of the carrier is only a pause.
 *
 *     flowing ──carrier lost──► waiting ──opener has another──► resuming ──both have said what they have──► flowing
 *        └─────────── a better carrier (the opener's choice) ──────►┘
 *     ended, from each: both directions finished, a reset, or nobody came in time
 */
import { abortable, assert, type ByteStream, type Clock, messageOf, StreamError, withDeadline } from '#base'
import { CARRIED_ACK_BYTES, CARRIED_DATA_BYTES_MAX, CARRIED_WINDOW_BYTES_MAX, CARRIED_WINDOW_MS } from '../limits.ts'
import type { NetSettings } from '../settings.ts'
import type { Carrier, CarrierSink } from './carrier.ts'
import {
  type CarriedFrame,
  dataHeader,
  encodeCarried,
  type OpenFrame,
  type Received,
  type ResetReason,
} from './frames.ts'
import { Inbox } from './inbox.ts'
import { Unacknowledged } from './unacknowledged.ts'

export type CarriedPhase = 'flowing' | 'resuming' | 'waiting' | 'ended'

/** Who keeps the streams of a host. */
export type StreamOwner<S> = {
  /** Its carrier is gone. */
  readonly onWaiting: (stream: CarriedStream<S>) => void
  /** It flows again over another carrier. */
  readonly onResumed: (stream: CarriedStream<S>) => void
  readonly onEnded: (stream: CarriedStream<S>, how: 'finished' | 'reset') => void
  /** The peer broke the rules of this protocol. */
  readonly onFault: (session: S, what: string) => void
}

export type CarriedOptions = {
  /** 16 random bytes. */
  readonly id: Uint8Array
  readonly peer: string
  readonly protocol: string
  /** The opener is the one that finds other carriers. */
  readonly role: 'opener' | 'listener'
}

export type CarriedSettings = Pick<NetSettings, 'closeTimeoutMs' | 'streamWriteBytes'>

export class CarriedStream<S> implements ByteStream {
  readonly id: Uint8Array
  readonly peer: string
  readonly protocol: string
  readonly role: 'opener' | 'listener'
  readonly received: AsyncIterable<Uint8Array>
  readonly #clock: Clock
  readonly #settings: CarriedSettings
  readonly #owner: StreamOwner<S>
  readonly #out = new Unacknowledged()
  readonly #inbox = new Inbox(byteLength => this.#onTaken(byteLength))
  readonly #finished = Promise.withResolvers<void>()
  #phase: CarriedPhase = 'waiting'
  #carrier: Carrier<S> | undefined
  /** While a better carrier is begun: the one before, whose bytes count no more. */
  #former: Carrier<S> | undefined
  /** Whether the carrier has as much to send as it takes: what is more waits here, not there. */
  #isCarrierFull = false
  /** Of the carrier, counted by the opener. */
  #number = -1
  #hasHeard = false
  /** Whether the listener's first frame has come on this carrier. */
  #isReady = false
  /** Of our bytes: taken by the other side's user, and the most that ever went out. */
  #acknowledged = 0
  #sentMax = 0
  /** Of theirs: here, taken by our user, and what of that they have been told. */
  #received = 0
  #consumed = 0
  #told = 0
  #hasClosed = false
  #hasSentFin = false
  #isFinAcknowledged = false
  #theirLength: number | undefined
  #wakers: (() => void)[] = []
  #answered: (() => void)[] = []

  constructor(
    deps: { readonly clock: Clock; readonly settings: CarriedSettings; readonly owner: StreamOwner<S> },
    options: CarriedOptions,
  ) {
    this.#clock = deps.clock
    this.#settings = deps.settings
    this.#owner = deps.owner
    this.id = options.id
    this.peer = options.peer
    this.protocol = options.protocol
    this.role = options.role
    this.received = this.#inbox.received
    this.#finished.promise.catch(() => undefined) // Whoever closes the stream hears of it.
  }

  get phase(): CarriedPhase {
    return this.#phase
  }

  /** The session of its carrier; undefined while it waits. */
  get session(): S | undefined {
    return this.#carrier?.session
  }

  /** Bytes that it holds in memory. */
  get heldBytes(): number {
    return this.#out.size + this.#inbox.size
  }

  send(bytes: Uint8Array): boolean {
    return this.sendParts([bytes])
  }

  sendParts(parts: readonly Uint8Array[]): boolean {
    let byteLength = 0
    for (const part of parts) byteLength += part.byteLength
    this.#assertWritable()
    if (byteLength === 0) return true
    const out = this.#out
    const isFree = this.#phase === 'flowing' && !this.#isCarrierFull && out.sent === out.end
    const isNext = isFree && byteLength <= CARRIED_DATA_BYTES_MAX
    for (const part of parts) if (part.byteLength > 0) out.push(part)
    if (isNext && out.end - this.#acknowledged <= CARRIED_WINDOW_BYTES_MAX) {
      out.sentAll()
      this.#sentMax = out.sent
      this.#put([dataHeader(byteLength), ...parts])
    } else {
      this.#pump()
    }
    return this.#hasRoom
  }

  async drained(): Promise<void> {
    while (this.#phase !== 'ended' && !this.#hasRoom) {
      await new Promise<void>(resolve => {
        this.#wakers.push(resolve)
      })
    }
    if (this.#phase === 'ended' && !this.#hasClosed) throw this.#inbox.end?.error ?? resetBy(undefined)
  }

  async close(): Promise<void> {
    if (this.#hasClosed) return
    this.#hasClosed = true
    if (this.#phase === 'ended') throw this.#inbox.end?.error ?? resetBy(undefined)
    this.#pump()
    const options = { what: 'closing a stream', timeoutMs: this.#settings.closeTimeoutMs + CARRIED_WINDOW_MS }
    try {
      await withDeadline(this.#clock, options, signal => abortable(this.#finished.promise, signal))
    } catch (error) {
      if (error instanceof StreamError) throw error
      // Not delivered, so the other side must not take what it has for the whole.
      this.abort(error instanceof Error ? error : new Error(messageOf(error)))
      throw resetBy(error)
    }
  }

  abort(error: Error): void {
    if (this.#phase === 'ended') return
    this.#inbox.clear()
    this.#end(resetBy(error), this.#isFinished ? undefined : { kind: 'reset', reason: 'reset' })
  }

  /** Ends it without a word to the peer, who cannot be reached or has said the last one. */
  fail(error: StreamError): void {
    if (this.#phase !== 'ended') this.#end(error, undefined)
  }

  /** The opener's first carrier: it need not wait for an answer. */
  begin(carrier: Carrier<S>): void {
    assert(this.role === 'opener' && this.#number < 0, 'a stream begins once, at its opener')
    this.#open(carrier)
    this.#phase = 'flowing'
    this.#pump()
  }

  /** The opener has another carrier: because the one before is gone, or a better one. */
  switchTo(carrier: Carrier<S>): void {
    assert(this.role === 'opener', 'the opener chooses the carrier')
    if (this.#phase === 'ended') {
      carrier.abort()
      return
    }
    this.#former?.abort()
    this.#former = this.#carrier
    this.#phase = 'resuming'
    this.#open(carrier)
  }

  /** Resolves once the other side has answered on a new carrier, or that is over. */
  async untilAnswered(): Promise<void> {
    while (this.#phase === 'resuming') await new Promise<void>(resolve => this.#answered.push(resolve))
  }

  /** The carrier has not come to anything: the stream needs another one. */
  giveUpCarrier(): void {
    if (this.#carrier !== undefined) this.#lose(this.#carrier)
  }

  /** The listener has a carrier: the first, or another one, as its opening frame says. */
  accept(carrier: Carrier<S>, frame: OpenFrame): void {
    assert(this.role === 'listener', 'a listener accepts carriers')
    // A carrier that was given up may arrive behind the one that was opened instead.
    if (this.#phase === 'ended' || frame.number <= this.#number) {
      carrier.dismiss()
      return
    }
    const what = this.#compare(frame)
    if (what !== undefined) {
      this.#carrier?.abort()
      this.#carrier = carrier
      this.#fault(what)
      return
    }
    const isFirst = this.#number < 0
    this.#carrier?.dismiss()
    this.#carrier = carrier
    this.#isCarrierFull = false
    this.#number = frame.number
    this.#phase = 'flowing'
    this.#told = this.#consumed
    carrier.handTo(this.#sinkFor(carrier))
    this.#put([encodeCarried({ kind: 'ready', received: this.#received, consumed: this.#consumed })])
    this.#goOn()
    if (!isFirst && this.#carrier === carrier) this.#owner.onResumed(this)
  }

  get #hasRoom(): boolean {
    if (this.#isFinAcknowledged) return true
    return !this.#isCarrierFull && this.#out.end - this.#acknowledged < CARRIED_WINDOW_BYTES_MAX
  }

  /** Both directions have come to their end. */
  get #isFinished(): boolean {
    return this.#isFinAcknowledged && this.#theirLength !== undefined
  }

  #assertWritable(): void {
    if (this.#hasClosed) throw new StreamError({ code: 'STREAM_CLOSED' }, 'the stream is closed')
    if (this.#phase === 'ended') throw this.#inbox.end?.error ?? resetBy(undefined)
    // What the window takes is no fault of the writer's, however little may wait behind it.
    const bytesMax = CARRIED_WINDOW_BYTES_MAX + this.#settings.streamWriteBytes
    if (this.#out.end - this.#acknowledged <= bytesMax) return
    const why = new Error('the other side does not read')
    this.abort(why)
    throw resetBy(why)
  }

  #open(carrier: Carrier<S>): void {
    const { id } = this
    this.#carrier = carrier
    this.#isCarrierFull = false
    this.#number++
    this.#isReady = false
    this.#hasSentFin = false
    this.#told = this.#consumed
    carrier.handTo(this.#sinkFor(carrier))
    const offsets = { received: this.#received, consumed: this.#consumed }
    this.#put([encodeCarried({ kind: 'open', id, number: this.#number, hasHeard: this.#hasHeard, ...offsets })])
  }

  /** Only the carrier that the stream has now is listened to. */
  #sinkFor(carrier: Carrier<S>): CarrierSink {
    const ours = (): boolean => this.#carrier === carrier
    return {
      onData: bytes => {
        if (ours()) this.#onData(bytes)
      },
      onFrame: frame => {
        if (ours()) this.#onFrame(frame)
      },
      onFault: what => {
        if (ours()) this.#fault(what)
      },
      onEnd: isClean => {
        if (!ours()) return
        if (isClean && this.#isFinished) this.#end(undefined, undefined)
        else this.#lose(carrier)
      },
    }
  }

  #onData(bytes: Uint8Array): void {
    const isInTurn = this.role === 'listener' || this.#isReady
    this.#received += bytes.byteLength
    if (!isInTurn || this.#theirLength !== undefined) this.#fault('data out of turn')
    else if (this.#received - this.#consumed > CARRIED_WINDOW_BYTES_MAX) this.#fault('more data than the window takes')
    else this.#inbox.push(bytes)
  }

  #onFrame(frame: CarriedFrame): void {
    if (frame.kind === 'reset') {
      this.#onReset(frame.reason)
      return
    }
    if (frame.kind === 'ready') {
      this.#onReady(frame)
      return
    }
    const what = this.role === 'opener' && !this.#isReady ? 'a frame before the first one' : this.#take(frame)
    if (what !== undefined) this.#fault(what)
  }

  #take(frame: Exclude<CarriedFrame, { readonly kind: 'reset' | 'ready' }>): string | undefined {
    switch (frame.kind) {
      case 'ack':
        if (frame.consumed < this.#acknowledged || frame.consumed > this.#out.sent) return 'an offset out of range'
        this.#acknowledge(frame.consumed)
        return undefined
      case 'fin':
        if (frame.length !== this.#received) return 'an end that is not where the data ends'
        this.#theirLength = frame.length
        this.#inbox.finish()
        this.#put([encodeCarried({ kind: 'fin-ack' })])
        this.#settle()
        return undefined
      case 'fin-ack':
        if (!this.#hasSentFin) return 'an answer to no end'
        this.#onFinAcknowledged()
        return undefined
      default:
        return 'an opening inside a stream'
    }
  }

  #acknowledge(consumed: number): void {
    this.#acknowledged = consumed
    this.#out.release(consumed)
    this.#pump()
    if (this.#hasRoom) this.#wake()
  }

  #onFinAcknowledged(): void {
    if (this.#isFinAcknowledged) return
    this.#isFinAcknowledged = true
    this.#out.clear()
    this.#finished.resolve()
    this.#wake()
    this.#settle()
  }

  /** The opener leaves first words and last ones to the listener: it stays until the carrier was closed. */
  #settle(): void {
    if (this.#isFinished && this.role === 'listener') this.#end(undefined, undefined)
  }

  #onReady(frame: Received): void {
    const isDue = this.role === 'opener' && !this.#isReady
    const isFirst = this.#phase === 'flowing'
    const what = !isDue ? 'a first frame out of turn' : isFirst ? nothingYet(frame) : this.#compare(frame)
    if (what !== undefined) {
      this.#fault(what)
      return
    }
    this.#isReady = true
    this.#hasHeard = true
    if (isFirst) return
    this.#former?.abort()
    this.#former = undefined
    this.#phase = 'flowing'
    this.#tellAnswered()
    this.#goOn()
    if (this.#phase === 'flowing') this.#owner.onResumed(this)
  }

  #onReset(reason: ResetReason): void {
    // Where all is said a peer that has forgotten the stream has taken it all.
    const hasSaidAll = this.#theirLength !== undefined && this.#hasClosed
    if (this.#isFinished || (reason === 'finished' && hasSaidAll)) {
      this.#onFinAcknowledged()
      if (this.#phase !== 'ended') this.#end(undefined, undefined)
      return
    }
    // The other side waits until its last word was heard.
    this.#carrier?.abort()
    this.#carrier = undefined
    if (reason === 'unknown') this.#end(lostBy('the peer does not know the stream any more'), undefined)
    else this.#end(resetBy(new Error(`the other side says: ${reason}`)), undefined)
  }

  /** What the other side has of our bytes, on a new carrier. @returns why that cannot be */
  #compare({ received, consumed }: Received): string | undefined {
    if (consumed < this.#acknowledged || received > this.#sentMax) return 'an offset out of range'
    this.#acknowledged = consumed
    this.#out.release(consumed)
    if (!this.#isFinAcknowledged) this.#out.rewind(received)
    this.#hasSentFin = false
    return undefined
  }

  /** A new carrier is ours: everything that was on its way when the old one ended goes out again. */
  #goOn(): void {
    this.#pump()
    if (this.#hasRoom) this.#wake()
  }

  #pump(): void {
    const out = this.#out
    while (this.#phase === 'flowing' && !this.#isCarrierFull) {
      const roomBytes = this.#acknowledged + CARRIED_WINDOW_BYTES_MAX - out.sent
      const bytes = out.next(Math.min(roomBytes, CARRIED_DATA_BYTES_MAX))
      if (bytes === undefined) break
      this.#sentMax = Math.max(this.#sentMax, out.sent)
      this.#put([dataHeader(bytes.byteLength), bytes])
    }
    const isDue = this.#hasClosed && !this.#hasSentFin && !this.#isFinAcknowledged && out.sent === out.end
    if (!isDue || this.#phase !== 'flowing') return
    this.#hasSentFin = true
    this.#put([encodeCarried({ kind: 'fin', length: out.end })])
  }

  #put(parts: readonly Uint8Array[]): void {
    const carrier = this.#carrier
    if (carrier === undefined) return
    try {
      if (carrier.send(parts) || this.#isCarrierFull) return
    } catch {
      this.#lose(carrier) // What did not go out goes out over the next one.
      return
    }
    this.#isCarrierFull = true
    const onRoom = (): void => {
      if (this.#carrier !== carrier) return
      this.#isCarrierFull = false
      this.#goOn()
    }
    carrier.drained().then(onRoom, () => undefined) // Where it has ended its reader hears of it.
  }

  #onTaken(byteLength: number): void {
    this.#consumed += byteLength
    if (this.#phase !== 'flowing' || this.#consumed - this.#told < CARRIED_ACK_BYTES) return
    this.#told = this.#consumed
    this.#put([encodeCarried({ kind: 'ack', consumed: this.#consumed })])
  }

  #lose(carrier: Carrier<S>): void {
    if (this.#carrier !== carrier || this.#phase === 'ended') return
    carrier.abort()
    this.#former?.abort()
    this.#former = undefined
    this.#carrier = undefined
    this.#isCarrierFull = false
    this.#phase = 'waiting'
    this.#tellAnswered()
    this.#owner.onWaiting(this)
  }

  #fault(what: string): void {
    const session = this.#carrier?.session
    this.#end(resetBy(new Error(`the other side broke the protocol: ${what}`)), { kind: 'reset', reason: 'fault' })
    if (session !== undefined) this.#owner.onFault(session, what)
  }

  #end(error: StreamError | undefined, lastWords: CarriedFrame | undefined): void {
    if (this.#phase === 'ended') return
    this.#phase = 'ended'
    const carrier = this.#carrier
    const how = error === undefined || this.#isFinished ? 'finished' : 'reset'
    this.#carrier = undefined
    this.#former?.abort()
    this.#former = undefined
    this.#inbox.finish(error)
    this.#out.clear()
    this.#finished.reject(error ?? resetBy(undefined))
    carrier?.dismiss(lastWords)
    this.#wake()
    this.#tellAnswered()
    this.#owner.onEnded(this, how)
  }

  #tellAnswered(): void {
    for (const tell of this.#answered.splice(0)) tell()
  }

  #wake(): void {
    for (const wake of this.#wakers.splice(0)) wake()
  }
}

/** What a listener says of a stream that it has just come to know. */
function nothingYet({ received, consumed }: Received): string | undefined {
  return received === 0 && consumed === 0 ? undefined : 'an offset of a stream that has just begun'
}

export function lostBy(message: string): StreamError {
  return new StreamError({ code: 'STREAM_LOST' }, message)
}

export function resetBy(cause: unknown): StreamError {
  return new StreamError({ code: 'STREAM_RESET' }, 'the stream was reset', { cause })
}
