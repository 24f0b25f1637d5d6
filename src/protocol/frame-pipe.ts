/** Frames over a byte stream, one at a time: what negotiation reads and writes before and in a session. */
import { type ByteStream, StreamError } from '#base'
import {
  CONTROL_BYTES_MAX,
  type Frame,
  FRAME_TYPES,
  type FrameFault,
  FrameReader,
  HANDSHAKE_BYTES_MAX,
  HELLO_FRAME_BYTES_MAX,
  type PayloadLimit,
  UNPROVEN_BYTES_MAX,
} from '#wire'

const BEFORE_SESSION: Readonly<Record<number, number>> = {
  [FRAME_TYPES.hello]: HELLO_FRAME_BYTES_MAX,
  [FRAME_TYPES.handshake]: HANDSHAKE_BYTES_MAX,
  [FRAME_TYPES.resume]: UNPROVEN_BYTES_MAX,
  [FRAME_TYPES.refuse]: UNPROVEN_BYTES_MAX,
}

/** What may come, and how long it may be, in each phase of a control stream. A sealed frame never may. */
export const PHASE_LIMITS = {
  negotiating: (type, isSealed) => (isSealed ? undefined : BEFORE_SESSION[type]),
  proving: (type, isSealed) =>
    !isSealed && (type === FRAME_TYPES.proof || type === FRAME_TYPES.refuse) ? UNPROVEN_BYTES_MAX : undefined,
  established: (type, isSealed) => (isSealed || type in BEFORE_SESSION_ONLY ? undefined : CONTROL_BYTES_MAX),
} as const satisfies Record<string, PayloadLimit>

const BEFORE_SESSION_ONLY: Readonly<Record<number, true>> = {
  [FRAME_TYPES.hello]: true,
  [FRAME_TYPES.handshake]: true,
  [FRAME_TYPES.resume]: true,
}

export class FramePipe {
  readonly peer: string
  readonly #stream: ByteStream
  readonly #pieces: AsyncIterator<Uint8Array>
  readonly #reader = new FrameReader(PHASE_LIMITS.negotiating)
  #frames: Iterator<Frame | FrameFault, void> = [].values()

  constructor(stream: ByteStream) {
    this.peer = stream.peer
    this.#stream = stream
    this.#pieces = stream.received[Symbol.asyncIterator]()
  }

  /** What may come from the next frame on. */
  setPhase(phase: keyof typeof PHASE_LIMITS): void {
    this.#reader.setLimit(PHASE_LIMITS[phase])
  }

  /** @returns whether there is room for more */
  send(frame: Uint8Array): boolean {
    return this.#stream.send(frame)
  }

  drained(): Promise<void> {
    return this.#stream.drained()
  }

  /** The next frame, or why the bytes are none. @throws StreamError when the stream has ended */
  async next(): Promise<Frame | FrameFault> {
    for (;;) {
      const next = this.#frames.next()
      if (next.done !== true) return next.value
      const piece = await this.#pieces.next()
      if (piece.done === true) throw new StreamError({ code: 'STREAM_CLOSED' }, 'the peer has ended the control stream')
      this.#frames = this.#reader.push(piece.value)
    }
  }

  close(): Promise<void> {
    return this.#stream.close()
  }

  abort(error: Error): void {
    this.#stream.abort(error)
  }
}
