/** What the rest of the node sees of relaying. */

/** `on`: relay for others; `off`: never; `auto`: as soon as this node is known to be reachable from outside. */
export type RelayMode = 'on' | 'off' | 'auto'

/**
 * Bytes that were passed on for a peer, as their sender. The relay keeps these counts so that relaying can be paid for:
 * whoever settles reads them from `Host.relay.status()`. Nothing is charged here.
 */
export type RelayedBytes = { readonly peer: string; readonly bytes: number }

/** What this node does for others. */
export type RelayServing = {
  readonly isServing: boolean
  readonly slots: number
  readonly slotsFree: number
  /** Bytes passed on since the start. */
  readonly bytes: number
  /** Whose reservations are held here; `since` is Clock.monotonic(). */
  readonly reservations: readonly { readonly peer: string; readonly since: number }[]
  readonly circuits: readonly { readonly from: string; readonly to: string }[]
  /** The peers of the last 256 that sent something. */
  readonly peers: readonly RelayedBytes[]
}

/** A reservation of ours. */
export type HeldReservation = {
  readonly relay: string
  /** Round-trip time of the last measurements, in milliseconds; undefined: not measured yet. */
  readonly rttMs?: number
  /** The smaller the better; see `docs/reference/relay.md`. */
  readonly score: number
  /** Clock.monotonic() of its making. */
  readonly since: number
}

/** A circuit that ends here. */
export type OwnCircuit = {
  readonly peer: string
  readonly relay: string
  readonly direction: 'inbound' | 'outbound'
  readonly bytesIn: number
  readonly bytesOut: number
}

/** How this node uses relays and is one. */
export type RelayStatus = {
  readonly serving: RelayServing
  readonly held: readonly HeldReservation[]
  readonly circuits: readonly OwnCircuit[]
}

export interface HostRelay {
  status(): RelayStatus
  /** Our own addresses through relays, while reservations are held; they end in our peer id. */
  addresses(): readonly string[]
  /** Hears whenever `addresses()` has changed: what was published of them is no longer so. */
  onAddresses(listener: () => void): void
  /** Say so when it has become known, or has changed, whether others can dial this node: `HostDeps.isPublic` is asked again. */
  reachabilityChanged(): void
}
