/**
 * Who holds a reservation at this relay and which circuits stand: the rules, without streams. A place is free again the
 * moment its holder is gone, so nobody waits for places that nobody uses.
 */
import { type Clock, type Random, toHex } from '#base'
import { RELAY_SESSION_BYTES, type RelayRefusal } from '#wire'
import {
  RELAY_CIRCUITS_MAX,
  RELAY_CIRCUITS_PER_PEER_MAX,
  RELAY_GROUP_MAX,
  RELAY_KEEPALIVE_MS,
  RELAY_KEEPALIVES_MISSED_MAX,
  RELAY_RESERVATION_MS,
  RELAY_RESERVATIONS_MAX,
  RELAY_TRUSTED_GROUP_MAX,
} from './limits.ts'

/** Somebody who asks, as the node knows it. */
export type Applicant = {
  readonly peer: string
  /** Those who share it share a bound: the network address that the peer comes from. */
  readonly group: string
  /** Whether the peer is more than a stranger. */
  readonly isTrusted: boolean
}

export type Reservation = Applicant & {
  /** What the holder goes by: 16 random bytes, and the same in hexadecimal digits. */
  readonly session: Uint8Array
  readonly id: string
  /** Clock.monotonic() of its making. */
  readonly since: number
}

export type Circuit = {
  readonly from: Applicant
  readonly to: Reservation
}

export type BookOptions = {
  readonly reservationsMax: number
  readonly circuitsMax: number
}

type Held = { readonly reservation: Reservation; expiresAt: number; heardAt: number }

/** Longer than this without a word, and the holder is gone. */
const SILENCE_MS = RELAY_KEEPALIVE_MS * (RELAY_KEEPALIVES_MISSED_MAX + 0.5)

export class RelayBook {
  readonly #clock: Clock
  readonly #random: Random
  readonly #options: BookOptions
  /** By peer: each has one. */
  readonly #held = new Map<string, Held>()
  readonly #circuits = new Set<Circuit>()

  constructor(deps: { readonly clock: Clock; readonly random: Random }, options: Partial<BookOptions> = {}) {
    this.#clock = deps.clock
    this.#random = deps.random
    this.#options = { reservationsMax: RELAY_RESERVATIONS_MAX, circuitsMax: RELAY_CIRCUITS_MAX, ...options }
  }

  get slots(): number {
    return this.#options.reservationsMax
  }

  get slotsFree(): number {
    return this.slots - this.#held.size
  }

  get reservations(): Reservation[] {
    return [...this.#held.values()].map(({ reservation }) => reservation)
  }

  get circuits(): ReadonlySet<Circuit> {
    return this.#circuits
  }

  /** A place for the applicant. One that it holds already ends: the holder has begun anew. */
  reserve(applicant: Applicant): Reservation | RelayRefusal {
    const others = [...this.#held.values()].filter(({ reservation }) => reservation.peer !== applicant.peer)
    if (others.length >= this.slots) return 'full'
    if (
      countOf(
        others.map(held => held.reservation),
        applicant,
      ) >= groupMax(applicant)
    )
      return 'per-group'
    const session = this.#random.bytes(RELAY_SESSION_BYTES)
    const now = this.#clock.monotonic()
    const reservation = { ...applicant, session, id: toHex(session), since: now }
    this.#held.set(applicant.peer, { reservation, expiresAt: now + RELAY_RESERVATION_MS, heardAt: now })
    return reservation
  }

  /** More time. False: it is not held any more. */
  renew(reservation: Reservation): boolean {
    const held = this.#find(reservation)
    if (held === undefined) return false
    held.expiresAt = this.#clock.monotonic() + RELAY_RESERVATION_MS
    return true
  }

  /** The holder has said something. False: the reservation is not held any more. */
  heard(reservation: Reservation): boolean {
    const held = this.#find(reservation)
    if (held === undefined) return false
    held.heardAt = this.#clock.monotonic()
    return true
  }

  /** Its place is free at once. Circuits that stand are left: they end with their own streams. */
  release(reservation: Reservation): void {
    if (this.#find(reservation) !== undefined) this.#held.delete(reservation.peer)
  }

  /** Milliseconds until this reservation lapses unless something is heard; 0: it has, or is not held any more. */
  lapsesInMs(reservation: Reservation): number {
    const held = this.#find(reservation)
    if (held === undefined) return 0
    return Math.max(0, Math.min(held.expiresAt, held.heardAt + SILENCE_MS) - this.#clock.monotonic())
  }

  /** The reservation of a peer, or of a session id. */
  find(target: {
    readonly peer?: string | undefined
    readonly session?: Uint8Array | undefined
  }): Reservation | undefined {
    if (target.peer !== undefined) return this.#held.get(target.peer)?.reservation
    const id = toHex(target.session ?? new Uint8Array(0))
    return this.reservations.find(reservation => reservation.id === id)
  }

  /** A place for a circuit, to be given back by `closed`. */
  open(from: Applicant, to: Reservation): Circuit | RelayRefusal {
    if (from.peer === to.peer) return 'loop'
    if (this.#circuits.size >= this.#options.circuitsMax) return 'full'
    const busy = [from.peer, to.peer].some(peer => this.circuitsOf(peer) >= RELAY_CIRCUITS_PER_PEER_MAX)
    if (busy) return 'per-peer'
    if (
      countOf(
        [...this.#circuits].map(circuit => circuit.from),
        from,
      ) >= groupMax(from)
    )
      return 'per-group'
    const circuit = { from, to }
    this.#circuits.add(circuit)
    return circuit
  }

  closed(circuit: Circuit): void {
    this.#circuits.delete(circuit)
  }

  circuitsOf(peer: string): number {
    return [...this.#circuits].filter(({ from, to }) => from.peer === peer || to.peer === peer).length
  }

  #find(reservation: Reservation): Held | undefined {
    const held = this.#held.get(reservation.peer)
    return held?.reservation === reservation ? held : undefined
  }
}

function countOf(all: readonly Applicant[], { group }: Applicant): number {
  return all.filter(other => other.group === group).length
}

function groupMax({ isTrusted }: Applicant): number {
  return isTrusted ? RELAY_TRUSTED_GROUP_MAX : RELAY_GROUP_MAX
}
