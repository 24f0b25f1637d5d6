/** Sends this node's offer to its peers when it has changed, and not more often than they want to hear it. */
import { type Clock, repeat } from '#base'
import type { Host } from '#net'
import type { NodeOffer } from '#wire'
import { OFFER_PERIOD_MS } from './limits.ts'

export class OfferKeeper {
  readonly #host: Pick<Host, 'announce'>
  readonly #make: () => NodeOffer
  #sent = ''
  #onSent: () => void = () => undefined

  constructor(host: Pick<Host, 'announce'>, make: () => NodeOffer) {
    this.#host = host
    this.#make = make
  }

  /** Sends the offer now if it differs from the last one. */
  announce(): void {
    const offer = this.#make()
    const text = JSON.stringify(offer)
    if (text === this.#sent) return
    this.#sent = text
    this.#host.announce(offer)
    this.#onSent()
  }

  /** Is told of each offer that was sent. One listener. */
  onSent(listener: () => void): void {
    this.#onSent = listener
  }

  /** Looks for changes (free slots, a crashed engine, new addresses) until the signal aborts. */
  run(clock: Clock, options: { readonly signal: AbortSignal }): Promise<void> {
    return repeat(clock, () => this.announce(), { periodMs: OFFER_PERIOD_MS, signal: options.signal })
  }
}
