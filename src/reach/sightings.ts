/** What the connected peers see of us and offer us: where they see this node, and their STUN servers. */
import type { Clock } from '#base'
import type { Endpoint } from '#nat'
import type { Peer } from '#net'
import { decodePlace, keyOfPlace, type Place } from './address.ts'
import { CANDIDATES_MAX } from './limits.ts'
import { Votes } from './votes.ts'

/** STUN servers of peers that are handed on; a detection asks at most so many. */
const SERVERS_MAX = 8

export class Sightings {
  readonly #isUsable: (ip: string) => boolean
  /** A peer reaches us over one family, so each family is voted on by itself. */
  readonly #votes: { readonly v4: Votes; readonly v6: Votes }
  #dialled: readonly Place[] = []
  #servers: readonly Endpoint[] = []

  constructor(deps: { readonly clock: Clock }, options: { readonly isUsable: (ip: string) => boolean }) {
    this.#isUsable = options.isUsable
    this.#votes = { v4: new Votes(deps), v6: new Votes(deps) }
  }

  /** Hears all peers again: votes of those that are connected do not age. */
  look(peers: readonly Peer[]): void {
    const dialled = new Map<string, Place>()
    const servers = new Map<string, Endpoint>()
    for (const { remoteAddress = '', observedAddress = '', direction, offer } of peers) {
      const there = decodePlace(remoteAddress)
      const here = decodePlace(observedAddress)
      if (there === undefined || !this.#isUsable(there.ip)) continue
      if (offer.stunPort !== undefined && servers.size < SERVERS_MAX && !there.ip.includes(':')) {
        servers.set(there.ip, { address: there.ip, port: offer.stunPort })
      }
      // A peer behind our own NAT sees us from within.
      if (here === undefined || !this.#isUsable(here.ip) || here.ip === there.ip) continue
      this.#votes[here.ip.includes(':') ? 'v6' : 'v4'].cast(there.ip, here.ip)
      if (direction === 'inbound' && dialled.size < CANDIDATES_MAX) dialled.set(keyOfPlace(here), here)
    }
    this.#dialled = [...dialled.values()]
    this.#servers = [...servers.values()]
  }

  /** Whether the peer has a STUN server that is not known yet. */
  isNews({ remoteAddress = '', offer }: Peer): boolean {
    if (offer.stunPort === undefined) return false
    const ip = decodePlace(remoteAddress)?.ip
    return !this.#servers.some(({ address, port }) => address === ip && port === offer.stunPort)
  }

  /** IP addresses at which peers in several networks see us. */
  agreed(): readonly string[] {
    return [...this.#votes.v4.agreed().slice(0, 1), ...this.#votes.v6.agreed().slice(0, 1)]
  }

  /** Places at which peers say to have dialled us. */
  dialled(): readonly Place[] {
    return this.#dialled
  }

  stunServers(): readonly Endpoint[] {
    return this.#servers
  }

  clear(): void {
    this.#votes.v4.clear()
    this.#votes.v6.clear()
  }
}
