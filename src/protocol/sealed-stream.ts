/**
 * A stream between two nodes inside their session: what `send` is given leaves as sealed frames, what arrives is opened.
 * Services see a `ByteStream` and need not know.
 *
 * The side that opens the stream sends an opening frame at once, which says the channel's number and the protocol; the
 * other side has the stream once that frame has arrived and holds. Each direction ends with an empty frame: a stream that
 * ends without one was cut by somebody in between, and its reader is told so.
 */
import { type ByteStream, type Clock, concatBytes, StreamError, withDeadline } from '#base'
import { type Frame, FRAME_TYPES, type FrameFault, FrameReader, SEALED_BYTES_MAX } from '#wire'
import { SEALED_OPEN_MS_MAX, SEALED_OPENING_BYTES_MAX, SEALED_PART_BYTES_MAX } from './limits.ts'
import { openingOf, type SealedChannel } from './sealed-channel.ts'
import type { SecureSession } from './secure-session.ts'
import type { SessionFault } from './types.ts'

export type SealedStreamOptions = {
  /** The stream that carries the frames. It belongs to the sealed stream from now on. */
  readonly stream: ByteStream
  readonly session: SecureSession
  /** Told once, before the stream is reset: what the other side, or somebody between, has done. */
  readonly onFault: (fault: SessionFault) => void
}

const END = new Uint8Array(0)
/** Up to here copying header and ciphertext together is cheaper than handing them over apart. */
const WHOLE_BYTES_MAX = 32 * 1024

/** Opens a channel for a stream that this side has opened. @throws SessionError, or StreamError as `send` does */
export function openSealedStream(options: SealedStreamOptions): ByteStream {
  const channel = options.session.openChannel()
  const frames = new SealedFrames(options.stream, SEALED_BYTES_MAX)
  try {
    options.stream.send(channel.seal(openingOf(options.stream.protocol)))
  } catch (error) {
    channel.close()
    throw error
  }
  return new SealedStream({ channel, frames, ...options })
}

/**
 * Waits for the opening frame of a stream that the other side has opened.
 * @throws StreamError where the stream ends or brings anything else, TimeoutError; the stream is reset then
 */
export async function acceptSealedStream(
  deps: { readonly clock: Clock },
  options: SealedStreamOptions & { readonly signal?: AbortSignal },
): Promise<ByteStream> {
  const { stream, session, onFault, signal } = options
  const frames = new SealedFrames(stream, SEALED_OPENING_BYTES_MAX)
  const deadline = { what: 'the opening of a stream', timeoutMs: SEALED_OPEN_MS_MAX }
  try {
    const first = await withDeadline(deps.clock, signal === undefined ? deadline : { ...deadline, signal }, () =>
      frames.first(),
    )
    if (first === undefined) throw truncated()
    const accepted = 'code' in first ? faultOf(first) : session.acceptChannel(first, stream.protocol)
    if ('reason' in accepted) {
      onFault(accepted)
      throw tampered(accepted)
    }
    frames.setMax(SEALED_BYTES_MAX)
    return new SealedStream({ channel: accepted, frames, ...options })
  } catch (error) {
    stream.abort(error instanceof Error ? error : tampered(undefined))
    throw error
  }
}

/** The frames of a stream, as its pieces complete them. */
class SealedFrames {
  readonly #pieces: AsyncIterator<Uint8Array>
  readonly #reader: FrameReader
  #frames: Iterator<Frame | FrameFault, void> = [].values()

  constructor(stream: ByteStream, maxBytes: number) {
    this.#pieces = stream.received[Symbol.asyncIterator]()
    this.#reader = new FrameReader(limitOf(maxBytes), { scatters: true })
  }

  /** How long a payload may be, from the next frame on. */
  setMax(bytes: number): void {
    this.#reader.setLimit(limitOf(bytes))
  }

