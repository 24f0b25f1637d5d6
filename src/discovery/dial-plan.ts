/**
 * How a peer is to be reached (NET-16): over a connection that is there; else as its own metadata says, directly where it
 * is public, by its relay where it is behind NAT, and not at all where it has no relay, until its metadata changes.
 * A record that the peer has signed stands in where there is no metadata.
 */
import { DIAL_ADDRESSES_MAX } from './limits.ts'
import { addressesOfPlace, type VersionedMetadata } from './peer-metadata.ts'

export type DialPlan =
  /** There is a connection. */
  | { readonly kind: 'reuse' }
  /** Multiaddrs to try, the best first. */
  | { readonly kind: 'direct'; readonly addresses: readonly string[] }
  | { readonly kind: 'relay'; readonly relay: string; readonly addresses: readonly string[] }
  | {
      readonly kind: 'skip'
      readonly reason: /** Behind NAT, and no relay holds it. */
        | 'no-relay'
        /** Neither metadata nor a record says where it is. */
        | 'unknown'
      /** Number of the metadata that this follows from: another one is another plan. */
      readonly sequence?: number
    }

export type DialFacts = {
  readonly isConnected: boolean
  /** Checked. */
  readonly found?: VersionedMetadata | undefined
  /** Multiaddrs that the peer has signed in a record. */
  readonly recordAddresses: readonly string[]
  /** The IP address that the world sees us at: who has the same may be in our own network. */
  readonly ownPublicHost?: string | undefined
}

export function planDial(peer: string, facts: DialFacts): DialPlan {
  const { isConnected, found, recordAddresses, ownPublicHost } = facts
  if (isConnected) return { kind: 'reuse' }
  if (found === undefined) {
    const addresses = recordAddresses.slice(0, DIAL_ADDRESSES_MAX)
    return addresses.length > 0 ? { kind: 'direct', addresses } : { kind: 'skip', reason: 'unknown' }
  }
  const { nodeType, publicPlace, privatePlace, relay, addresses: further } = found.metadata
  const isNeighbour = ownPublicHost !== undefined && publicPlace?.host === ownPublicHost
  const near = isNeighbour && privatePlace !== undefined ? addressesOfPlace(privatePlace, peer) : []
  if (nodeType === 'public') {
    const place = publicPlace === undefined ? [] : addressesOfPlace(publicPlace, peer)
    const addresses = few([...near, ...place, ...further.map(address => endingIn(address, peer))])
    return addresses.length > 0
      ? { kind: 'direct', addresses }
      : { kind: 'skip', reason: 'unknown', sequence: found.sequence }
  }
  if (relay !== undefined) {
    const circuit = `${endingIn(relay.address, relay.peer)}/p2p-circuit/p2p/${peer}`
    return { kind: 'relay', relay: relay.peer, addresses: few([...near, circuit]) }
  }
  if (near.length > 0) return { kind: 'direct', addresses: few(near) }
  return { kind: 'skip', reason: 'no-relay', sequence: found.sequence }
}

/** The address with the peer's id at its end. That of a circuit names its relay before, whether it names the peer or not. */
export function endingIn(address: string, peer: string): string {
  return /\/p2p\/[^/]+$/.test(address) ? address : `${address}/p2p/${peer}`
}

function few(addresses: readonly string[]): string[] {
  return [...new Set(addresses)].slice(0, DIAL_ADDRESSES_MAX)
}
