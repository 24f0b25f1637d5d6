/** A TCP socket as a pipe of bytes: what holds back a slow reader is TCP itself. */
import type { Socket } from 'node:net'
import { abortable, type Clock, drainedOrGone, ReceiveQueue, StreamError, withDeadline } from '#base'
import type { BytePipe } from '../wire/types.ts'
import { CLOSE_TIMEOUT_MS, READ_AHEAD_BYTES, READ_AHEAD_PIECES } from './limits.ts'

const READ_LIMITS = { bytesMax: READ_AHEAD_BYTES, piecesMax: READ_AHEAD_PIECES }

/** @param socket connected; it belongs to the pipe from now on */
export function createSocketPipe(clock: Clock, socket: Socket): BytePipe {
  return new SocketPipe(clock, socket)
}

class SocketPipe implements BytePipe {
  readonly received: AsyncIterable<Uint8Array>
  readonly #clock: Clock
  readonly #socket: Socket
  readonly #queue = new ReceiveQueue(READ_LIMITS, () => {
    if (this.#socket.isPaused()) this.#socket.resume()
  })
  #hasClosed = false

  constructor(clock: Clock, socket: Socket) {
    this.#clock = clock
    this.#socket = socket
    this.received = this.#queue.received
    socket.on('data', (bytes: Buffer) => this.#onData(bytes))
    socket.on('end', () => this.#queue.finish())
    socket.on('error', error => this.#queue.finish(reset(error)))
    socket.on('close', () => this.#queue.finish(reset(undefined)))
  }

  send(bytes: Uint8Array): boolean {
    return this.sendParts([bytes])
  }

  sendParts(parts: readonly Uint8Array[], onTaken?: () => void): boolean {
    const socket = this.#socket
    if (this.#hasClosed || !socket.writable) throw new StreamError({ code: 'STREAM_CLOSED' }, 'the stream is closed')
    let hasRoom = true
    socket.cork() // One system call for all parts.
    for (const [index, part] of parts.entries()) {
      const isLast = index === parts.length - 1 && onTaken !== undefined
      hasRoom = isLast ? socket.write(part, onTaken) : socket.write(part)
    }
    socket.uncork()
    return hasRoom
  }

  async drained(): Promise<void> {
    const socket = this.#socket
    await drainedOrGone(socket)
    if (socket.destroyed && !this.#hasClosed) throw this.#queue.end?.error ?? reset(undefined)
  }

  async close(): Promise<void> {
    if (this.#hasClosed) return
    this.#hasClosed = true
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#socket.once('close', resolve)
    this.#socket.end(resolve)
    const options = { what: 'closing a connection', timeoutMs: CLOSE_TIMEOUT_MS }
    try {
      await withDeadline(this.#clock, options, signal => abortable(promise, signal))
    } catch (error) {
      this.#socket.destroy()
      throw reset(error)
    }
  }

  abort(): void {
    this.#queue.clear()
    this.#queue.finish(reset(undefined))
    this.#socket.destroy()
  }

  #onData(bytes: Buffer): void {
    this.#queue.push(bytes)
    if (this.#queue.isFull) this.#socket.pause()
  }
}

function reset(cause: unknown): StreamError {
  return new StreamError({ code: 'STREAM_RESET' }, 'the connection was reset', { cause })
}
