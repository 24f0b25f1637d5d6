/** One side will not talk to the other. The reason crosses the wire, so that both sides can say it. */
import { KoinonError } from '#base'
import type { RefusalReason } from '#wire'

export type RefusalFault = {
  readonly code: 'PROTOCOL_REFUSED'
  readonly reason: RefusalReason
  readonly by: 'us' | 'peer'
  /** With `version`: what the refusing side speaks. */
  readonly versions?: readonly number[]
  /** With `backoff` and `banned`. */
  readonly retryAfterMs?: number
}

export class Refusal extends KoinonError<RefusalFault> {
  override readonly name = 'Refusal'
}

/** What a refused peer is told beside the reason. */
export type RefusalFacts = { readonly retryAfterMs?: number }

/** We refuse. `what` is for our own log; the peer hears the reason alone. */
export function refusal(reason: RefusalReason, what: string, facts: RefusalFacts = {}): Refusal {
  return new Refusal({ code: 'PROTOCOL_REFUSED', reason, by: 'us', ...facts }, what)
}
