/** What can go wrong in discovery: for those who use it, and what peers do wrong (which is returned, never thrown). */
import { KoinonError } from '#base'

export type DiscoveryFault =
  /** It has not been started, or has been stopped. */
  | { readonly code: 'DISCOVERY_STOPPED' }
  /** Too many searches, or queries for metadata, at once. */
  | { readonly code: 'DISCOVERY_BUSY' }
  /** A name of a service, or the facts about this node, cannot be announced. */
  | { readonly code: 'DISCOVERY_ANNOUNCEMENT_INVALID' }
  /** The network holds newer metadata of this node than what was to be published. */
  | { readonly code: 'DISCOVERY_METADATA_NEWER'; readonly sequence: number }

/** The error of everything in this module. */
export class DiscoveryError extends KoinonError<DiscoveryFault> {
  override readonly name = 'DiscoveryError'
}

/** What a peer, or something that a peer has published, did wrong. */
export type PeerFault = {
  readonly code: /** Metadata that does not parse, or contradicts itself. */
    | 'DISCOVERY_METADATA_MALFORMED'
    /** Metadata under another key, or not signed by it. */
    | 'DISCOVERY_METADATA_SIGNER'
    /** A message that does not parse, is too long, or is out of turn. */
    | 'DISCOVERY_MALFORMED'
    /** Ids that do not follow from the key, or a key that is not the peer's. */
    | 'DISCOVERY_IDENTITY'
    /** A signed peer record that does not hold. */
    | 'DISCOVERY_RECORD'
    /** An announcement that is malformed, not signed by its peer, or good for too long. */
    | 'DISCOVERY_ANNOUNCEMENT'
    /** Two announcements of one peer with the same number and different contents. */
    | 'DISCOVERY_ANNOUNCEMENT_CONFLICT'
    /** More messages than a peer may send. */
    | 'DISCOVERY_FLOOD'
  /** For people. */
  readonly what: string
}

export function stopped(): DiscoveryError {
  return new DiscoveryError({ code: 'DISCOVERY_STOPPED' }, 'discovery is not running')
}

export function isFault<T extends object>(value: T | PeerFault): value is PeerFault {
  return 'code' in value && 'what' in value
}
