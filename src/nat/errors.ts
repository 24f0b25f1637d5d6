/** What can go wrong while a node finds out about its network and gets through it. */
import { KoinonError } from '#base'

export type NatFault =
  /** The UDP socket could not be had: the address or port is taken or not ours. */
  | { readonly code: 'NAT_SOCKET_FAILED' }
  /** No gateway maps ports, or none that answered would. `reasons` has a line for each way that was tried. */
  | { readonly code: 'NAT_MAPPING_FAILED'; readonly reasons: readonly string[] }
  /** The port mapper holds as many mappings as it may. */
  | { readonly code: 'NAT_MAPPINGS_FULL'; readonly mappingsMax: number }
  /** What the other side sent is no description of an ICE agent. */
  | { readonly code: 'NAT_ICE_DESCRIPTION_INVALID' }
  /** A call that comes too early, or twice. */
  | { readonly code: 'NAT_ICE_STATE'; readonly state: string }
  /** No pair of candidates connects the two sides. */
  | { readonly code: 'NAT_ICE_FAILED' }
  /** More bytes than one datagram may have. */
  | { readonly code: 'NAT_DATAGRAM_SIZE'; readonly bytes: number; readonly bytesMax: number }
  /** The thing was closed or stopped. */
  | { readonly code: 'NAT_CLOSED' }

export class NatError extends KoinonError<NatFault> {
  override readonly name = 'NatError'
}

export function closed(what: string): NatError {
  return new NatError({ code: 'NAT_CLOSED' }, `${what} has been closed`)
}
