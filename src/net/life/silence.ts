/**
 * Whether a path may have died without a word: a service has sent something over it lately, and nothing came back for a
 * while. A NAT that forgot a connection drops what the other side sends, so a node that only waits would wait for ever.
 */
import { SILENCE_DOUBT_MS, SILENCE_FORGET_MS } from '../limits.ts'
import type { Traffic } from './connections.ts'

export class Silence {
  #bytesIn = 0
  #bytesOut = 0
  #heardAt = Number.NEGATIVE_INFINITY
  #saidAt = Number.NEGATIVE_INFINITY

  /**
   * @param now Clock.monotonic()
   * @param traffic of services alone: pings are answers to a doubt, and must not raise the next
   * @returns whether somebody should ask if the peer is there
   */
  look(now: number, { bytesIn, bytesOut }: Readonly<Traffic>): boolean {
    if (bytesIn !== this.#bytesIn) this.#heardAt = now
    if (bytesOut !== this.#bytesOut) this.#saidAt = now
    this.#bytesIn = bytesIn
    this.#bytesOut = bytesOut
    const hasSpoken = this.#saidAt >= this.#heardAt && now - this.#saidAt < SILENCE_FORGET_MS
    return hasSpoken && now - this.#heardAt >= SILENCE_DOUBT_MS
  }
}
