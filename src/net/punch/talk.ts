/** The messages of one punch over its stream: one at a time, each awaited with a bound, none that was not asked for kept. */
import { type ByteStream, type Clock, TimeoutError, withDeadline } from '#base'
import {
  decodePunchMessage,
  encodePunchMessage,
  LengthPrefixReader,
  PUNCH_MESSAGE_BYTES_MAX,
  type PunchMessage,
  withLengthPrefix,
} from '#wire'
import { type NetError, punchFailed, type PunchFailure } from '../errors.ts'
import { PUNCH_MESSAGE_MS_MAX, PUNCH_MESSAGES_WAITING_MAX } from '../limits.ts'

type MessageType = PunchMessage['type']
type MessageOf<T extends MessageType> = Extract<PunchMessage, { type: T }>

export type WaitOptions = { readonly timeoutMs?: number; readonly signal?: AbortSignal }

export class PunchTalk {
  readonly peer: string
  readonly #clock: Clock
  readonly #stream: ByteStream
  readonly #pieces: AsyncIterator<Uint8Array>
  readonly #reader = new LengthPrefixReader(PUNCH_MESSAGE_BYTES_MAX)
  readonly #waiting: PunchMessage[] = []
  /** A read that a wait has begun and not seen the end of. */
  #reading: Promise<IteratorResult<Uint8Array>> | undefined

  constructor(deps: { readonly clock: Clock }, stream: ByteStream) {
    this.#clock = deps.clock
    this.#stream = stream
    this.peer = stream.peer
    this.#pieces = stream.received[Symbol.asyncIterator]()
  }

  /** @throws StreamError where the stream has ended */
  send(message: PunchMessage): void {
    this.#stream.send(withLengthPrefix(encodePunchMessage(message)))
  }

  /** The next message, which must be of one of these types. @throws NetError NET_PUNCH_FAILED; the signal's reason */
  async next<T extends MessageType>(types: readonly T[], options: WaitOptions = {}): Promise<MessageOf<T>> {
    const { timeoutMs = PUNCH_MESSAGE_MS_MAX, ...cancel } = options
    try {
      const message = await withDeadline(this.#clock, { what: 'a message', timeoutMs, ...cancel }, signal =>
        this.#next(signal),
      )
      if (isOf(message, types)) return message
    } catch (error) {
      if (cancel.signal?.aborted === true) throw error
      if (error instanceof TimeoutError) throw this.failure('silent')
      throw error
    }
    throw this.failure('malformed')
  }

  failure(reason: PunchFailure): NetError {
    return punchFailed(this.peer, reason)
  }

  /** Ends both directions. */
  abort(error: Error): void {
    this.#stream.abort(error)
  }

  /** Says that nothing more comes. */
  async close(): Promise<void> {
    await this.#stream.close()
  }

  /** Resolves when the other side says nothing more, whatever it says until then. Never rejects. */
  async ended(options: { readonly timeoutMs: number }): Promise<void> {
    const drain = async (): Promise<void> => {
      while ((await this.#read()).done !== true) continue
    }
    const deadline = { what: 'the end', timeoutMs: options.timeoutMs }
    await withDeadline(this.#clock, deadline, drain).catch(() => undefined) // Late or reset: over, either way.
  }

  async #next(signal: AbortSignal): Promise<PunchMessage> {
    for (;;) {
      const message = this.#waiting.shift()
      if (message !== undefined) return message
      signal.throwIfAborted()
      const { done, value } = await this.#read()
      if (done === true) throw this.failure('silent')
      const bodies = this.#reader.push(value)
      if ('code' in bodies || bodies.length > PUNCH_MESSAGES_WAITING_MAX) throw this.failure('malformed')
      for (const body of bodies) {
        const decoded = decodePunchMessage(body)
        if ('code' in decoded) throw this.failure('malformed')
        this.#waiting.push(decoded)
      }
    }
  }

  async #read(): Promise<IteratorResult<Uint8Array>> {
    this.#reading ??= this.#pieces.next()
    const read = await this.#reading
    this.#reading = undefined
    return read
  }
}

function isOf<T extends MessageType>(message: PunchMessage, types: readonly T[]): message is MessageOf<T> {
  return (types as readonly MessageType[]).includes(message.type)
}
