/**
 * A connection of the data plane as a `ByteStream`: one stream, one TLS socket, so what holds back a slow reader is TCP
 * itself, and nothing is shared with other streams.
 */
import type { TLSSocket } from 'node:tls'
import {
  abortable,
  type ByteStream,
  type Clock,
  concatBytes,
  drainedOrGone,
  messageOf,
  StreamError,
  withDeadline,
} from '#base'
import { PLANE_STREAM_BYTES_MAX } from '../limits.ts'
import type { Traffic } from '../life/connections.ts'
import type { NetSettings } from '../settings.ts'
import { streamQueue } from '../stream-queue.ts'
import { END_SEGMENT, segmentHeader, SegmentReader } from './segments.ts'

/**
 * Up to here copying header and bytes together is cheaper than a TLS record of its own for the header, which costs the
 * reader a wake-up too: a piece of 64 KiB with the headers before it is copied.
 */
const WHOLE_BYTES_MAX = 80 * 1024

export type PlaneStreamOptions = {
  /** After its handshake. It belongs to the stream from now on. */
  readonly socket: TLSSocket
  readonly peer: string
  readonly protocol: string
  /** Where bytes are counted. */
  readonly traffic?: Traffic
}

export type PlaneStreamSettings = Pick<NetSettings, 'closeTimeoutMs' | 'streamWriteBytes'>

export class PlaneStream implements ByteStream {
  readonly peer: string
  readonly protocol: string
  readonly received: AsyncIterable<Uint8Array>
  readonly #clock: Clock
  readonly #settings: PlaneStreamSettings
  readonly #socket: TLSSocket
  readonly #traffic: Traffic | undefined
  readonly #segments = new SegmentReader()
  readonly #queue = streamQueue(() => this.#socket.resume())
  readonly #toQueue = (bytes: Uint8Array): void => this.#queue.push(bytes)
  readonly #gone = Promise.withResolvers<void>()
  #sentBytes = 0
  #hasClosed = false

  constructor(
    deps: { readonly clock: Clock; readonly settings: PlaneStreamSettings },
    { socket, peer, protocol, traffic }: PlaneStreamOptions,
  ) {
    this.#clock = deps.clock
    this.#settings = deps.settings
    this.#socket = socket
    this.#traffic = traffic
    this.peer = peer
    this.protocol = protocol
    this.received = this.#queue.received
    socket.on('data', (bytes: Uint8Array) => this.#onData(bytes))
    socket.on('end', () => this.#onEnd())
    socket.on('error', error => this.#queue.finish(resetBy(error)))
    socket.on('close', () => {
      this.#queue.finish(resetBy(undefined))
      this.#gone.resolve()
    })
  }

  /** Resolves when the socket is gone. */
  get gone(): Promise<void> {
    return this.#gone.promise
  }

  send(bytes: Uint8Array): boolean {
    this.#assertWritable(bytes.byteLength)
    if (bytes.byteLength === 0) return true
    const header = segmentHeader(bytes.byteLength)
    if (bytes.byteLength <= WHOLE_BYTES_MAX) return this.#socket.write(concatBytes([header, bytes]))
    this.#socket.write(header)
    return this.#socket.write(bytes)
  }

  sendParts(parts: readonly Uint8Array[], onTaken?: () => void): boolean {
    const byteLength = parts.reduce((sum, part) => sum + part.byteLength, 0)
    this.#assertWritable(byteLength)
    if (byteLength === 0) return true
    const header = segmentHeader(byteLength)
    const [first = header, ...rest] = parts
    if (byteLength <= WHOLE_BYTES_MAX) {
      const hasRoom = this.#socket.write(concatBytes([header, ...parts]))
      onTaken?.()
      return hasRoom
    }
    // What stands before large parts is small itself.
    const begun = first.byteLength <= WHOLE_BYTES_MAX ? [concatBytes([header, first])] : [header, first]
    const last = rest.pop() ?? begun.pop() ?? header
    for (const part of [...begun, ...rest]) this.#socket.write(part)
    // TLS has encrypted it by then, into memory of its own.
    return onTaken === undefined ? this.#socket.write(last) : this.#socket.write(last, onTaken)
  }

  async drained(): Promise<void> {
    const socket = this.#socket
    await drainedOrGone(socket)
    if (socket.destroyed && !this.#hasClosed) throw this.#queue.end?.error ?? resetBy(undefined)
  }

  async close(): Promise<void> {
    if (this.#hasClosed) return
    this.#hasClosed = true
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const socket = this.#socket
    socket.once('close', () => reject(new Error('the connection is gone')))
    socket.write(END_SEGMENT, () => resolve())
    const options = { what: 'closing a stream', timeoutMs: this.#settings.closeTimeoutMs }
    try {
      await withDeadline(this.#clock, options, signal => abortable(promise, signal))
    } catch (error) {
      // Not delivered, so the other side must not take what it has for the whole.
      this.abort(error instanceof Error ? error : new Error(messageOf(error)))
      throw resetBy(error)
    }
    this.#hangUpIfDone()
  }

  abort(error: Error): void {
    this.#queue.clear()
    this.#queue.finish(resetBy(error))
    this.#socket.destroy()
  }

  #assertWritable(byteLength: number): void {
    if (this.#hasClosed) throw new StreamError({ code: 'STREAM_CLOSED' }, 'the stream is closed')
    // The other direction may have come to a good end, and then has no error.
    if (this.#socket.destroyed || !this.#socket.writable) throw this.#queue.end?.error ?? resetBy(undefined)
    this.#sentBytes += byteLength
    if (this.#traffic !== undefined) this.#traffic.bytesOut += byteLength
    const isWorn = this.#sentBytes > PLANE_STREAM_BYTES_MAX
    if (!isWorn && this.#socket.writableLength <= this.#settings.streamWriteBytes) return
    const why = new Error(isWorn ? 'the key of the connection is worn out' : 'the other side does not read')
    this.abort(why)
    throw resetBy(why)
  }

  #onData(bytes: Uint8Array): void {
    if (this.#traffic !== undefined) this.#traffic.bytesIn += bytes.byteLength
    if (!this.#segments.push(bytes, this.#toQueue)) {
      this.abort(new Error('bytes came behind the end of the stream'))
      return
    }
    if (this.#segments.hasEnded) {
      this.#queue.finish()
      this.#hangUpIfDone()
    } else if (this.#queue.isFull) {
      this.#socket.pause()
    }
  }

  #onEnd(): void {
    if (!this.#segments.hasEnded) this.abort(new Error('the connection was cut'))
  }

  /** The socket stays as long as either side may say more. */
  #hangUpIfDone(): void {
    if (this.#hasClosed && this.#segments.hasEnded) this.#socket.destroySoon()
  }
}

function resetBy(cause: unknown): StreamError {
  return new StreamError({ code: 'STREAM_RESET' }, 'the stream was reset', { cause })
}