  /** A frame that has arrived already. */
  take(): Frame | FrameFault | undefined {
    const next = this.#frames.next()
    return next.done === true ? undefined : next.value
  }

  /** Waits for the stream's next piece. False: it has ended. Rejects as the stream does. */
  async more(): Promise<boolean> {
    const piece = await this.#pieces.next()
    if (piece.done === true) return false
    this.#frames = this.#reader.push(piece.value)
    return true
  }

  /** Undefined: the stream has ended. */
  async first(): Promise<Frame | FrameFault | undefined> {
    while (await this.more()) {
      const frame = this.take()
      if (frame !== undefined) return frame
    }
    return undefined
  }
}

class SealedStream implements ByteStream {
  readonly peer: string
  readonly protocol: string
  readonly received: AsyncIterable<Uint8Array>
  readonly #stream: ByteStream
  readonly #channel: SealedChannel
  readonly #frames: SealedFrames
  readonly #onFault: (fault: SessionFault) => void
  #hasClosed = false
  #isReading = false
  #isBeginning = false
  /** Whether something has come since we sent last. */
  #isAnswered = false
  /** Of a frame that came in pieces: those that were not read yet. */
  #opened: readonly Uint8Array[] = []
  #openedNext = 0
  /** Set once nothing more will be read. */
  #end: { readonly error?: Error } | undefined

