/** One incoming stream of `/koinon/bulk/1`: a peer fetches something that was offered to it. */
import { abortError, type ByteStream, type Clock, codeOf, type Logger, messageOf, withDeadline } from '#base'
import { TRANSFER_CLOSE_MS_MAX, TRANSFER_IDLE_MS_MAX, TRANSFER_START_MS_MAX } from '../limits.ts'
import type { Attachment } from '../command.ts'
import { TransferError } from '../transfer-errors.ts'
import { wrongSize } from './attachments.ts'
import { checkOf } from './digest.ts'
import { chunkMessage, encodeFailed, type TransferMessage, TransferReader, type TransferReason } from './messages.ts'
import type { Offer, Offers } from './offers.ts'
import { type Complaint, SenderState } from './sender-state.ts'
import { Watchdog } from './watchdog.ts'

export type ServeDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly offers: Offers
  /** The peer broke the rules. */
  readonly blame: (peer: string, what: string) => void
}

/** Serves a stream to its end. Never rejects. @param options signal: the node stops */
export async function serveStream(
  deps: ServeDeps,
  stream: ByteStream,
  options: { readonly signal: AbortSignal },
): Promise<void> {
  await new Serving(deps, stream).run(options.signal)
}

/** Says no, and why, without reading. Never rejects. */
export async function refuseStream(clock: Clock, stream: ByteStream, reason: TransferReason): Promise<void> {
  try {
    stream.send(encodeFailed(reason))
  } catch {
    // It has ended already: nobody waits for the answer.
  }
  await endStream(clock, stream)
}

/** Lets what was written arrive, for a moment, then ends both directions. Never rejects. */
export async function endStream(clock: Clock, stream: ByteStream): Promise<void> {
  try {
    await withDeadline(clock, { what: 'closing a stream', timeoutMs: TRANSFER_CLOSE_MS_MAX }, () => stream.close())
  } catch {
    // It is gone already or does not answer: either way it is aborted next.
  }
  stream.abort(new Error('the stream is not needed any more'))
}

class Serving {
  readonly #deps: ServeDeps
  readonly #stream: ByteStream
  readonly #state = new SenderState()
  readonly #watchdog: Watchdog
  #offer: Offer | undefined
  #serving: AbortController | undefined
  #sending: Promise<void> | undefined
  /** Lets the side that sends look again whether it may. */
  #wake: (() => void) | undefined
  /** What the peer is told last, where it is told anything. */
  #reason: TransferReason | undefined

