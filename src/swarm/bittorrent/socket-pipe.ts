/** A TCP socket as a pipe of bytes: what holds back a slow reader is TCP itself. */
import type { Socket } from 'node:net'
import { abortable, type Clock, StreamError, withDeadline } from '#base'
import type { BytePipe } from '../wire/types.ts'
import { CLOSE_TIMEOUT_MS, READ_AHEAD_BYTES } from './limits.ts'

type Waiter = {
  readonly resolve: (result: IteratorResult<Uint8Array, undefined>) => void
  readonly reject: (error: Error) => void
}

/** @param socket connected; it belongs to the pipe from now on */
export function createSocketPipe(clock: Clock, socket: Socket): BytePipe {
  return new SocketPipe(clock, socket)
}

class SocketPipe implements BytePipe {
  readonly received: AsyncIterable<Uint8Array>
  readonly #clock: Clock
  readonly #socket: Socket
  readonly #pieces: Uint8Array[] = []
  #bytes = 0
  #waiter: Waiter | undefined
  #end: { readonly error?: StreamError } | undefined
  #hasClosed = false

  constructor(clock: Clock, socket: Socket) {
    this.#clock = clock
    this.#socket = socket
    this.received = { [Symbol.asyncIterator]: () => ({ next: () => this.#next() }) }
    socket.on('data', (bytes: Buffer) => this.#push(bytes))
    socket.on('end', () => this.#finish())
    socket.on('error', error => this.#finish(reset(error)))
    socket.on('close', () => this.#finish(reset(undefined)))
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
    if (socket.writableNeedDrain && !socket.destroyed) {
      const { promise, resolve } = Promise.withResolvers<void>()
      socket.once('drain', resolve)
      socket.once('close', resolve)
      await promise
      socket.off('drain', resolve)
      socket.off('close', resolve)
    }
    if (socket.destroyed && !this.#hasClosed) throw this.#end?.error ?? reset(undefined)
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
    this.#pieces.length = 0
    this.#bytes = 0
    this.#finish(reset(undefined))
    this.#socket.destroy()
  }

  #push(received: Buffer): void {
    if (this.#end !== undefined) return
    // A Buffer's slice() does not copy; who reads may rely on a Uint8Array's, which does.
    const piece = new Uint8Array(received.buffer, received.byteOffset, received.byteLength)
    const waiter = this.#waiter
    if (waiter !== undefined) {
      this.#waiter = undefined
      waiter.resolve({ done: false, value: piece })
      return
    }
    this.#pieces.push(piece)
    this.#bytes += piece.byteLength
    if (this.#bytes >= READ_AHEAD_BYTES) this.#socket.pause()
  }

  #finish(error?: StreamError): void {
    if (this.#end !== undefined) return
    this.#end = error === undefined ? {} : { error }
    const waiter = this.#waiter
    this.#waiter = undefined
    if (error === undefined) waiter?.resolve({ done: true, value: undefined })
    else waiter?.reject(error)
  }

  #next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const piece = this.#pieces.shift()
    if (piece !== undefined) {
      this.#bytes -= piece.byteLength
      if (this.#bytes < READ_AHEAD_BYTES / 2 && this.#socket.isPaused()) this.#socket.resume()
      return Promise.resolve({ done: false, value: piece })
    }
    if (this.#end?.error !== undefined) return Promise.reject(this.#end.error)
    if (this.#end !== undefined) return Promise.resolve({ done: true, value: undefined })
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject }
    })
  }
}

function reset(cause: unknown): StreamError {
  return new StreamError({ code: 'STREAM_RESET' }, 'the connection was reset', { cause })
}
