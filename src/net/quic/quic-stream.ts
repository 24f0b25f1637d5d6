/**
 * A QUIC stream as libp2p's. Nothing is read while the reader pauses: then the peer's window runs out (`streamWindowBytes`)
 * and its writer waits. A stream that the peer resets, or that is lost with its connection, never looks like one that ended.
 */
import type { Logger, MessageStreamDirection } from '@libp2p/interface'
import { AbstractStream } from '@libp2p/utils'
import { Uint8ArrayList } from 'uint8arraylist'
import { abortable } from '#base'
import { QUIC_READ_BYTES, QUIC_WRITE_BYTES } from '../limits.ts'
import type { NativeStream } from './addon.ts'

export type QuicStreamOptions = {
  readonly native: NativeStream
  readonly direction: MessageStreamDirection
  readonly log: Logger
  readonly readBytesMax: number
  readonly writeBytesMax: number
}

export class QuicStream extends AbstractStream {
  readonly #native: NativeStream
  readonly #unsent = new Uint8ArrayList()
  #flushing: Promise<void> | undefined
  #resumed = Promise.withResolvers<void>()

  constructor({ native, direction, log, readBytesMax, writeBytesMax }: QuicStreamOptions) {
    const limits = { maxReadBufferLength: readBytesMax, maxWriteBufferLength: writeBytesMax }
    super({ id: native.id(), direction, log, ...limits })
    this.#native = native
    this.#resumed.resolve()
    void this.#read()
  }

  sendData(data: Uint8ArrayList): { sentBytes: number; canSendMore: boolean } {
    const sentBytes = data.byteLength
    this.#unsent.append(data)
    this.#flushing ??= this.#flush()
    return { sentBytes, canSendMore: this.#unsent.byteLength < QUIC_WRITE_BYTES }
  }

  async sendCloseWrite(options?: { readonly signal?: AbortSignal }): Promise<void> {
    const flushed = this.#flushing ?? Promise.resolve()
    await (options?.signal === undefined ? flushed : abortable(flushed, options.signal))
    if (this.#isOver()) throw new Error('the stream was reset before all was sent')
    await this.#native.finishWrite()
  }

  async sendCloseRead(): Promise<void> {
    // Reading goes on, to see where the peer's end is; what comes is dropped.
    this.#resumed.resolve()
  }

  sendReset(): void {
    this.#unsent.consume(this.#unsent.byteLength)
    this.#resumed.resolve()
    // Either half may be over already.
    this.#native.resetWrite().catch(() => undefined)
    this.#native.stopRead().catch(() => undefined)
  }

  sendPause(): void {
    this.#resumed = Promise.withResolvers<void>()
  }

  sendResume(): void {
    this.#resumed.resolve()
  }

  #isOver(): boolean {
    return this.status === 'aborted' || this.status === 'reset' || this.status === 'closed'
  }

  /** Writes of one stream must not overlap: what comes meanwhile goes out with the next. */
  async #flush(): Promise<void> {
    try {
      while (this.#unsent.byteLength > 0) {
        const bytes = this.#unsent.subarray(0, Math.min(this.#unsent.byteLength, QUIC_WRITE_BYTES))
        this.#unsent.consume(bytes.byteLength)
        await this.#native.write(bytes)
        if (this.writableNeedsDrain && this.#unsent.byteLength < QUIC_WRITE_BYTES) this.safeDispatchEvent('drain')
      }
    } catch {
      this.#unsent.consume(this.#unsent.byteLength)
      if (!this.#isOver()) this.onRemoteReset()
    } finally {
      this.#flushing = undefined
    }
  }

  async #read(): Promise<void> {
    try {
      for (;;) {
        await this.#resumed.promise
        if (this.#isOver()) return
        const piece = await this.#native.read(QUIC_READ_BYTES)
        if (piece === null) break
        this.onData(piece)
      }
      this.onRemoteCloseWrite()
    } catch {
      if (!this.#isOver()) this.onRemoteReset()
    }
  }
}
