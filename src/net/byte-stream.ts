/**
 * A libp2p stream as a `ByteStream`. libp2p pushes what it receives and tells the peer to send more whether or not
 * anybody reads, so this holds a bounded queue and pauses the stream when the reader is slow: then the peer's Yamux
 * window runs out, its writer sees a full buffer, and nobody's memory grows.
 */
import type { Stream, StreamCloseEvent, StreamMessageEvent } from '@libp2p/interface'
import { Uint8ArrayList } from 'uint8arraylist'
import { abortable, type ByteStream, type Clock, messageOf, StreamError, withDeadline } from '#base'
import { CLOSE_TIMEOUT_MS } from './limits.ts'
import type { Traffic } from './life/connections.ts'
import type { NetSettings } from './settings.ts'
import { streamQueue } from './stream-queue.ts'
import { grantWindowByHalves } from './thrift.ts'

/** Bytes that are sent belong to the stream from then on: they are not copied. */
export class NetStream implements ByteStream {
  readonly peer: string
  readonly protocol: string
  readonly received: AsyncIterable<Uint8Array>
  readonly #stream: Stream
  readonly #clock: Clock
  readonly #traffic: Traffic | undefined
  readonly #closeTimeoutMs: number
  readonly #queue = streamQueue(() => this.#resume())
  #isResuming = false
  #hasRemoteClosed = false
  #hasClosed = false

  /** @param deps.settings @default the close timeout of `limits.ts` @param options.traffic where bytes are counted */
  constructor(
    deps: { readonly clock: Clock; readonly settings?: Pick<NetSettings, 'closeTimeoutMs'> },
    options: { readonly stream: Stream; readonly peer: string; readonly traffic?: Traffic },
  ) {
    const { stream, peer, traffic } = options
    this.#traffic = traffic
    this.#clock = deps.clock
    this.#closeTimeoutMs = deps.settings?.closeTimeoutMs ?? CLOSE_TIMEOUT_MS
    this.#stream = stream
    grantWindowByHalves(stream)
    this.peer = peer
    this.protocol = stream.protocol
    this.received = this.#queue.received
    stream.addEventListener('remoteCloseWrite', () => {
      this.#hasRemoteClosed = true
    })
    stream.addEventListener('end', () => {
      if (this.#hasRemoteClosed) this.#queue.finish()
    })
    stream.addEventListener('close', event => this.#onClose(event))
    stream.addEventListener('message', event => this.#onMessage(event))
    // The peer may have said all it had to say while the protocol was negotiated: those events are over.
    if (stream.status !== 'open') this.#queue.finish(resetError(undefined))
    else if (stream.remoteWriteStatus === 'closed') {
      this.#hasRemoteClosed = true
      if (stream.readableEnded) this.#queue.finish()
    }
  }

  send(bytes: Uint8Array): boolean {
    return this.#send(bytes)
  }

  sendParts(parts: readonly Uint8Array[]): boolean {
    return this.#send(new Uint8ArrayList(...parts))
  }

  #send(bytes: Uint8Array | Uint8ArrayList): boolean {
    const stream = this.#stream
    if (this.#hasClosed) throw new StreamError({ code: 'STREAM_CLOSED' }, 'the stream is closed')
    if (stream.writeStatus !== 'writable') throw this.#queue.end?.error ?? resetError(undefined)
    if (this.#traffic !== undefined) this.#traffic.bytesOut += bytes.byteLength
    try {
      return stream.send(bytes) && stream.writeBufferLength === 0
    } catch (error) {
      throw resetError(error)
    }
  }

  async drained(): Promise<void> {
    const stream = this.#stream
    while (stream.writableNeedsDrain || stream.writeBufferLength > 0) {
      if (stream.writeStatus === 'closed') break
      const { promise, resolve } = Promise.withResolvers<void>()
      const settle = (): void => resolve()
      stream.addEventListener('drain', settle)
      stream.addEventListener('close', settle)
      try {
        await promise
      } finally {
        stream.removeEventListener('drain', settle)
        stream.removeEventListener('close', settle)
      }
      // libp2p sends what had waited in a microtask that was queued before this one: now look again.
    }
    if (stream.writeStatus === 'closed' && !this.#hasClosed) throw this.#queue.end?.error ?? resetError(undefined)
  }

  async close(): Promise<void> {
    if (this.#hasClosed) return
    this.#hasClosed = true
    const options = { what: 'closing a stream', timeoutMs: this.#closeTimeoutMs }
    try {
      await withDeadline(this.#clock, options, signal => abortable(this.#stream.close({ signal }), signal))
    } catch (error) {
      // Not delivered, so the other side must not take what it has for the whole.
      this.#stream.abort(error instanceof Error ? error : new Error(messageOf(error)))
      throw resetError(error)
    }
  }

  abort(error: Error): void {
    this.#queue.clear()
    this.#queue.finish(resetError(error))
    this.#stream.abort(error)
  }

  #onMessage(event: StreamMessageEvent): void {
    if (this.#queue.end !== undefined) return
    if (this.#traffic !== undefined) this.#traffic.bytesIn += event.data.byteLength
    if (event.data instanceof Uint8Array) this.#queue.push(event.data)
    else for (const piece of event.data) this.#queue.push(piece)
    this.#pauseIfFull()
  }

  /** A pause from inside `resume()` would be undone by its own last step, so that one waits until it has returned. */
  #pauseIfFull(): void {
    if (this.#queue.isFull && !this.#isResuming && this.#stream.readStatus === 'readable') this.#stream.pause()
  }

  #resume(): void {
    if (this.#stream.readStatus !== 'paused') return
    this.#isResuming = true
    try {
      this.#stream.resume()
    } catch {
      // What was buffered has been handed over by now; only the window update found the connection gone.
    } finally {
      this.#isResuming = false
    }
    this.#pauseIfFull()
  }

  #onClose(event: StreamCloseEvent): void {
    // A connection that is lost closes its streams without an error: only a close that the peer announced is an end.
    if (event.error !== undefined || !this.#hasRemoteClosed) this.#queue.finish(resetError(event.error))
    else if (this.#stream.readBufferLength === 0) this.#queue.finish()
  }
}

function resetError(cause: unknown): StreamError {
  return new StreamError({ code: 'STREAM_RESET' }, 'the stream was reset', { cause })
}
