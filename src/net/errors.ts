/** What can go wrong between this node and its peers. */
import { KoinonError } from '#base'
import type { RefusalReason, RelayCut, RelayRefusal } from '#wire'

export type NetFault =
  /** The listen addresses could not be had: taken, not ours, or not allowed. */
  | { readonly code: 'NET_LISTEN_FAILED' }
  /** Not a multiaddr that this host can use. */
  | { readonly code: 'NET_ADDRESS_INVALID'; readonly address: string }
  /** No address of the peer led to a connection. */
  | { readonly code: 'NET_DIAL_FAILED'; readonly peer?: string }
  /** Somebody else answered at the peer's address. */
  | { readonly code: 'NET_WRONG_PEER'; readonly expected: string; readonly actual: string }
  /** One side refused the other; `by` says which. */
  | {
      readonly code: 'NET_NOT_ADMITTED'
      readonly peer: string
      readonly reason: RefusalReason
      readonly by: 'us' | 'peer'
    }
  /** The two sides speak different revisions of the hello protocol. */
  | { readonly code: 'NET_VERSION'; readonly peer: string; readonly by: 'us' | 'peer' }
  /** No connection to the peer, and no address to dial. */
  | { readonly code: 'NET_PEER_UNKNOWN'; readonly peer: string }
  /** The peer does not serve the protocol, or refused the stream. */
  | { readonly code: 'NET_PROTOCOL_REFUSED'; readonly peer: string; readonly protocol: string }
  /** The connection ended while it was needed. */
  | { readonly code: 'NET_CONNECTION_LOST'; readonly peer: string }
  /** Nobody was reached there lately, so it is left alone for a while. `key`: a peer id or an address. */
  | { readonly code: 'NET_PEER_RESTING'; readonly key: string; readonly retryAfterMs: number }
  /** A setting that does not exist, or a value that it does not take. */
  | { readonly code: 'NET_SETTINGS_INVALID'; readonly setting?: string }
  /** There is a list of peers that are allowed, and this one is not on it. */
  | { readonly code: 'NET_PEER_NOT_ALLOWED'; readonly peer: string }
  /** QUIC was asked for and cannot be had here. */
  | { readonly code: 'NET_QUIC_MISSING'; readonly reason: string }
  /** A relay, or the peer behind it, did not give what it was asked for. */
  | {
      readonly code: 'NET_RELAY_REFUSED'
      readonly relay: string
      readonly reason: RelayRefusal
      readonly retryAfterMs?: number
    }
  /** The relay ended a circuit: it carried as much, or stood as long, as it may, or an end of it is gone. */
  | { readonly code: 'NET_RELAY_CUT'; readonly relay: string; readonly peer: string; readonly reason: RelayCut }
  /** This node was told to relay for others, and others cannot reach it. */
  | { readonly code: 'NET_RELAY_NOT_PUBLIC' }
  /** The host has not been started, or has been stopped. */
  | { readonly code: 'NET_STOPPED' }

export class NetError extends KoinonError<NetFault> {
  override readonly name = 'NetError'
}

export function lost(peer: string): NetError {
  return new NetError({ code: 'NET_CONNECTION_LOST', peer }, 'the connection to the peer was lost')
}

export function stopped(): NetError {
  return new NetError({ code: 'NET_STOPPED' }, 'the network host has been stopped')
}

export function resting(key: string, retryAfterMs: number): NetError {
  const waitS = Math.max(1, Math.ceil(retryAfterMs / 1000))
  const what = key.startsWith('/') ? 'the address' : 'the peer'
  const sentence = `${what} could not be reached several times and is left alone; it is tried again in ${waitS} s`
  return new NetError({ code: 'NET_PEER_RESTING', key, retryAfterMs }, sentence)
}
