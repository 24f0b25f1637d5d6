/**
 * A two-way byte stream between two nodes, as services see it. `net` makes them from libp2p streams; tests make them in
 * pairs in memory. Frames are the business of `wire`.
 */
import { concatBytes } from './bytes.ts'
import { KoinonError } from './errors.ts'
import { BoundedQueue } from './queue.ts'

export interface ByteStream {
  /** The authenticated peer at the other end (libp2p peer id, base58 text). */
  readonly peer: string
  /** The protocol that was negotiated. */
  readonly protocol: string
  /**
   * Queues bytes. False: the buffer is full, wait for `drained()` before sending more. Throws once closed. The bytes belong
   * to the stream from then on, and nobody may change them: they are not copied, and may have to be sent again.
   */
  send(bytes: Uint8Array): boolean
  /**
   * The same for bytes that lie apart, as one write: what carries the stream need not join them.
   *
   * @param onTaken called once the stream needs the bytes no more, so that their memory may be used again; never, where it
   * cannot know
   */
  sendParts(parts: readonly Uint8Array[], onTaken?: () => void): boolean
  /** Resolves when there is room again; rejects when the stream has ended. */
  drained(): Promise<void>
  /** What the other side sends, in order, in pieces of any size. One reader. Throws on a reset. */
  readonly received: AsyncIterable<Uint8Array>
  /** Ends our direction after what was queued; the other direction stays open. */
  close(): Promise<void>
  /** Ends both directions now. The other side's reader throws. */
  abort(error: Error): void
}

export type StreamFault =
  | { readonly code: 'STREAM_CLOSED' }
  | { readonly code: 'STREAM_RESET' }
  /** A sealed stream ended before its sender had said that it would: something is missing. */
  | { readonly code: 'STREAM_TRUNCATED' }
  /** A sealed stream brought bytes that its sender has not sent, or not there. */
  | { readonly code: 'STREAM_TAMPERED' }
  /** What carried the stream broke, and no other way to the peer was found in time, or the peer has forgotten it. */
  | { readonly code: 'STREAM_LOST' }

export class StreamError extends KoinonError<StreamFault> {
  override readonly name = 'StreamError'
}

/** How many pieces an in-memory stream holds before `send` says that it is full. */
const PAIR_PIECES_MAX = 4096

type End = { peer: string; incoming: BoundedQueue<Uint8Array>; isClosed: boolean }

/** Two connected in-memory streams: `[a's end, b's end]`. What a sends, b receives. For tests and for a node's hop to itself. */
export function createStreamPair(
  protocol: string,
  peers: { readonly a: string; readonly b: string },
): [ByteStream, ByteStream] {
  const a: End = { peer: peers.b, incoming: new BoundedQueue(PAIR_PIECES_MAX), isClosed: false }
  const b: End = { peer: peers.a, incoming: new BoundedQueue(PAIR_PIECES_MAX), isClosed: false }
  const push = (here: End, there: End, bytes: Uint8Array): true => {
    if (here.isClosed) throw new StreamError({ code: 'STREAM_CLOSED' }, 'the stream is closed')
    if (!there.incoming.push(bytes)) {
      throw new StreamError({ code: 'STREAM_RESET' }, 'the other side does not read')
    }
    return true
  }
  const make = (here: End, there: End): ByteStream => ({
    peer: here.peer,
    protocol,
    send: bytes => push(here, there, bytes),
    sendParts: parts => push(here, there, concatBytes(parts)),
    drained: () => Promise.resolve(),
    received: here.incoming,
    close: () => {
      here.isClosed = true
      there.incoming.end()
      return Promise.resolve()
    },
    abort: error => {
      for (const end of [here, there]) {
        end.isClosed = true
        end.incoming.end(new StreamError({ code: 'STREAM_RESET' }, 'the stream was reset', { cause: error }))
      }
    },
  })
  return [make(a, b), make(b, a)]
}
