/** How many bytes a second pass, smoothed: each byte counts less the longer ago it passed. */

export class RateMeter {
  readonly #tauMs: number
  readonly #startedAt: number
  #bytesPerMs = 0
  #at: number

  /** @param spanMs what passed so long ago counts a third of what passes now */
  constructor(spanMs: number, now: number) {
    this.#tauMs = spanMs
    this.#startedAt = now
    this.#at = now
  }

  add(bytes: number, now: number): void {
    this.#decay(now)
    this.#bytesPerMs += bytes / this.#tauMs
  }

  /** Bytes a second. Not too low while the meter is young. */
  rate(now: number): number {
    this.#decay(now)
    const age = Math.max(now - this.#startedAt, this.#tauMs / 100)
    return (this.#bytesPerMs / (1 - Math.exp(-age / this.#tauMs))) * 1000
  }

  #decay(now: number): void {
    if (now <= this.#at) return
    this.#bytesPerMs *= Math.exp((this.#at - now) / this.#tauMs)
    this.#at = now
  }
}
