/** How a node uses relays and is one, as the surfaces show it. */

/** `on`: relay for others; `off`: never; `auto`: as soon as this node is known to be reachable from outside. */
export type RelayMode = 'on' | 'off' | 'auto'

/**
 * Bytes that were passed on for a peer, as their sender. The relay keeps these counts so that relaying can be paid for:
 * whoever settles reads them. Nothing is charged here.
 */
export type RelayedBytes = { readonly peer: string; readonly bytes: number }

/** What a node does for others. */
export type RelayServing = {
  readonly isServing: boolean
  readonly slots: number
  readonly slotsFree: number
  /** Bytes passed on since the start. */
  readonly bytes: number
  /** Whose reservations are held here, and for how long. */
  readonly reservations: readonly { readonly peer: string; readonly ageMs: number }[]
  readonly circuits: readonly { readonly from: string; readonly to: string }[]
  /** The peers of the last 256 that sent something. */
  readonly peers: readonly RelayedBytes[]
}

/** A reservation of ours. */
export type HeldReservation = {
  readonly relay: string
  /** As the relay names it: 32 hexadecimal digits. */
  readonly session: string
  /** Mean round-trip time of the last measurements, in milliseconds; undefined: not measured yet. */
  readonly rttMs?: number
  /** The smaller the better; see `docs/reference/relay.md`. */
  readonly score: number
  readonly ageMs: number
}

/** A circuit that ends here. */
export type OwnCircuit = {
  readonly peer: string
  readonly relay: string
  readonly direction: 'inbound' | 'outbound'
  readonly bytesIn: number
  readonly bytesOut: number
}

export type RelayStatus = {
  readonly serving: RelayServing
  readonly held: readonly HeldReservation[]
  readonly circuits: readonly OwnCircuit[]
}

/** What a peer is to this node where one of them relays. */
export type PeerRelay = {
  /** What it offers to relay: places, and how many are free. */
  readonly slots?: number
  readonly slotsFree?: number
  /** Whether we hold a reservation there, and whether it holds one here. */
  readonly isOurs: boolean
  readonly isHere: boolean
  /** Circuits of the peer through this node. */
  readonly circuits: number
  /** Bytes that this node has passed on for the peer. */
  readonly bytes: number
}
