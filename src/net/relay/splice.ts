/**
 * The middle of a circuit: passes bytes between two streams, no more at a time than one piece each way, no faster and no
 * more in all than the circuit may carry. What the bytes mean is the business of its ends, which have encrypted them.
 */
import { type Clock, sleep, StreamError } from '#base'
import { TokenBucket } from '#protocol'
import { type CircuitLimits, RELAY_HEAD_BYTES, type RelayCut } from '#wire'
import { RELAY_LINGER_MS } from './limits.ts'
import { type RelayStream, sayLast } from './relay-stream.ts'

export type SpliceOptions = {
  readonly limits: CircuitLimits
  /** Aborts where the circuit has to end with the node. */
  readonly signal: AbortSignal
  /** Bytes that were passed on from one end to the other. */
  readonly onBytes: (from: string, count: number) => void
  /** The circuit is over: its place is free. Called once, before its ends have heard. */
  readonly onOver: (cut: RelayCut | undefined) => void
}

export class Splice {
  readonly #clock: Clock
  readonly #ends: readonly [RelayStream, RelayStream]
  readonly #options: SpliceOptions
  readonly #bucket: TokenBucket
  readonly #over = new AbortController()
  #bytes = 0
  #cut: RelayCut | undefined

  constructor(deps: { readonly clock: Clock }, ends: readonly [RelayStream, RelayStream], options: SpliceOptions) {
    this.#clock = deps.clock
    this.#ends = ends
    this.#options = options
    const { bytesPerSecond } = options.limits
    this.#bucket = new TokenBucket(deps, { tokensMax: bytesPerSecond, perSecond: bytesPerSecond })
  }

  /** Until the circuit is over and both streams have ended. Never rejects. */
  async run(): Promise<void> {
    const { limits, signal } = this.#options
    const [a, b] = this.#ends
    const stop = (): void => this.#end('stopping')
    const cancel = this.#clock.after(limits.durationMs, () => this.#end('duration'))
    signal.addEventListener('abort', stop, { once: true })
    if (signal.aborted) stop()
    // One end that has ended ends all: a connection is not half of one.
    const copied = Promise.all([a, b].map(from => this.#copy(from, from === a ? b : a)))
    const over = new Promise(resolve => this.#over.signal.addEventListener('abort', resolve, { once: true }))
    if (!this.#over.signal.aborted) await over
    cancel()
    signal.removeEventListener('abort', stop)
    await this.#hangUp(copied)
  }

  async #copy(from: RelayStream, to: RelayStream): Promise<void> {
    try {
      for (;;) {
        const frame = await from.next()
        if (this.#over.signal.aborted) {
          if (frame === undefined) return
          continue // Read so that its end is seen, and dropped.
        }
        if (frame === undefined) return this.#end(undefined)
        if ('code' in frame || frame.kind !== 'data') return this.#end('malformed')
        if (!this.#mayPass(frame.bytes)) return this.#end('bytes')
        const hasRoom = to.send(frame.bytes)
        this.#options.onBytes(from.peer, frame.bytes.byteLength)
        if (!hasRoom) await to.drained()
        const waitMs = this.#bucket.retryAfterMs(0)
        if (waitMs > 0) await sleep(this.#clock, waitMs, { signal: this.#over.signal })
      }
    } catch (error) {
      // The sleep ends by the signal, streams by their own errors; neither says more than that this is over.
      if (!(error instanceof StreamError) && !this.#over.signal.aborted) this.#end('malformed')
      else this.#end('lost')
    }
  }

  /** Heads count too: otherwise pieces of one byte would cost five and count one. */
  #mayPass(bytes: Uint8Array): boolean {
    this.#bytes += bytes.byteLength + RELAY_HEAD_BYTES
    if (this.#bytes > this.#options.limits.bytes) return false
    this.#bucket.charge(bytes.byteLength + RELAY_HEAD_BYTES)
    return true
  }

  #end(cut: RelayCut | undefined): void {
    if (this.#over.signal.aborted) return
    this.#cut = cut
    this.#over.abort()
    this.#options.onOver(cut)
  }

  /** Both ends hear why, and have a moment to. */
  async #hangUp(copied: Promise<unknown>): Promise<void> {
    const reason = this.#cut
    const said = this.#ends.map(end =>
      reason === undefined ? end.close().catch(() => undefined) : sayLast(end, { type: 'cut', reason }),
    )
    const ended = new AbortController()
    void Promise.all([...said, copied]).then(() => ended.abort())
    await sleep(this.#clock, RELAY_LINGER_MS, { signal: ended.signal }).catch(() => undefined) // All is said.
    for (const end of this.#ends) end.abort(new Error('the circuit is over'))
  }
}
