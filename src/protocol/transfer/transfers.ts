/**
 * Attachments of messages that are too large for the message: what is offered here is fetched by the peer it was
 * offered to, in chunks, over streams of `/koinon/bulk/1`.
 */
import { type ByteStream, type Clock, type Logger, type Random, withDeadline } from '#base'
import { type AttachmentHeader, INLINE_ATTACHMENT_BYTES_MAX } from '#wire'
import type { Attachment } from '../command.ts'
import {
  TRANSFER_BYTES_MAX,
  TRANSFER_MEMORY_BYTES_MAX,
  TRANSFER_MS_MAX,
  TRANSFER_RETRY_MS_MAX,
  TRANSFERS_FETCHED_MAX,
  TRANSFERS_FETCHED_PER_PEER_MAX,
  TRANSFERS_MEMORY_BYTES_MAX,
  TRANSFERS_SENT_MAX,
  TRANSFERS_SENT_PER_PEER_MAX,
} from '../limits.ts'
import { TransferError } from '../transfer-errors.ts'
import { attachmentOfBytes, readAll, tooLarge } from './attachments.ts'
import { digestOf } from './digest.ts'
import { declineTransfer, fetchTransfer } from './fetch.ts'
import { createMemorySink } from './memory-sink.ts'
import { type OfferOutcome, Offers, release } from './offers.ts'
import { Places } from './places.ts'
import { refuseStream, serveStream } from './serve.ts'
import type { DigestedAttachment, TransferContent, TransferSink, TransferStore } from './types.ts'

export type TransfersDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** Opens a sealed stream of `/koinon/bulk/1` to a peer. */
  readonly openStream: (peer: string, signal: AbortSignal) => Promise<ByteStream>
  /** Where attachments are collected that are too large for memory. */
  readonly store: TransferStore
  /** A peer broke the rules outside of any call that could throw. */
  readonly blame: (peer: string, what: string) => void
}

export type OfferOptions = {
  readonly signal?: AbortSignal
  /** Called once, when the peer has the attachment or will not get it. Never where it travels inside the message. */
  readonly onSettled?: (outcome: OfferOutcome) => void
}

export type ReceiveOptions = {
  /** The largest attachment that is wanted; a larger one is refused before a byte of it is asked for. */
  readonly maxBytes: number
  /** @default a day */
  readonly deadlineMs?: number
  readonly signal?: AbortSignal
}

export class Transfers {
  readonly #deps: TransfersDeps
  readonly #offers: Offers
  readonly #fetched = new Places(TRANSFERS_FETCHED_MAX, TRANSFERS_FETCHED_PER_PEER_MAX)
  readonly #sent = new Places(TRANSFERS_SENT_MAX, TRANSFERS_SENT_PER_PEER_MAX)
  readonly #stopping = new AbortController()
  readonly #tasks = new Set<Promise<void>>()
  #memoryBytes = 0

  constructor(deps: TransfersDeps) {
    this.#deps = deps
    this.#offers = new Offers(deps)
  }