  constructor(options: SealedStreamOptions & { readonly channel: SealedChannel; readonly frames: SealedFrames }) {
    this.#stream = options.stream
    this.#channel = options.channel
    this.#frames = options.frames
    this.#onFault = options.onFault
    this.peer = options.stream.peer
    this.protocol = options.stream.protocol
    this.received = { [Symbol.asyncIterator]: () => ({ next: () => this.#next() }) }
  }

  send(bytes: Uint8Array): boolean {
    if (this.#end?.error !== undefined) throw this.#end.error
    if (this.#hasClosed) throw new StreamError({ code: 'STREAM_CLOSED' }, 'the stream is closed')
    if (bytes.byteLength === 0) return true
    if (bytes.byteLength <= WHOLE_BYTES_MAX) {
      const hasRoom = this.#stream.send(this.#seal(bytes))
      // Where frames are answered the next one is begun as the answer comes.
      if (!this.#isAnswered) this.#beginNextSoon()
      this.#isAnswered = false
      return hasRoom
    }
    let hasRoom = true
    for (let offset = 0; offset < bytes.byteLength; offset += SEALED_PART_BYTES_MAX) {
      hasRoom = this.#sendLarge(bytes.subarray(offset, offset + SEALED_PART_BYTES_MAX))
    }
    return hasRoom
  }

  sendParts(parts: readonly Uint8Array[]): boolean {
    const byteLength = parts.reduce((sum, part) => sum + part.byteLength, 0)
    if (byteLength <= WHOLE_BYTES_MAX) return this.send(concatBytes(parts))
    // A stream has no seams: a frame more costs less than a copy.
    return parts.map(part => this.send(part)).at(-1) ?? true
  }

  /**
   * A stage's step comes when the code around it has gone cold: making a cipher and a header takes ten times as long then
   * as now. Once this turn's work is done nobody waits for it: an engine computes, or a packet is on its way. After a frame
   * has come rather than after one has gone, because then the other side has work to do, and may share this processor.
   */
  #beginNextSoon(): void {
    if (this.#isBeginning) return
    this.#isBeginning = true
    setImmediate(() => {
      this.#isBeginning = false
      this.#channel.beginNext()
    })
  }

  #sendLarge(bytes: Uint8Array): boolean {
    try {
      return this.#stream.sendParts(this.#channel.sealInParts(bytes))
    } catch (error) {
      throw reset(error)
    }
  }

  drained(): Promise<void> {
    return this.#stream.drained()
  }

  async close(): Promise<void> {
    if (this.#hasClosed) return
    this.#hasClosed = true
    try {
      this.#stream.send(this.#seal(END))
      await this.#stream.close()
    } catch (error) {
      // Not delivered, so the other side must not take what it has for the whole.
      this.abort(error instanceof Error ? error : reset(error))
      throw error
    }
    this.#closeChannelIfDone()
  }

  abort(error: Error): void {
    this.#hasClosed = true
    this.#finish(reset(error))
    this.#stream.abort(error)
  }

  #seal(bytes: Uint8Array): Uint8Array {
    try {
      return this.#channel.seal(bytes)
    } catch (error) {
      throw reset(error)
    }
  }

  /** What has arrived already costs no turn of the event loop. */
  #next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const value = this.#opened[this.#openedNext]
    if (value !== undefined && this.#end === undefined) {
      this.#openedNext++
      return Promise.resolve({ done: false, value })
    }
    const frame = this.#end === undefined ? this.#frames.take() : undefined
    if (frame === undefined) return this.#read()
    try {
      return Promise.resolve(this.#open(frame))
    } catch (error) {
      return Promise.reject(error)
    }
  }

  async #read(): Promise<IteratorResult<Uint8Array, undefined>> {
    if (this.#isReading) throw new TypeError('a stream has one reader')
    this.#isReading = true
    try {
      while (this.#end === undefined) {
        if (!(await this.#frames.more())) this.#fail(truncated())
        const frame = this.#end === undefined ? this.#frames.take() : undefined
        if (frame !== undefined) return this.#open(frame)
      }
    } catch (error) {
      this.#finish(error instanceof Error ? error : reset(error))
    } finally {
      this.#isReading = false
    }
    if (this.#end?.error !== undefined) throw this.#end.error
    return { done: true, value: undefined }
  }

  #open(frame: Frame | FrameFault): IteratorResult<Uint8Array, undefined> {
    const opened = 'code' in frame ? faultOf(frame) : this.#channel.openInParts(frame)
    if (!('reason' in opened)) {
      const [value] = opened
      this.#opened = opened
      this.#openedNext = 1
      this.#isAnswered = true
      this.#beginNextSoon()
      if (value !== undefined && value.byteLength > 0) return { done: false, value }
      this.#finish(undefined)
      return { done: true, value: undefined }
    }
    // A channel that was closed under the stream has no keys to say more: that is nobody's fault.
    if (this.#channel.isClosed) throw this.#fail(reset(undefined))
    this.#onFault(opened)
    throw this.#fail(tampered(opened))
  }

  #fail(error: StreamError): StreamError {
    this.#finish(error)
    this.#stream.abort(error)
    return error
  }

  #finish(error: Error | undefined): void {
    this.#end ??= error === undefined ? {} : { error }
    if (this.#end.error === undefined) this.#closeChannelIfDone()
    else this.#channel.close()
  }

  /** Both directions have said their last. */
  #closeChannelIfDone(): void {
    if (this.#hasClosed && this.#end !== undefined) this.#channel.close()
  }
}

/** What may come on a sealed stream: sealed data, and nothing else. */
function limitOf(maxBytes: number) {
  return (type: number, isSealed: boolean): number | undefined =>
    isSealed && type === FRAME_TYPES.data ? maxBytes : undefined
}

function faultOf({ code }: FrameFault): SessionFault {
  return { reason: 'malformed', what: `bytes that are no sealed frame: ${code}`, isHostile: true }
}

function truncated(): StreamError {
  return new StreamError({ code: 'STREAM_TRUNCATED' }, 'the stream ended before all of it had come')
}

function tampered(cause: SessionFault | undefined): StreamError {
  const why = cause === undefined ? 'its frames do not hold' : cause.what
  return new StreamError({ code: 'STREAM_TAMPERED' }, `the stream is not what the peer sent: ${why}`)
}

function reset(cause: unknown): StreamError {
  return new StreamError({ code: 'STREAM_RESET' }, 'the stream was reset', { cause })
}
