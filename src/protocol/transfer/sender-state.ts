/**
 * What a sender may and must do on one stream, without any I/O.
 *
 *     waiting ──get──► sending ──delivered──► delivered
 *        '───────────────'──────fault───────► failed
 */
import { equalInConstantTime } from '#crypto'
import { TRANSFER_CHUNK_BYTES, TRANSFER_WINDOW_BYTES } from '../limits.ts'

/** What the offer says: the same on every stream. */
type Content = { readonly sizeBytes: number; readonly sha256: Uint8Array }

type Phase =
  | { readonly at: 'waiting' }
  | { readonly at: 'sending'; readonly content: Content; sent: number; acknowledged: number }
  | { readonly at: 'delivered' }
  | { readonly at: 'failed' }

/** Why the other side's message has no place here; it costs it the stream. */
export type Complaint = string

export class SenderState {
  #phase: Phase = { at: 'waiting' }

  get phase(): Phase['at'] {
    return this.#phase.at
  }

  /** The receiver asks for the bytes behind `from`. */
  get(content: Content, from: number): Complaint | undefined {
    if (this.#phase.at !== 'waiting') return this.#fail('a second GET')
    const isOnGrid = from % TRANSFER_CHUNK_BYTES === 0 && from < content.sizeBytes
    if (!isOnGrid && from !== content.sizeBytes) return this.#fail('a GET from inside a chunk or behind the end')
    this.#phase = { at: 'sending', content, sent: from, acknowledged: from }
    return undefined
  }

  /** Whether nothing is left to send on this stream. */
  get hasSentAll(): boolean {
    return this.#phase.at !== 'sending' || this.#phase.sent === this.#phase.content.sizeBytes
  }

  /** Where the next chunk begins and how long it is. Undefined: there is none, or not before an acknowledgement. */
  next(): { readonly offset: number; readonly size: number } | undefined {
    const phase = this.#phase
    if (phase.at !== 'sending') return undefined
    const size = Math.min(TRANSFER_CHUNK_BYTES, phase.content.sizeBytes - phase.sent)
    const isInWindow = phase.sent + size - phase.acknowledged <= TRANSFER_WINDOW_BYTES
    return size > 0 && isInWindow ? { offset: phase.sent, size } : undefined
  }

  /** The chunk that `next` named is on its way. */
  sent(size: number): void {
    if (this.#phase.at === 'sending') this.#phase.sent += size
  }

  /** The receiver has everything below `received`. */
  acknowledged(received: number): Complaint | undefined {
    const phase = this.#phase
    if (phase.at !== 'sending') return this.#fail('an ACK before a GET')
    if (received <= phase.acknowledged) return this.#fail('an ACK that says nothing new')
    if (received > phase.sent) return this.#fail('an ACK of what was not sent')
    phase.acknowledged = received
    return undefined
  }

  /** The receiver has all, and it is what was announced. */
  delivered(sha256: Uint8Array): Complaint | undefined {
    const phase = this.#phase
    if (phase.at !== 'sending' || phase.sent !== phase.content.sizeBytes) {
      return this.#fail('DELIVERED before everything was sent')
    }
    if (!equalInConstantTime(sha256, phase.content.sha256)) return this.#fail('DELIVERED with another digest')
    this.#phase = { at: 'delivered' }
    return undefined
  }

  #fail(what: string): Complaint {
    this.#phase = { at: 'failed' }
    return what
  }
}
