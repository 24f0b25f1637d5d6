/** What can go wrong while a node finds out whether it can be reached. */
import { KoinonError } from '#base'

export type ReachFault =
  /** A peer would not dial back, or could not be asked. */
  { readonly code: 'REACH_DIAL_BACK_REFUSED'; readonly peer: string; readonly reason: string }

export class ReachError extends KoinonError<ReachFault> {
  override readonly name = 'ReachError'
}
