/** Who is to stay connected although nothing is said, and why. Holds are of peers, not of connections: paths change. */
import { HOLDS_MAX } from '../limits.ts'

/**
 * - `kept`: its address was given (`--peer`).
 * - `relay`: it relays for us, or we hold a place there.
 * - `stage`: it serves a stage of a model that we use, or uses ours.
 * - `discovery`: look-ups begin there.
 */
export type HoldReason = 'kept' | 'relay' | 'stage' | 'discovery'

export class Holds {
  /** How often each reason holds each peer. */
  readonly #held = new Map<string, Map<HoldReason, number>>()
  #count = 0

  /** @returns ends the hold, once; undefined: there are too many already */
  hold(peer: string, reason: HoldReason): (() => void) | undefined {
    if (this.#count >= HOLDS_MAX) return undefined
    this.#count++
    const reasons = this.#held.get(peer) ?? new Map<HoldReason, number>()
    this.#held.set(peer, reasons)
    reasons.set(reason, (reasons.get(reason) ?? 0) + 1)
    let isHeld = true
    return () => {
      if (isHeld) this.#release(peer, reason)
      isHeld = false
    }
  }

  of(peer: string): HoldReason[] {
    return [...(this.#held.get(peer)?.keys() ?? [])]
  }

  has(peer: string): boolean {
    return this.#held.has(peer)
  }

  #release(peer: string, reason: HoldReason): void {
    this.#count--
    const reasons = this.#held.get(peer)
    const count = (reasons?.get(reason) ?? 0) - 1
    if (count > 0) reasons?.set(reason, count)
    else reasons?.delete(reason)
    if (reasons?.size === 0) this.#held.delete(peer)
  }
}
