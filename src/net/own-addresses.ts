/** Where others can dial this host: what it listens at, and the circuits through the relays that it holds. */
import type { Multiaddr } from '@multiformats/multiaddr'
import { PEER_ADDRESSES_MAX } from '#wire'
import { decodeAddress, isLoopback, ownAddress } from './address.ts'
import { EXTERNAL_ADDRESSES_MAX } from './limits.ts'

/** Every interface. */
const WILDCARDS: ReadonlySet<string> = new Set(['0.0.0.0', '::'])

export type OwnAddressesDeps = {
  readonly self: string
  /** What the listeners are bound to, wildcards expanded. */
  readonly listening: () => readonly Multiaddr[]
  /** Circuits that lead here, as multiaddrs that end in our peer id. */
  readonly relayed: () => readonly string[]
}

export class OwnAddresses {
  readonly #deps: OwnAddressesDeps
  /** Hosts of the addresses that were asked for. */
  readonly hosts: readonly string[]
  /** Ports of TCP that were asked for. */
  readonly ports: ReadonlySet<number>
  #external: readonly string[] = []

  /** @param listen the addresses that were asked for */
  constructor(deps: OwnAddressesDeps, listen: readonly string[]) {
    this.#deps = deps
    const addresses = listen.map(decodeAddress).filter(address => address !== undefined)
    this.hosts = [...new Set(addresses.map(({ host }) => host))]
    const components = addresses.flatMap(({ target }) => target.getComponents())
    this.ports = new Set(components.filter(({ name }) => name === 'tcp').map(({ value }) => Number(value)))
  }

  /** All of them, as multiaddrs that end in our peer id. */
  all(): string[] {
    return this.withRelays(this.direct())
  }

  /** Those that lead here without a relay: first what the world outside dials. */
  direct(): string[] {
    return [...new Set([...this.#external, ...this.listening()])]
  }

  /** What others reach this host at, as its owner says or others have proved. @throws NetError NET_ADDRESS_INVALID */
  setExternal(addresses: readonly string[]): void {
    const own = addresses.map(address => ownAddress(address, this.#deps.self))
    this.#external = [...new Set(own)].slice(0, EXTERNAL_ADDRESSES_MAX)
  }

  listening(): string[] {
    const { self, listening } = this.#deps
    const all = listening().map(target => `${target.toString()}/p2p/${self}`)
    const decoded = all.map(decodeAddress).filter(address => address !== undefined)
    // A wildcard has become every interface; nobody else can use the loopback one.
    const distant = decoded.filter(address => !isLoopback(address))
    const useful = distant.length > 0 && this.hosts.some(host => WILDCARDS.has(host)) ? distant : decoded
    return useful.map(address => address.text).slice(0, PEER_ADDRESSES_MAX)
  }

  /** The addresses with those through the relays that are held now, and with no other such. */
  withRelays(addresses: readonly string[]): string[] {
    const relayed = this.#deps.relayed()
    const own = addresses.filter(address => !address.includes('/p2p-circuit'))
    return [...own.slice(0, PEER_ADDRESSES_MAX - relayed.length), ...relayed]
  }
}
