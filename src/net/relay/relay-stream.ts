/** A stream of the relay protocol: messages at first, bytes of a circuit once it stands. */
import { type ByteStream, type Clock, StreamError, withDeadline } from '#base'
import {
  encodeRelayMessage,
  relayDataHead,
  type RelayFrame,
  type RelayFrameFault,
  RelayFrameReader,
  type RelayMessage,
} from '#wire'
import { RELAY_ANSWER_TIMEOUT_MS, RELAY_LINGER_MS } from './limits.ts'

/** The other side does not keep to the protocol. */
export type RelayProtocolFault = RelayFrameFault | { readonly code: 'WIRE_RELAY_ORDER' }

export class RelayStream {
  readonly peer: string
  readonly #stream: ByteStream
  readonly #pieces: AsyncIterator<Uint8Array>
  readonly #reader = new RelayFrameReader()
  #frames: readonly RelayFrame[] = []
  #next = 0

  constructor(stream: ByteStream) {
    this.#stream = stream
    this.peer = stream.peer
    this.#pieces = stream.received[Symbol.asyncIterator]()
  }

  /** The next frame; undefined once the other side has ended. One reader. @throws StreamError on a reset */
  async next(): Promise<RelayFrame | RelayFrameFault | undefined> {
    for (;;) {
      const frame = this.#frames[this.#next]
      if (frame !== undefined) {
        this.#next++
        return frame
      }
      const piece = await this.#pieces.next()
      if (piece.done === true) return undefined
      const frames = this.#reader.push(piece.value)
      if ('code' in frames) return frames
      this.#frames = frames
      this.#next = 0
    }
  }

  /** The next message, where nothing else may come now. Undefined: the other side has ended. */
  async message(): Promise<RelayMessage | RelayProtocolFault | undefined> {
    const frame = await this.next()
    if (frame === undefined || 'code' in frame) return frame
    return frame.kind === 'message' ? frame.message : { code: 'WIRE_RELAY_ORDER' }
  }

  /** The answer to what we have just said. @throws TimeoutError, the signal's reason, or StreamError */
  async answer(
    clock: Clock,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<RelayMessage | RelayProtocolFault> {
    const deadline = { what: 'an answer about a relay', timeoutMs: RELAY_ANSWER_TIMEOUT_MS, ...options }
    const message = await withDeadline(clock, deadline, () => this.message())
    if (message === undefined) throw new StreamError({ code: 'STREAM_RESET' }, 'the other side ended without an answer')
    return message
  }

  /** @throws StreamError where the stream has ended */
  say(message: RelayMessage): void {
    this.#stream.send(encodeRelayMessage(message))
  }

  /** Bytes of the circuit. False: wait for `drained()`. @throws StreamError where the stream has ended */
  send(bytes: Uint8Array): boolean {
    return this.#stream.sendParts([relayDataHead(bytes.byteLength), bytes])
  }

  drained(): Promise<void> {
    return this.#stream.drained()
  }

  close(): Promise<void> {
    return this.#stream.close()
  }

  abort(error: Error): void {
    this.#stream.abort(error)
  }
}

/** Says a last message and ends the stream. Never rejects: who does not hear it has gone. */
export async function sayLast(stream: RelayStream, message: RelayMessage): Promise<void> {
  try {
    stream.say(message)
    await stream.close()
  } catch {
    stream.abort(new Error('the stream ended before its last message'))
  }
}

/** Says a last message, gives the other side a moment to hear it and to end too, and lets go of the stream. Never rejects. */
export async function endWith(clock: Clock, stream: RelayStream, message: RelayMessage): Promise<void> {
  await sayLast(stream, message)
  const deadline = { what: 'the end of a stream', timeoutMs: RELAY_LINGER_MS }
  const ended = async (): Promise<void> => {
    for (let frame = await stream.next(); frame !== undefined && !('code' in frame); ) frame = await stream.next()
  }
  await withDeadline(clock, deadline, ended).catch(() => undefined) // Whether it heard makes no difference any more.
  stream.abort(new Error('all has been said'))
}
