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

/**
 * What a peer, or something that it has published, did wrong: metadata that does not parse or is not its own; a message
 * that does not parse or is out of turn; ids that do not follow from the key; a peer record that does not hold; an
 * announcement that does not hold, or two under one number; more messages than a peer may send.
 */
export type PeerFault = {
  readonly code:
    | 'DISCOVERY_METADATA_MALFORMED'
    | 'DISCOVERY_METADATA_SIGNER'
    | 'DISCOVERY_MALFORMED'
    | 'DISCOVERY_IDENTITY'
    | 'DISCOVERY_RECORD'
    | 'DISCOVERY_ANNOUNCEMENT'
    | 'DISCOVERY_ANNOUNCEMENT_CONFLICT'
    | 'DISCOVERY_FLOOD'
  /** For people. */
  readonly what: string
}

export function stopped(): DiscoveryError {
  return new DiscoveryError({ code: 'DISCOVERY_STOPPED' }, 'discovery is not running')
}

export function isFault(value: object): value is PeerFault {
  return 'code' in value && 'what' in value
}
