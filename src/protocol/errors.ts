/** What can go wrong with commands: on the side that answers, on the side that asks, and in the registry. */
import { KoinonError } from '#base'

export type ProtocolFault =
  // Refusals and failures of a request; they cross the wire.
  /** No command has this type or name here. */
  | { readonly code: 'PROTOCOL_UNKNOWN_TYPE' }
  /** The caller has not the right to give the command. */
  | { readonly code: 'PROTOCOL_NOT_AUTHORISED' }
  /** The caller asks more often, or sends more bytes, than it may. */
  | { readonly code: 'PROTOCOL_RATE_LIMITED'; readonly retryAfterMs: number }
  /** As many requests run and wait as this node takes, or takes from one peer. */
  | { readonly code: 'PROTOCOL_BUSY'; readonly retryAfterMs: number }
  /** The id belongs to another request of the same caller. */
  | { readonly code: 'PROTOCOL_DUPLICATE_ID' }
  /** The request was sent again, and what it answered the first time is no longer kept. */
  | { readonly code: 'PROTOCOL_ANSWER_LOST' }
  /** The body breaks the command's schema at `path`. */
  | { readonly code: 'PROTOCOL_BAD_REQUEST'; readonly path: string }
  | { readonly code: 'PROTOCOL_ATTACHMENT_SIZE'; readonly sizeBytes: number; readonly maxBytes: number }
  | { readonly code: 'PROTOCOL_DEADLINE'; readonly deadlineMs: number }
  | { readonly code: 'PROTOCOL_CANCELLED' }
  /** The node is going down. */
  | { readonly code: 'PROTOCOL_STOPPING' }
  /** A bug of the side that answers. */
  | { readonly code: 'PROTOCOL_INTERNAL' }
  // Of the side that asks.
  /** The peer answered with an error; `remoteCode` is its code. */
  | {
      readonly code: 'PROTOCOL_REMOTE'
      readonly peer: string
      readonly remoteCode: string
      readonly retryAfterMs?: number
    }
  /** The answer breaks the command's schema, or its events have a gap. */
  | { readonly code: 'PROTOCOL_BAD_RESPONSE'; readonly peer: string }
  /** The connection ended and did not come back in time. */
  | { readonly code: 'PROTOCOL_CONNECTION_LOST'; readonly peer: string }
  /** As many requests wait for answers as this node keeps. */
  | { readonly code: 'PROTOCOL_REQUESTS_FULL'; readonly pending: number }
  /** Events came faster than their caller takes them. */
  | { readonly code: 'PROTOCOL_EVENTS_UNREAD'; readonly unread: number }
  // Of the registry and of plug-ins.
  | { readonly code: 'PROTOCOL_COMMAND_INVALID'; readonly command: string }
  /** The type or the name belongs to another command. */
  | { readonly code: 'PROTOCOL_COMMAND_TAKEN'; readonly command: string }
  | { readonly code: 'PROTOCOL_PLUGIN_INVALID'; readonly file: string }

export class ProtocolError extends KoinonError<ProtocolFault> {
  override readonly name = 'ProtocolError'
}
