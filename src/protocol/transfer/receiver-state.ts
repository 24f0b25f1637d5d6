/**
 * What a receiver expects, over all streams of one transfer, without any I/O.
 *
 *     idle ──begin──► streaming ──all kept──► complete
 *       ^──── lost ───────'                               after too many losses in a row: lost
 */
import {
  TRANSFER_ACK_BYTES,
  TRANSFER_ACK_MS_MAX,
  TRANSFER_ATTEMPTS_MAX,
  TRANSFER_CHUNK_BYTES,
  TRANSFER_RETRY_MS_MAX,
  TRANSFER_RETRY_MS_MIN,
} from '../limits.ts'
import type { Complaint } from './sender-state.ts'

type Phase =
  | { readonly at: 'idle' }
  /** `expected`: where the next chunk begins; `acknowledged`: what the sender of this stream knows to have arrived. */
  | { readonly at: 'streaming'; expected: number; acknowledged: number; acknowledgedAt: number }
  | { readonly at: 'complete' }
  | { readonly at: 'lost' }

export class ReceiverState {
  readonly #sizeBytes: number
  #phase: Phase = { at: 'idle' }
  /** Bytes that are verified and kept: never less than before. */
  #kept: number
  #attempts = 0
  /** `#kept` when the current attempt began. */
  #keptBefore: number

  constructor(sizeBytes: number, keptBytes: number) {
    this.#sizeBytes = sizeBytes
    this.#kept = keptBytes
    this.#keptBefore = keptBytes
  }

  get phase(): Phase['at'] {
    return this.#phase.at
  }

  /** Whether every chunk has come on this stream; some may not be kept yet. */
  get hasAll(): boolean {
    const phase = this.#phase
    return phase.at === 'complete' || (phase.at === 'streaming' && phase.expected === this.#sizeBytes)
  }

  /** A new stream is there. @returns from where to ask @param now Clock.monotonic() */
  begin(now: number): number {
    this.#keptBefore = this.#kept
    this.#phase = { at: 'streaming', expected: this.#kept, acknowledged: this.#kept, acknowledgedAt: now }
    if (this.#kept === this.#sizeBytes) this.#phase = { at: 'complete' }
    return this.#kept
  }

  /** A chunk came. */
  chunk(offset: number, size: number): Complaint | undefined {
    const phase = this.#phase
    if (phase.at !== 'streaming' || phase.expected === this.#sizeBytes) return 'more bytes than were announced'
    if (offset !== phase.expected) return `a chunk at ${offset} where ${phase.expected} was due`
    const due = Math.min(TRANSFER_CHUNK_BYTES, this.#sizeBytes - phase.expected)
    if (size !== due) return `a chunk of ${size} bytes where ${due} were due`
    phase.expected += size
    return undefined
  }

  /** The next `size` bytes are kept. @returns what to acknowledge now @param now Clock.monotonic() */
  keep(size: number, now: number): number | undefined {
    this.#kept += size
    const phase = this.#phase
    if (phase.at !== 'streaming') return undefined
    const isEnough = this.#kept - phase.acknowledged >= TRANSFER_ACK_BYTES
    if (this.#kept === this.#sizeBytes) {
      // DELIVERED follows, which says the same.
      this.#phase = { at: 'complete' }
      return undefined
    }
    if (!isEnough && now - phase.acknowledgedAt < TRANSFER_ACK_MS_MAX) return undefined
    phase.acknowledged = this.#kept
    phase.acknowledgedAt = now
    return this.#kept
  }

  /** The stream was lost, or none could be had. @returns how long to wait before the next; undefined: give up */
  lost(): number | undefined {
    if (this.#kept > this.#keptBefore) this.#attempts = 0
    this.#keptBefore = this.#kept
    this.#attempts++
    const isOver = this.#attempts >= TRANSFER_ATTEMPTS_MAX
    this.#phase = { at: isOver ? 'lost' : 'idle' }
    return isOver ? undefined : Math.min(TRANSFER_RETRY_MS_MAX, TRANSFER_RETRY_MS_MIN * 2 ** (this.#attempts - 1))
  }
}
