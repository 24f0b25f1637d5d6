/**
 * Whether a path may have died without a word: a service has sent something over it lately, and nothing came back for a
 * while. A NAT that forgot a connection drops what the other side sends, so a node that only waits would wait for ever.
 */
import { SILENCE_DOUBT_MS, SILENCE_FORGET_MS } from '../limits.ts'
import type { Traffic } from './connections.ts'

export class Silence {
  #bytesIn = 0
  #bytesOut = 0
  /** When the first words were said that have had no answer yet. */
  #unansweredSince: number | undefined
  #saidAt = Number.NEGATIVE_INFINITY

  /**
   * @param now Clock.monotonic()
   * @param traffic of services alone: pings are answers to a doubt, and must not raise the next
   * @returns whether somebody should ask if the peer is there
   */
  look(now: number, { bytesIn, bytesOut }: Readonly<Traffic>): boolean {
    const isForgotten = now - this.#saidAt >= SILENCE_FORGET_MS
    if (isForgotten || bytesIn !== this.#bytesIn) this.#unansweredSince = undefined
    if (bytesOut !== this.#bytesOut) {
      // Both since the last look: perhaps the answer came first.
      this.#unansweredSince ??= now
      this.#saidAt = now
    }
    this.#bytesIn = bytesIn
    this.#bytesOut = bytesOut
    const since = this.#unansweredSince
    return since !== undefined && now - since >= SILENCE_DOUBT_MS
  }
}
