/** How much a peer may ask of us: so much at once, so much more a second. */
import type { Clock } from '#base'

export class TokenBucket {
  readonly #clock: Clock
  readonly #options: { readonly tokensMax: number; readonly perSecond: number }
  #tokens: number
  #filledAt: number

  constructor(deps: { readonly clock: Clock }, options: { readonly tokensMax: number; readonly perSecond: number }) {
    this.#clock = deps.clock
    this.#options = options
    this.#tokens = options.tokensMax
    this.#filledAt = deps.clock.monotonic()
  }

  /** False where there are not enough: then nothing is taken. */
  take(tokens: number): boolean {
    const now = this.#clock.monotonic()
    const gained = ((now - this.#filledAt) / 1000) * this.#options.perSecond
    this.#tokens = Math.min(this.#options.tokensMax, this.#tokens + gained)
    this.#filledAt = now
    if (this.#tokens < tokens) return false
    this.#tokens -= tokens
    return true
  }
}
