/** Fetches one attachment from the peer that offered it, over as many streams as it takes. */
import { abortError, type ByteStream, type Clock, codeOf, type Logger, messageOf, sleep, withDeadline } from '#base'
import {
  TRANSFER_CHUNKS_PENDING_MAX,
  TRANSFER_CLOSE_MS_MAX,
  TRANSFER_IDLE_MS_MAX,
  TRANSFER_OPEN_MS_MAX,
} from '../limits.ts'
import { isPeerToBlame, TransferError } from '../transfer-errors.ts'
import {
  encodeAck,
  encodeDelivered,
  encodeGet,
  type TransferMessage,
  TransferReader,
  type TransferReason,
} from './messages.ts'
import { ReceiverState } from './receiver-state.ts'
import { endStream, refuseStream } from './serve.ts'
import type { DigestedAttachment, TransferContent, TransferSink } from './types.ts'
import { Watchdog } from './watchdog.ts'

export type FetchDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly openStream: (peer: string, signal: AbortSignal) => Promise<ByteStream>
  /** The peer broke the rules after all was over for our side. */
  readonly blame: (peer: string, what: string) => void
  /** Keeps a task that never rejects until it is done. */
  readonly own: (task: Promise<void>) => void
}

export type FetchRequest = {
  /** The id of the offer. */
  readonly transfer: Uint8Array
  readonly content: TransferContent
  /** Ended by the fetching, however that ends. */
  readonly sink: TransferSink
}

/** @throws TransferError, or the signal's reason */
export async function fetchTransfer(
  deps: FetchDeps,
  request: FetchRequest,
  options: { readonly signal: AbortSignal },
): Promise<DigestedAttachment> {
  const { sink } = request
  try {
    return await new Fetching(deps, request, options.signal).run()
  } catch (error) {
    // What a peer with a fault has sent is not worth keeping; everything else goes on from there the next time.
    if (isPeerToBlame(error)) await sink.discard()
    else await sink.suspend()
    throw error
  }
}

/** Tells the sender that nobody will fetch what it offers, so that it need not keep it. Never rejects. */
export async function declineTransfer(
  deps: Pick<FetchDeps, 'clock' | 'log' | 'openStream'>,
  offer: { readonly peer: string; readonly transfer: Uint8Array },
  options: { readonly signal: AbortSignal },
): Promise<void> {
  const { clock, log, openStream } = deps
  const { peer, transfer } = offer
  const open = { what: `opening a stream to ${peer}`, timeoutMs: TRANSFER_OPEN_MS_MAX, signal: options.signal }
  try {
    const stream = await withDeadline(clock, open, signal => openStream(peer, signal))
    stream.send(encodeGet(transfer, 0))
    await refuseStream(clock, stream, 'not-wanted')
  } catch (error) {
    log.debug('an attachment could not be declined', { peer, code: codeOf(error) }) // The offer expires by itself.
  }
}

class Fetching {
  readonly #deps: FetchDeps
  readonly #request: FetchRequest
  readonly #signal: AbortSignal
  readonly #state: ReceiverState
  /** Chunks that the sink has not taken yet. */
  #pending = 0
  #wake: (() => void) | undefined
  /** Why the transfer cannot go on, as found by the sink. */
  #failure: Error | undefined
  /** Why the last stream was lost. */
  #loss: unknown

  constructor(deps: FetchDeps, request: FetchRequest, signal: AbortSignal) {
    this.#deps = deps
    this.#request = request
    this.#signal = signal
    this.#state = new ReceiverState(request.content.sizeBytes, request.sink.keptBytes)
  }

