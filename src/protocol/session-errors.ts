/** What a session itself cannot do. What a peer's frame may do wrong is a value, `SessionFault` (`types.ts`). */
import { KoinonError } from '#base'

export type SessionErrorFault =
  /** The session, or the channel in it, has ended: its keys are gone. */
  | { readonly code: 'PROTOCOL_SESSION_CLOSED' }
  /** Every number of a counter was used: keys, or channels. A resumption starts all of them anew. */
  | { readonly code: 'PROTOCOL_SESSION_EXHAUSTED' }
  | { readonly code: 'PROTOCOL_MESSAGE_TOO_LONG'; readonly sizeBytes: number; readonly maxBytes: number }

export class SessionError extends KoinonError<SessionErrorFault> {
  override readonly name = 'SessionError'
}
