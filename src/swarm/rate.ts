/** A limit on the bytes a second of all transfers together, which can be changed at any time. */
import type { Clock } from '#base'
import { TokenBucket } from '#protocol'
import { RATE_BURST_BYTES_MIN, RATE_BURST_S } from './limits.ts'

export class Rate {
  readonly #clock: Clock
  #bucket: TokenBucket | undefined

  /** @param bytesPerSecond undefined: without a limit */
  constructor(clock: Clock, bytesPerSecond: number | undefined) {
    this.#clock = clock
    this.set(bytesPerSecond)
  }

  set(bytesPerSecond: number | undefined): void {
    if (bytesPerSecond === undefined) {
      this.#bucket = undefined
      return
    }
    const tokensMax = Math.max(RATE_BURST_BYTES_MIN, bytesPerSecond * RATE_BURST_S)
    const options = { tokensMax, perSecond: bytesPerSecond }
    if (this.#bucket === undefined) this.#bucket = new TokenBucket({ clock: this.#clock }, options)
    else this.#bucket.change(options)
  }

  /** Bytes that may move now; infinity without a limit. */
  get available(): number {
    return this.#bucket?.available ?? Number.POSITIVE_INFINITY
  }

  charge(bytes: number): void {
    if (bytes > 0) this.#bucket?.charge(bytes)
  }
}
