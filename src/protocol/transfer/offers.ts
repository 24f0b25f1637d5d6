/** Attachments that peers may fetch: to whom each was offered, for how long, and what became of it. */
import { type CancelTimer, type Clock, type Random, toHex } from '#base'
import type { Attachment } from '../command.ts'
import {
  TRANSFER_MS_MAX,
  TRANSFER_OFFER_MS_MAX,
  TRANSFERS_OFFERED_MAX,
  TRANSFERS_OFFERED_PER_PEER_MAX,
} from '../limits.ts'
import { TransferError } from '../transfer-errors.ts'
import type { Digest } from './digest.ts'
import { TRANSFER_ID_BYTES } from './messages.ts'

/**
 * What became of an offer.
 * - `delivered`: the peer has all of it and has checked the digest.
 * - `refused`: the peer does not want it, or not any more.
 * - `expired`: nobody fetched it in time, or not to its end.
 * - `withdrawn`: this node took it back.
 */
export type OfferOutcome = 'delivered' | 'refused' | 'expired' | 'withdrawn'

export type Offer = {
  readonly id: Uint8Array
  readonly peer: string
  readonly attachment: Attachment
  readonly digest: Digest
}

type Held = Offer & {
  readonly onSettled: ((outcome: OfferOutcome) => void) | undefined
  readonly cancelDeadline: CancelTimer
  /** Set while no stream serves the offer. */
  cancelExpiry: CancelTimer | undefined
  /** Ends the stream that serves it. */
  serving: AbortController | undefined
}

export class Offers {
  readonly #clock: Clock
  readonly #random: Random
  readonly #held = new Map<string, Held>()

  constructor(deps: { readonly clock: Clock; readonly random: Random }) {
    this.#clock = deps.clock
    this.#random = deps.random
  }

  /** @throws TransferError TRANSFER_BUSY */
  checkRoom(peer: string): void {
    const ofPeer = [...this.#held.values()].filter(held => held.peer === peer).length
    if (this.#held.size < TRANSFERS_OFFERED_MAX && ofPeer < TRANSFERS_OFFERED_PER_PEER_MAX) return
    throw new TransferError(
      { code: 'TRANSFER_BUSY', retryAfterMs: TRANSFER_OFFER_MS_MAX / 10 },
      'too many attachments wait to be fetched; fetch or wait',
    )
  }

  /** @returns the id, 16 random bytes @throws TransferError TRANSFER_BUSY */
  add(offer: Omit<Offer, 'id'>, onSettled?: (outcome: OfferOutcome) => void): Uint8Array {
    this.checkRoom(offer.peer)
    const id = this.#random.bytes(TRANSFER_ID_BYTES)
    const held: Held = {
      ...offer,
      id,
      onSettled,
      cancelDeadline: this.#clock.after(TRANSFER_MS_MAX, () => this.settle(held, 'expired')),
      cancelExpiry: undefined,
      serving: undefined,
    }
    this.#held.set(toHex(id), held)
    this.#rest(held)
    return id
  }

  /** Undefined: no such offer, or not to this peer, which are the same to the peer. */
  find(id: Uint8Array, peer: string): Offer | undefined {
    const held = this.#held.get(toHex(id))
    return held?.peer === peer ? held : undefined
  }

  /**
   * A stream begins to serve the offer. One that served it before is ended: its receiver has lost it, or would have
   * no use for two.
   * @returns aborts when the stream shall end, and is to be given back to `end`
   */
  begin(offer: Offer): AbortController {
    const serving = new AbortController()
    const held = this.#held.get(toHex(offer.id))
    if (held === undefined) {
      serving.abort(new Error('the offer is over'))
      return serving
    }
    held.serving?.abort(new Error('another stream took over'))
    held.serving = serving
    held.cancelExpiry?.()
    held.cancelExpiry = undefined
    return serving
  }

  /** The stream has ended. The offer goes on for a while, unless it was settled. */
  end(offer: Offer, serving: AbortController): void {
    const held = this.#held.get(toHex(offer.id))
    if (held === undefined || held.serving !== serving) return
    held.serving = undefined
    this.#rest(held)
  }

  /** The offer is over. Idempotent. */
  settle(offer: Offer, outcome: OfferOutcome): void {
    const key = toHex(offer.id)
    const held = this.#held.get(key)
    if (held === undefined) return
    this.#held.delete(key)
    held.cancelDeadline()
    held.cancelExpiry?.()
    held.serving?.abort(new Error(`the offer is ${outcome}`))
    void release(held.attachment)
    held.onSettled?.(outcome)
  }

  /** Takes back everything that was offered to these peers; without a peer, to all. */
  withdraw(peer?: string): void {
    for (const held of this.#held.values()) {
      if (peer === undefined || held.peer === peer) this.settle(held, 'withdrawn')
    }
  }

  #rest(held: Held): void {
    held.cancelExpiry = this.#clock.after(TRANSFER_OFFER_MS_MAX, () => this.settle(held, 'expired'))
  }
}

/** Gives back what an attachment holds. Never rejects. */
export async function release(attachment: Attachment): Promise<void> {
  try {
    await attachment.release()
  } catch {
    // What cannot be removed now is removed at the next start; whoever waited for the attachment is done with it.
  }
}
