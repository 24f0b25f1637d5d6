/** What can go wrong for those who use the Mainline DHT. What peers send wrongly is answered, and never thrown. */
import { KoinonError } from '#base'

export type MainlineFault =
  /** A UDP socket could not be had: the address is taken, or not ours. */
  | { readonly code: 'MAINLINE_LISTEN_FAILED'; readonly host: string }
  /** Not `host:port` or `[host]:port`, or a number that is no port. */
  | { readonly code: 'MAINLINE_ADDRESS_INVALID' }
  /** An info hash or target of a size other than 20 bytes, or a key of a size other than 32. */
  | { readonly code: 'MAINLINE_KEY_INVALID' }
  /** The value cannot be stored: no bencode, 1000 bytes or more, or a salt or sequence number out of range. */
  | { readonly code: 'MAINLINE_VALUE_INVALID' }
  /** The network holds a value that is newer, or another one of the same number. */
  | { readonly code: 'MAINLINE_ITEM_NEWER'; readonly seq: number }
  /** Too many lookups at once. */
  | { readonly code: 'MAINLINE_BUSY' }
  /** The node has not been started, or has been stopped. */
  | { readonly code: 'MAINLINE_STOPPED' }

export class MainlineError extends KoinonError<MainlineFault> {
  override readonly name = 'MainlineError'
}

export function stopped(): MainlineError {
  return new MainlineError({ code: 'MAINLINE_STOPPED' }, 'the Mainline DHT node is not running')
}