  /**
   * Makes an attachment ready for a peer, and the header that announces it. A small one travels in the header itself;
   * a larger one is read once for its digest (unless its owner knows that) and waits to be fetched for ten minutes.
   * The attachment belongs to this from now on, and is released when it is delivered or will not be.
   * @throws TransferError TRANSFER_TOO_LARGE, TRANSFER_BUSY, TRANSFER_SOURCE, TRANSFER_STOPPED; or what reading throws
   */
  async offer(peer: string, attachment: DigestedAttachment, options: OfferOptions = {}): Promise<AttachmentHeader> {
    const { sizeBytes } = attachment
    const signal = this.#withStop(options.signal)
    try {
      if (this.#stopping.signal.aborted) throw stopped()
      if (sizeBytes > TRANSFER_BYTES_MAX) throw tooLarge(sizeBytes, TRANSFER_BYTES_MAX)
      if (sizeBytes <= INLINE_ATTACHMENT_BYTES_MAX) {
        const bytes = await readAll(attachment, { maxBytes: sizeBytes, signal })
        await release(attachment)
        return { bytes }
      }
      this.#offers.checkRoom(peer)
      const digest = await digestOf(attachment, signal)
      signal.throwIfAborted()
      const transfer = this.#offers.add({ peer, attachment, digest }, options.onSettled)
      return { transfer, sizeBytes, sha256: digest.sha256 }
    } catch (error) {
      await release(attachment)
      throw error
    }
  }

  /** Takes back what was offered, as when the request that it belongs to was given up. */
  withdraw(peer: string, header: AttachmentHeader): void {
    const offer = 'transfer' in header ? this.#offers.find(header.transfer, peer) : undefined
    if (offer !== undefined) this.#offers.settle(offer, 'withdrawn')
  }

  /** Takes back everything that was offered to a peer, as when it is banned. */
  withdrawAll(peer: string): void {
    this.#offers.withdraw(peer)
  }

  /**
   * Fetches what a peer has announced, over as many streams as it takes, and goes on where an earlier attempt has
   * ended. The result is the caller's to release.
   * @throws TransferError, TimeoutError, or the signal's reason; `isPeerToBlame` says whether it deserves a penalty
   */
  async receive(peer: string, header: AttachmentHeader, options: ReceiveOptions): Promise<Attachment> {
    const sizeBytes = 'bytes' in header ? header.bytes.byteLength : header.sizeBytes
    if (sizeBytes > options.maxBytes) throw tooLarge(sizeBytes, options.maxBytes)
    if ('bytes' in header) return attachmentOfBytes(header.bytes)
    if (sizeBytes === 0) {
      throw new TransferError({ code: 'TRANSFER_PROTOCOL', peer }, `${peer} announced an attachment of no bytes`)
    }
    if (this.#stopping.signal.aborted) throw stopped()
    const leave = this.#fetched.enter(peer)
    if (leave === undefined) throw busy()
    const timeoutMs = options.deadlineMs ?? TRANSFER_MS_MAX
    const signal = this.#withStop(options.signal)
    return withDeadline(this.#deps.clock, { what: 'fetching an attachment', timeoutMs, signal }, signal => {
      const task = this.#fetch(header.transfer, { peer, sizeBytes, sha256: header.sha256 }, signal)
      this.#own(task.then(leave, leave))
      return task
    })
  }

  /** Tells a peer that what it has announced will not be fetched, as far as it can be told. */
  decline(peer: string, header: AttachmentHeader): void {
    const { signal } = this.#stopping
    if (!('transfer' in header) || signal.aborted) return
    this.#own(declineTransfer(this.#deps, { peer, transfer: header.transfer }, { signal }))
  }

  /** Serves a stream that a peer has opened, to its end. Never rejects. */
  async accept(stream: ByteStream): Promise<void> {
    const { signal } = this.#stopping
    if (signal.aborted) return refuseStream(this.#deps.clock, stream, 'stopping')
    const leave = this.#sent.enter(stream.peer)
    if (leave === undefined) return refuseStream(this.#deps.clock, stream, 'busy')
    const task = serveStream({ ...this.#deps, offers: this.#offers }, stream, { signal }).finally(leave)
    this.#own(task)
    return task
  }

  /** Ends everything, and gives back what is held; what has arrived of unfinished attachments is kept by the store. */
  async stop(): Promise<void> {
    this.#stopping.abort(stopped())
    this.#offers.withdraw()
    while (this.#tasks.size > 0) await Promise.all(this.#tasks)
  }

  async #fetch(transfer: Uint8Array, content: TransferContent, signal: AbortSignal): Promise<Attachment> {
    const { clock, log, openStream, blame } = this.#deps
    const sink = await this.#openSink(content)
    const deps = { clock, log, openStream, blame, own: (task: Promise<void>) => this.#own(task) }
    const attachment = await fetchTransfer(deps, { transfer, content, sink }, { signal })
    // Nobody waits any more: nobody would release it.
    if (signal.aborted) await release(attachment)
    return attachment
  }

  async #openSink(content: TransferContent): Promise<TransferSink> {
    const { sizeBytes } = content
    const isSmall = sizeBytes <= TRANSFER_MEMORY_BYTES_MAX
    if (!isSmall || this.#memoryBytes + sizeBytes > TRANSFERS_MEMORY_BYTES_MAX) return this.#deps.store.open(content)
    this.#memoryBytes += sizeBytes
    return createMemorySink(content, () => {
      this.#memoryBytes -= sizeBytes
    })
  }

  #withStop(signal: AbortSignal | undefined): AbortSignal {
    return signal === undefined ? this.#stopping.signal : AbortSignal.any([signal, this.#stopping.signal])
  }

  /** Keeps a task that never rejects until it is done, so that `stop` can wait for it. */
  #own(task: Promise<void>): void {
    const owned = task.finally(() => this.#tasks.delete(owned))
    this.#tasks.add(owned)
  }
}

function stopped(): TransferError {
  return new TransferError({ code: 'TRANSFER_STOPPED' }, 'the node is stopping')
}

function busy(): TransferError {
  return new TransferError(
    { code: 'TRANSFER_BUSY', retryAfterMs: TRANSFER_RETRY_MS_MAX },
    'too many attachments are being fetched; try again later',
  )
}
