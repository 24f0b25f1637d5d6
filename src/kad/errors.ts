/** What can go wrong for those who use Kademlia. What peers send wrongly is refused, and never thrown at the caller. */
import { KoinonError } from '#base'

export type KadFault =
  /** It has not been mounted and started, or has been stopped. */
  | { readonly code: 'KAD_STOPPED' }
  /** Nobody is in the routing table, and nobody came in time. */
  | { readonly code: 'KAD_NO_PEERS' }
  /** The operation did not end in time, and found nothing until then. */
  | { readonly code: 'KAD_TIMEOUT'; readonly timeoutMs: number }
  /** Too many operations at once. */
  | { readonly code: 'KAD_BUSY' }
  /** A key that is none: of the wrong form, size or kind. */
  | { readonly code: 'KAD_KEY_INVALID' }
  /** A record that must not be used. `reason` is for people. */
  | { readonly code: 'KAD_RECORD_INVALID'; readonly reason: string }
  /** A record whose end has come, or that would be good for too long. */
  | { readonly code: 'KAD_RECORD_EXPIRED' }
  /** A record that is older than one that was seen, or another with the same number. */
  | { readonly code: 'KAD_RECORD_ROLLBACK'; readonly sequence: number; readonly seen: number }
  /** Fewer peers than asked for have taken the value. */
  | { readonly code: 'KAD_QUORUM'; readonly acknowledged: number; readonly quorum: number }
  /** Nobody knows a value of that key, or that peer. */
  | { readonly code: 'KAD_NOT_FOUND' }
  /** As much of our own is announced as may be. */
  | { readonly code: 'KAD_FULL' }
  /** A peer may not be in the routing table: not admitted, or its group of addresses has its share. */
  | { readonly code: 'KAD_PEER_REFUSED'; readonly reason: 'gate' | 'group-table' | 'group-bucket' | 'busy' | 'asked' }
  /** None of the nodes given answered in as many rounds. */
  | { readonly code: 'KAD_BOOTSTRAP_FAILED'; readonly rounds: number }
  /** No solution was found in as many tries as are made. */
  | { readonly code: 'KAD_PUZZLE_UNSOLVED'; readonly tries: number }

export class KadError extends KoinonError<KadFault> {
  override readonly name = 'KadError'
}

export function keyInvalid(): KadError {
  return new KadError({ code: 'KAD_KEY_INVALID' }, 'not a key of the DHT')
}
