/**
 * The child's end of the command pipe. Between two commands a child has nothing else to do, so it waits in `read` itself
 * instead of an event loop: after a step that has streamed hundreds of megabytes through the caches, every line of code
 * that need not run counts (a command took 0.5 ms, and takes 0.1 ms so). Windows' overlapped pipes cannot be read so; there it is a stream.
 */
import { readSync, writeSync } from 'node:fs'
import { Socket } from 'node:net'
import { BoundedQueue } from '#base'
import { CHILD_FRAME_BYTES_MAX, CHILD_WAITING_MAX } from '../limits.ts'
import { frameOf, MessageReader, sendMessage } from './frames.ts'
import type { Kind, Message } from './protocol.ts'

export interface Channel {
  /** The next command; undefined once the node has closed the pipe. The payload is valid until the next call. */
  receive(): Message | undefined | Promise<Message | undefined>
  /** Once settled the payload has left: the next command may compute into the same buffer. */
  send(message: { readonly id: number; readonly kind: Kind }, payload: readonly Uint8Array[]): void | Promise<void>
}

export function openChannel(fd: number): Channel {
  return process.platform === 'win32' ? new StreamChannel(fd) : new BlockingChannel(fd)
}

/** What one `read` takes at most: a step of one row, and as much of a prefill chunk as a socket holds. */
const READ_BYTES = 256 * 1024

class BlockingChannel implements Channel {
  readonly #fd: number
  readonly #piece = new Uint8Array(READ_BYTES)
  readonly #reader = new MessageReader(CHILD_FRAME_BYTES_MAX)
  #messages: readonly Message[] = []
  #next = 0

  constructor(fd: number) {
    this.#fd = fd
  }

  receive(): Message | undefined {
    // Messages are views of the piece: it is not read into again before all of them are done.
    while (this.#next >= this.#messages.length) {
      const size = this.#read()
      if (size === 0) return undefined
      this.#messages = this.#reader.push(this.#piece.subarray(0, size))
      this.#next = 0
    }
    return this.#messages[this.#next++]
  }

  send(message: { readonly id: number; readonly kind: Kind }, payload: readonly Uint8Array[]): void {
    const frame = frameOf(message, payload)
    for (let sent = 0; sent < frame.byteLength; ) sent += writeSync(this.#fd, frame, sent)
  }

  /** 0: the node closed the pipe, or is gone. */
  #read(): number {
    try {
      return readSync(this.#fd, this.#piece)
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ECONNRESET') return 0
      throw error
    }
  }
}

class StreamChannel implements Channel {
  readonly #pipe: Socket
  /** The node sends no more than this many commands before it has answers. */
  readonly #messages = new BoundedQueue<Message>(2 * CHILD_WAITING_MAX)

  constructor(fd: number) {
    this.#pipe = new Socket({ fd, readable: true, writable: true })
    const reader = new MessageReader(CHILD_FRAME_BYTES_MAX)
    this.#pipe.on('data', (piece: Buffer) => {
      for (const message of reader.push(piece)) this.#messages.push(message)
    })
    this.#pipe.on('end', () => this.#messages.end()).on('error', () => this.#messages.end())
  }

  receive(): Promise<Message | undefined> {
    return this.#messages.take()
  }

  async send(message: { readonly id: number; readonly kind: Kind }, payload: readonly Uint8Array[]): Promise<void> {
    sendMessage(this.#pipe, message, payload)
    if (this.#pipe.writableLength > 0) await new Promise<void>(resolve => void this.#pipe.write('', () => resolve()))
  }
}
