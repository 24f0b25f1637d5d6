/** What can go wrong with attachments that travel in chunks. */
import { KoinonError } from '#base'

export type TransferFault =
  /** The attachment is larger than its reader takes, or larger than 4 GiB. */
  | { readonly code: 'TRANSFER_TOO_LARGE'; readonly sizeBytes: number; readonly maxBytes: number }
  /** As many attachments are offered, or fetched, as this node bears. */
  | { readonly code: 'TRANSFER_BUSY'; readonly retryAfterMs: number }
  /** Unfinished attachments take all the room that the node's owner gives them. */
  | { readonly code: 'TRANSFER_QUOTA'; readonly neededBytes: number; readonly quotaBytes: number }
  /** The disk is full. What has arrived is kept, so that asking again later goes on from there. */
  | { readonly code: 'TRANSFER_DISK_FULL'; readonly neededBytes: number }
  /** What has arrived cannot be written or read. */
  | { readonly code: 'TRANSFER_STORE' }
  /** The peer does not offer it to us: it never did, the time is over, or it was started again. */
  | { readonly code: 'TRANSFER_UNKNOWN'; readonly peer: string }
  /** The stream was lost again and again, with nothing new between. What has arrived is kept. */
  | { readonly code: 'TRANSFER_LOST'; readonly peer: string }
  /** The peer, or this node, could not read what it had offered. */
  | { readonly code: 'TRANSFER_SOURCE' }
  /** The peer broke the rules of the protocol. */
  | { readonly code: 'TRANSFER_PROTOCOL'; readonly peer: string }
  /** The bytes are not those that the peer announced. */
  | { readonly code: 'TRANSFER_CORRUPT'; readonly peer: string }
  /** The node is going down. */
  | { readonly code: 'TRANSFER_STOPPED' }

export class TransferError extends KoinonError<TransferFault> {
  override readonly name = 'TransferError'
}

/** Whether the error is something that only a peer with a fault or bad intent causes: worth a penalty. */
export function isPeerToBlame(error: unknown): boolean {
  return error instanceof TransferError && (error.code === 'TRANSFER_PROTOCOL' || error.code === 'TRANSFER_CORRUPT')
}
