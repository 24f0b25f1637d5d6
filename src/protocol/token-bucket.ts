/** How much somebody may ask for: so much at once, so much more a second. */
import type { Clock } from '#base'

/** What rounding may lose: whoever waits exactly as long as he was told gets his tokens. */
const ROUNDING = 1e-6

export type BucketOptions = { readonly tokensMax: number; readonly perSecond: number }

export class TokenBucket {
  readonly #clock: Clock
  #options: BucketOptions
  #tokens: number
  #filledAt: number

  constructor(deps: { readonly clock: Clock }, options: BucketOptions) {
    this.#clock = deps.clock
    this.#options = options
    this.#tokens = options.tokensMax
    this.#filledAt = deps.clock.monotonic()
  }

  /** Nothing has been taken that has not come back: a fresh bucket would be the same. */
  get isFull(): boolean {
    this.#fill()
    return this.#tokens >= this.#options.tokensMax
  }

  /** Tokens that can be taken now; 0 while it owes some. */
  get available(): number {
    this.#fill()
    return Math.max(0, this.#tokens)
  }

  /** Other limits from now on. It holds, or owes, what it did, as far as it can: a change is no fresh start. */
  change(options: BucketOptions): void {
    this.#fill()
    this.#options = options
    this.#tokens = Math.max(-options.tokensMax, Math.min(options.tokensMax, this.#tokens))
  }

  /** False where there are not enough: then nothing is taken. */
  take(tokens: number): boolean {
    this.#fill()
    if (this.#tokens + ROUNDING < tokens) return false
    this.#tokens = Math.max(0, this.#tokens - tokens)
    return true
  }

  /**
   * Takes what cannot be refused any more, such as bytes that have already arrived. The bucket may owe tokens afterwards,
   * at most as many as it holds, so that one large message does not shut its sender out for longer than a refill.
   */
  charge(tokens: number): void {
    this.#fill()
    this.#tokens = Math.max(-this.#options.tokensMax, this.#tokens - tokens)
  }

  /**
   * Whole milliseconds, rounded up, until `tokens` can be taken; 0: now. More than the bucket holds never fit: then it
   * is the time until the bucket is full.
   */
  retryAfterMs(tokens: number): number {
    this.#fill()
    const missing = Math.min(tokens, this.#options.tokensMax) - this.#tokens
    if (missing <= ROUNDING) return 0
    return Math.ceil((missing / this.#options.perSecond) * 1000)
  }

  #fill(): void {
    const now = this.#clock.monotonic()
    const gained = ((now - this.#filledAt) / 1000) * this.#options.perSecond
    this.#tokens = Math.min(this.#options.tokensMax, this.#tokens + gained)
    this.#filledAt = now
  }
}