  constructor(deps: ServeDeps, stream: ByteStream) {
    this.#deps = deps
    this.#stream = stream
    this.#watchdog = new Watchdog(deps.clock, TRANSFER_START_MS_MAX, () => {
      stream.abort(new Error('the other side neither asks nor takes what it asked for'))
    })
  }

  async run(signal: AbortSignal): Promise<void> {
    const { log, clock, offers } = this.#deps
    const stream = this.#stream
    const onAbort = (): void => stream.abort(abortError(signal))
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    try {
      await this.#read()
    } catch (error) {
      log.debug('a stream of a transfer ended early', { peer: stream.peer, code: codeOf(error) })
    } finally {
      signal.removeEventListener('abort', onAbort)
      this.#watchdog.end()
      const serving = this.#serving
      if (this.#offer !== undefined && serving !== undefined) offers.end(this.#offer, serving)
      serving?.abort(new Error('the stream has ended'))
      this.#wake?.()
    }
    await this.#sending
    if (this.#reason === undefined) await endStream(clock, stream)
    else await refuseStream(clock, stream, this.#reason)
  }

  /** Reads until the other side has nothing more to say, or until there is nothing more to hear. */
  async #read(): Promise<void> {
    const reader = new TransferReader({ takesChunks: false })
    for await (const piece of this.#stream.received) {
      for (const message of reader.push(piece)) {
        const complaint = this.#take(message)
        if (complaint !== undefined) {
          this.#reason = 'protocol'
          this.#deps.blame(this.#stream.peer, complaint)
        }
        if (this.#reason !== undefined) return
      }
      if (this.#state.phase === 'delivered') return
    }
  }

  #take(message: TransferMessage): Complaint | undefined {
    const offer = this.#offer
    if (message.kind === 'get') return this.#get(message.transfer, message.from)
    if (message.kind === 'ack') {
      this.#watchdog.touch()
      const complaint = this.#state.acknowledged(message.received)
      this.#wake?.()
      return complaint
    }
    if (message.kind === 'delivered') {
      const complaint = this.#state.delivered(message.sha256)
      if (complaint === undefined && offer !== undefined) this.#deps.offers.settle(offer, 'delivered')
      return complaint
    }
    if (message.kind === 'failed') {
      if (offer !== undefined) this.#deps.offers.settle(offer, 'refused')
      // There is nothing to answer; the stream ends with the offer.
      this.#stream.abort(new Error(`the receiver gave up: ${message.reason}`))
      return undefined
    }
    return message.kind === 'fault' ? message.what : 'a chunk for the sender'
  }

  #get(transfer: Uint8Array, from: number): Complaint | undefined {
    const { offers } = this.#deps
    const offer = offers.find(transfer, this.#stream.peer)
    if (offer === undefined) {
      this.#reason = 'unknown'
      return undefined
    }
    const { attachment, digest } = offer
    const complaint = this.#state.get({ sizeBytes: attachment.sizeBytes, sha256: digest.sha256 }, from)
    if (complaint !== undefined) return complaint
    this.#offer = offer
    this.#watchdog.restart(TRANSFER_IDLE_MS_MAX)
    const serving = offers.begin(offer)
    this.#serving = serving
    serving.signal.addEventListener('abort', () => this.#onServed(serving.signal), { once: true })
    this.#sending = this.#send(offer, from, serving.signal)
    return undefined
  }

  /** The offer is over, by our doing or the peer's. After a delivery the stream may end in peace. */
  #onServed(signal: AbortSignal): void {
    this.#wake?.()
    if (this.#state.phase !== 'delivered' && this.#reason === undefined) this.#stream.abort(abortError(signal))
  }

  /** Never rejects. */
  async #send(offer: Offer, from: number, signal: AbortSignal): Promise<void> {
    const stream = this.#stream
    try {
      for await (const message of chunkMessages(offer, this.#chunks(signal), { from, signal })) {
        if (signal.aborted) return
        if (!stream.send(message)) await stream.drained()
      }
    } catch (error) {
      if (signal.aborted) return
      if (!(error instanceof TransferError)) {
        stream.abort(error instanceof Error ? error : new Error(messageOf(error)))
        return
      }
      this.#deps.log.warn('an offered attachment cannot be read', {
        peer: stream.peer,
        reason: messageOf(error.cause ?? error),
      })
      await refuseStream(this.#deps.clock, stream, 'source')
    }
  }

  /** The chunks that may be sent, each as soon as the receiver has room for it. Ends with the last, or the signal. */
  async *#chunks(signal: AbortSignal): AsyncGenerator<Place, void, undefined> {
    for (;;) {
      const next = this.#state.next()
      if (next !== undefined) {
        this.#state.sent(next.size)
        yield next
        continue
      }
      if (signal.aborted || this.#state.hasSentAll) return
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
    }
  }
}

/** Where a chunk lies in the attachment. */
type Place = { readonly offset: number; readonly size: number }

/** Cuts what is read into messages: one copy, from the piece that was read into the message. */
async function* chunkMessages(
  offer: Offer,
  places: AsyncIterable<Place>,
  options: { readonly from: number; readonly signal: AbortSignal },
): AsyncGenerator<Uint8Array, void, undefined> {
  const pieces = piecesOf(offer.attachment, options)
  let rest: Uint8Array = new Uint8Array(0)
  try {
    for await (const { offset, size } of places) {
      const { bytes, room } = chunkMessage(offset, size, checkOf(offer.digest, offset))
      for (let filled = 0; filled < size; ) {
        if (rest.byteLength === 0) {
          const next = await pieces.next()
          if (next.done === true) throw wrongSize(offer.attachment.sizeBytes)
          rest = next.value
        }
        const part = rest.subarray(0, size - filled)
        room.set(part, filled)
        filled += part.byteLength
        rest = rest.subarray(part.byteLength)
      }
      yield bytes
    }
  } finally {
    // Files that the reading holds open are closed with it.
    await pieces.return()
  }
}

async function* piecesOf(
  attachment: Attachment,
  options: { readonly from: number; readonly signal: AbortSignal },
): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    yield* attachment.read(options)
  } catch (error) {
    throw new TransferError({ code: 'TRANSFER_SOURCE' }, 'what was offered cannot be read', { cause: error })
  }
}