  async run(): Promise<DigestedAttachment> {
    const { clock, log } = this.#deps
    const { peer } = this.#request.content
    for (;;) {
      const attachment = await this.#attempt()
      if (attachment !== undefined) return attachment
      const pauseMs = this.#state.lost()
      if (pauseMs === undefined) {
        throw new TransferError({ code: 'TRANSFER_LOST', peer }, 'the connection was lost again and again', {
          cause: this.#loss,
        })
      }
      log.debug('a transfer was interrupted', { peer, code: codeOf(this.#loss), pauseMs })
      await sleep(clock, pauseMs, { signal: this.#signal })
    }
  }

  /** One stream. Undefined: it was lost before everything had come. */
  async #attempt(): Promise<DigestedAttachment | undefined> {
    const stream = await this.#open()
    if (stream === undefined) return undefined
    const { clock } = this.#deps
    const idle = new Error('the sender sends nothing')
    const watchdog = new Watchdog(clock, TRANSFER_IDLE_MS_MAX, () => stream.abort(idle))
    const onAbort = (): void => this.#leave(stream, abortError(this.#signal))
    this.#signal.addEventListener('abort', onAbort, { once: true })
    // It may have come between the opening and now.
    if (this.#signal.aborted) onAbort()
    const pieces = stream.received[Symbol.asyncIterator]()
    try {
      await this.#read(stream, pieces, watchdog)
    } catch (error) {
      await this.#settled(watchdog)
      if (this.#failure === undefined && !this.#signal.aborted && !(error instanceof TransferError)) {
        this.#loss = error
        stream.abort(error instanceof Error ? error : new Error(messageOf(error)))
        return undefined
      }
      const reason = this.#failure ?? (this.#signal.aborted ? abortError(this.#signal) : error)
      if (this.#failure === undefined && !this.#signal.aborted) this.#leave(stream, reason)
      throw reason
    } finally {
      watchdog.end()
      this.#signal.removeEventListener('abort', onAbort)
    }
    return this.#finish(stream, pieces)
  }

  async #open(): Promise<ByteStream | undefined> {
    const { clock, openStream } = this.#deps
    const { peer } = this.#request.content
    const options = { what: `opening a stream to ${peer}`, timeoutMs: TRANSFER_OPEN_MS_MAX, signal: this.#signal }
    try {
      return await withDeadline(clock, options, async signal => {
        const stream = await openStream(peer, signal)
        // The deadline may have passed while the stream was being made: nobody would ever end it.
        if (signal.aborted) stream.abort(new Error('opened too late'))
        return stream
      })
    } catch (error) {
      if (this.#signal.aborted) throw abortError(this.#signal)
      this.#loss = error
      return undefined
    }
  }

  /** Resolves when everything is kept. Rejects with a TransferError, or with whatever ended the stream before. */
  async #read(stream: ByteStream, pieces: AsyncIterator<Uint8Array>, watchdog: Watchdog): Promise<void> {
    const reader = new TransferReader({ takesChunks: true })
    const from = this.#state.begin(this.#deps.clock.monotonic())
    stream.send(encodeGet(this.#request.transfer, from))
    while (!this.#state.hasAll) {
      const piece = await pieces.next()
      if (piece.done === true) throw new Error('the sender ended the stream early')
      for (const message of reader.push(piece.value)) {
        if (this.#failure !== undefined) throw this.#failure
        this.#take(message, stream, watchdog)
        // Nothing more is read until the disk has caught up: the stream's own bounds hold the sender back.
        while (this.#pending >= TRANSFER_CHUNKS_PENDING_MAX) await this.#change(watchdog)
      }
    }
    await this.#settled(watchdog)
    if (this.#failure !== undefined) throw this.#failure
  }

  #take(message: TransferMessage, stream: ByteStream, watchdog: Watchdog): void {
    if (message.kind === 'failed') throw this.#toError(message.reason)
    if (message.kind === 'fault') throw this.#broken(message.what)
    if (message.kind !== 'chunk') throw this.#broken(`${message.kind} from a sender`)
    const complaint = this.#state.chunk(message.offset, message.bytes.byteLength)
    if (complaint !== undefined) throw this.#broken(complaint)
    watchdog.touch()
    this.#pending++
    void this.#append(message, stream)
  }

  /** Never rejects. */
  async #append(chunk: TransferMessage & { readonly kind: 'chunk' }, stream: ByteStream): Promise<void> {
    const { sink, content } = this.#request
    // Read now: the sink may hand the memory to a thread, and then it is empty here.
    const size = chunk.bytes.byteLength
    try {
      const isRight = await sink.append(chunk.bytes, chunk.check)
      if (isRight) this.#acknowledge(this.#state.keep(size, this.#deps.clock.monotonic()), stream)
      else this.#fail(stream, corrupt(content.peer, `the chunk at ${chunk.offset} is not what was announced`))
    } catch (error) {
      this.#fail(stream, error instanceof Error ? error : new Error(messageOf(error)))
    } finally {
      this.#pending--
      this.#wake?.()
    }
  }

  #acknowledge(received: number | undefined, stream: ByteStream): void {
    if (received === undefined) return
    try {
      stream.send(encodeAck(received))
    } catch {
      // The stream has ended: whoever reads it finds out.
    }
  }

  #fail(stream: ByteStream, error: Error): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.#leave(stream, error)
  }

  /** Ends the stream, and tells the sender where it need not wait for us to come back. */
  #leave(stream: ByteStream, error: unknown): void {
    const { clock, own } = this.#deps
    const isToComeBack = error instanceof TransferError && COMES_BACK.has(error.code)
    if (isToComeBack) stream.abort(error)
    else own(refuseStream(clock, stream, isPeerToBlame(error) ? 'protocol' : 'not-wanted'))
  }

  async #finish(stream: ByteStream, pieces: AsyncIterator<Uint8Array>): Promise<DigestedAttachment> {
    const { sink, content } = this.#request
    let attachment: DigestedAttachment | undefined
    try {
      attachment = await sink.finish()
    } catch (error) {
      this.#leave(stream, error)
      throw error
    }
    if (attachment === undefined) {
      const error = corrupt(content.peer, 'what arrived has another digest than was announced')
      this.#leave(stream, error)
      throw error
    }
    this.#deps.own(this.#confirm(stream, pieces))
    return attachment
  }

  /** Says that everything is here, and waits a moment for the other side to hear it. Never rejects. */
  async #confirm(stream: ByteStream, pieces: AsyncIterator<Uint8Array>): Promise<void> {
    const { clock, blame, log } = this.#deps
    const { peer, sha256 } = this.#request.content
    try {
      stream.send(encodeDelivered(sha256))
      const options = { what: 'the end of a transfer', timeoutMs: TRANSFER_CLOSE_MS_MAX }
      const rest = await withDeadline(clock, options, () => pieces.next())
      if (rest.done !== true) blame(peer, 'more bytes than were announced')
    } catch (error) {
      // The attachment is here; the sender keeps its own until the offer expires.
      log.debug('a transfer could not be confirmed', { peer, code: codeOf(error) })
    }
    await endStream(clock, stream)
  }

  async #settled(watchdog: Watchdog): Promise<void> {
    while (this.#pending > 0) await this.#change(watchdog)
  }

  /** Until a chunk is kept or not. A slow disk is not the sender's fault. */
  async #change(watchdog: Watchdog): Promise<void> {
    await new Promise<void>(resolve => {
      this.#wake = resolve
    })
    watchdog.touch()
  }

  #broken(what: string): TransferError {
    const { peer } = this.#request.content
    return new TransferError({ code: 'TRANSFER_PROTOCOL', peer }, `${peer} broke the transfer protocol: ${what}`)
  }

  /** What the sender gave as its reason. A thing that passes is a loss like that of the stream. */
  #toError(reason: TransferReason): Error {
    const { peer } = this.#request.content
    if (reason === 'unknown') {
      return new TransferError({ code: 'TRANSFER_UNKNOWN', peer }, `${peer} does not offer this attachment any more`)
    }
    if (reason === 'source') {
      return new TransferError({ code: 'TRANSFER_SOURCE' }, `${peer} cannot read what it offered`)
    }
    if (reason === 'busy' || reason === 'stopping') return new Error(`${peer} is ${reason}`)
    return this.#broken(`FAILED with the reason "${reason}" from a sender`)
  }
}

/** What is kept is still wanted: the sender's offer had better stay. */
const COMES_BACK: ReadonlySet<string> = new Set([
  'TRANSFER_DISK_FULL',
  'TRANSFER_STORE',
  'TRANSFER_STOPPED',
  'TRANSFER_UNKNOWN',
  'TRANSFER_SOURCE',
])

function corrupt(peer: string, what: string): TransferError {
  return new TransferError({ code: 'TRANSFER_CORRUPT', peer }, `from ${peer}: ${what}`)
}
