/**
 * What carries a stream for a while: a socket of the data plane or a sealed stream of libp2p, inside a session with the
 * peer. It brings frames to whoever holds it, and ends; the stream goes on over another one.
 */
import type { ByteStream, CancelTimer, Clock } from '#base'
import { LINGER_MS } from '../limits.ts'
import { type CarriedFrame, CarriedReader, encodeCarried } from './frames.ts'

export type CarrierSink = {
  readonly onData: (bytes: Uint8Array) => void
  readonly onFrame: (frame: CarriedFrame) => void
  /** The other side sent what is no frame. */
  readonly onFault: (what: string) => void
  /** Nothing more comes. `isClean`: the other side has closed it, nobody cut it. Called once. */
  readonly onEnd: (isClean: boolean) => void
}

const nobody: CarrierSink = {
  onData: () => undefined,
  onFrame: () => undefined,
  onFault: () => undefined,
  onEnd: () => undefined,
}

/** `S`: the session that the peer is known by. */
export class Carrier<S> {
  readonly session: S
  readonly #clock: Clock
  readonly #stream: ByteStream
  readonly #ended = Promise.withResolvers<void>()
  #sink: CarrierSink = nobody
  #cancelLinger: CancelTimer | undefined

  /** The stream belongs to the carrier from now on. */
  constructor(clock: Clock, stream: ByteStream, session: S) {
    this.#clock = clock
    this.#stream = stream
    this.session = session
  }

  /** Whoever hears of it from now on. */
  handTo(sink: CarrierSink): void {
    this.#sink = sink
  }

  /** As `ByteStream.sendParts`; what it says of room is nobody's business, the stream's window bounds what waits. */
  send(parts: readonly Uint8Array[]): void {
    this.#stream.sendParts(parts)
  }

  /** Reads to the end. Never rejects. */
  async run(): Promise<void> {
    const reader = new CarriedReader()
    const into = {
      onData: (bytes: Uint8Array): void => this.#sink.onData(bytes),
      onFrame: (frame: CarriedFrame): void => this.#sink.onFrame(frame),
    }
    let isClean = false
    let isReadable = true
    try {
      for await (const piece of this.#stream.received) {
        // Nothing can be read behind a fault, but the other side may still hear why.
        const fault = isReadable ? reader.push(piece, into) : undefined
        if (fault === undefined) continue
        isReadable = false
        this.#sink.onFault(fault)
      }
      isClean = true
    } catch {
      // It was cut, by whomever: whoever holds the carrier hears that it is over.
    }
    const sink = this.#sink
    this.#sink = nobody
    this.#ended.resolve()
    sink.onEnd(isClean)
  }

  /** Ends it at once. Nobody hears of it. */
  abort(): void {
    this.#sink = nobody
    this.#cancelLinger?.()
    this.#stream.abort(new Error('the carrier is not needed any more'))
  }

  /**
   * Ends it once the other side has heard the last words and has ended it, soon in any case. Without last words it comes
   * to a good end.
   */
  dismiss(lastWords?: CarriedFrame): void {
    this.#sink = nobody
    this.#cancelLinger ??= this.#clock.after(LINGER_MS, () => this.abort())
    try {
      if (lastWords !== undefined) this.#stream.send(encodeCarried(lastWords))
    } catch {
      this.abort() // Gone already: nobody is left to hear.
      return
    }
    const closed = lastWords === undefined ? this.#stream.close() : undefined
    void Promise.allSettled([closed, this.#ended.promise]).then(() => this.abort())
  }
}
