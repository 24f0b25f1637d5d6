/** One end of a circuit as bytes both ways, of which a connection is made. One circuit carries one connection. */
import type { OwnCircuit, RelayCut } from '#wire'
import type { BytePipe } from '../adopt.ts'
import { NetError } from '../errors.ts'
import type { RelayStream } from './relay-stream.ts'

export type CircuitPipeOptions = {
  readonly stream: RelayStream
  readonly peer: string
  readonly direction: 'inbound' | 'outbound'
  /** Called once. The error is the relay's reason, where it ended the circuit. */
  readonly onOver: (error: NetError | undefined) => void
}

export class CircuitPipe implements BytePipe {
  readonly received: AsyncIterable<Uint8Array>
  readonly #options: CircuitPipeOptions
  #bytesIn = 0
  #bytesOut = 0
  #isOver = false

  constructor(options: CircuitPipeOptions) {
    this.#options = options
    this.received = this.#receive()
  }

  get facts(): OwnCircuit {
    const { stream, peer, direction } = this.#options
    return { peer, relay: stream.peer, direction, bytesIn: this.#bytesIn, bytesOut: this.#bytesOut }
  }

  send(bytes: Uint8Array): boolean {
    if (bytes.byteLength === 0) return true
    this.#bytesOut += bytes.byteLength
    return this.#options.stream.send(bytes)
  }

  drained(): Promise<void> {
    return this.#options.stream.drained()
  }

  async close(): Promise<void> {
    await this.#options.stream.close()
  }

  abort(error: Error): void {
    this.#options.stream.abort(error)
    this.#over(undefined)
  }

  async *#receive(): AsyncGenerator<Uint8Array, void, undefined> {
    const { stream } = this.#options
    try {
      for (;;) {
        const frame = await stream.next()
        if (frame === undefined) break
        if ('code' in frame) throw this.#cut('malformed')
        if (frame.kind === 'message') throw this.#cut(frame.message.type === 'cut' ? frame.message.reason : 'malformed')
        this.#bytesIn += frame.bytes.byteLength
        yield frame.bytes
      }
      this.#over(undefined)
      // One end that has ended ends all.
      await stream.close()
    } catch (error) {
      const why = error instanceof NetError ? error : this.#cut('lost', error)
      this.#over(why)
      stream.abort(why)
      throw why
    }
  }

  #cut(reason: RelayCut, cause?: unknown): NetError {
    const { stream, peer } = this.#options
    const fault = { code: 'NET_RELAY_CUT', relay: stream.peer, peer, reason } as const
    return new NetError(fault, `the relay ended the circuit: ${CUTS[reason]}`, { cause })
  }

  #over(error: NetError | undefined): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#options.onOver(error)
  }
}

const CUTS: Readonly<Record<RelayCut, string>> = {
  bytes: 'it has carried as many bytes as it may',
  duration: 'it has stood as long as it may',
  lost: 'the other end, or the relay itself, is gone',
  malformed: 'bytes that are not of the protocol',
  stopping: 'the relay is going away',
}
