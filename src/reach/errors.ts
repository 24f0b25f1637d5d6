/** What can go wrong while a node finds out whether it can be reached. */
import { KoinonError } from '#base'

export type ReachFault =
  /** Only a node that others are known to reach may relay for others. */
  | { readonly code: 'REACH_NOT_PUBLIC' }
  /** A peer would not dial back, or could not be asked. */
  | { readonly code: 'REACH_DIAL_BACK_REFUSED'; readonly peer: string; readonly reason: string }

export class ReachError extends KoinonError<ReachFault> {
  override readonly name = 'ReachError'
}
