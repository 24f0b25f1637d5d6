/**
 * Which machines an origin may be reached at. A URL can come from somewhere else (a redirect, a peer), and this node stands
 * inside networks that the URL's author does not: so only public addresses are gone to, unless the owner allows a host.
 */
import { BlockList, isIP } from 'node:net'
import { SwarmError } from '../errors.ts'

/** A host, a host and port, or a range of addresses, that the owner allows though they are not public. */
export type Allowance =
  | { readonly kind: 'host'; readonly host: string; readonly port: number | undefined }
  | { readonly kind: 'network'; readonly address: string; readonly prefix: number }

export interface AddressRules {
  /**
   * The addresses that may be connected to, of those that a host has.
   * @throws SwarmError SWARM_ORIGIN_REFUSED where none may
   */
  permitted(place: { readonly host: string; readonly port: number }, addresses: readonly string[]): readonly string[]
  /** Whether the owner named this host, or its network. */
  isAllowed(place: { readonly host: string; readonly port: number }): boolean
}

/** Not public: IANA's special-purpose registry (RFC 6890), multicast and what is reserved. */
const SPECIAL_IPV4: readonly (readonly [string, number])[] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 3],
]

/** Inside 2000::/3, of which all other addresses are public: protocols (Teredo among them), examples, 6to4. */
const SPECIAL_IPV6: readonly (readonly [string, number])[] = [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
]

const special = new BlockList()
for (const [address, prefix] of [...SPECIAL_IPV4, ...SPECIAL_IPV6])
  special.addSubnet(address, prefix, familyOf(address))
const unicast = new BlockList()
unicast.addSubnet('2000::', 3, 'ipv6')

/** Whether a packet to this address goes to one machine of the public internet. IPv4 inside IPv6 is judged as IPv4. */
export function isPublicAddress(text: string): boolean {
  const address = plainAddress(text)
  if (address === undefined) return false
  if (isIP(address) === 4) return !special.check(address, 'ipv4')
  return unicast.check(address, 'ipv6') && !special.check(address, 'ipv6')
}

/**
 * The one form that an address is judged in: what is mapped (::ffff:0:0/96) or goes through a NAT64 (64:ff9b::/96, RFC 6052)
 * is the IPv4 address that the packets reach. Undefined: no address, or one with a zone.
 */
export function plainAddress(text: string): string | undefined {
  if (isIP(text) === 4) return text
  if (isIP(text) !== 6 || text.includes('%')) return undefined
  // The URL parser writes each address in one way: without leading zeros, without a dotted tail.
  const canonical = new URL(`http://[${text}]/`).hostname.slice(1, -1)
  const embedded = /^(?:::ffff:|64:ff9b::)(?:([0-9a-f]{1,4}):)?([0-9a-f]{1,4})$/.exec(canonical)
  if (embedded === null) return canonical === '64:ff9b::' ? '0.0.0.0' : canonical
  const [high, low] = [Number.parseInt(embedded[1] ?? '0', 16), Number.parseInt(embedded[2] ?? '0', 16)]
  return [high >> 8, high & 255, low >> 8, low & 255].join('.')
}

/** Reads `nas.example`, `nas.example:8080`, `[fd00::1]:8080`, `10.0.0.7` or `10.0.0.0/8`; undefined: none of these. */
export function decodeAllowance(text: string): Allowance | undefined {
  const network = /^([0-9a-f.:]+)\/(\d{1,3})$/i.exec(text)
  if (network !== null) {
    const [, address = '', digits = ''] = network
    const prefix = Number(digits)
    if (isIP(address) === 0 || prefix > (isIP(address) === 4 ? 32 : 128)) return undefined
    return { kind: 'network', address, prefix }
  }
  // Without a port an address is a network of one: names that lead there are allowed with it.
  if (isIP(text) !== 0) return { kind: 'network', address: text, prefix: isIP(text) === 4 ? 32 : 128 }
  const [, host = '', port] = /^(\[[0-9a-f.:]+\]|[a-z0-9_][a-z0-9_.-]*)(?::(\d{1,5}))?$/i.exec(text) ?? []
  if (host === '' || !URL.canParse(`http://${host}/`) || Number(port ?? 1) > 65_535) return undefined
  return { kind: 'host', host: bareHost(host), port: port === undefined ? undefined : Number(port) }
}

/** Rules that let an origin go to public addresses, and to what the owner allows. */
export function createAddressRules(allowances: readonly Allowance[]): AddressRules {
  const networks = new BlockList()
  const hosts = new Set<string>()
  for (const entry of allowances) {
    if (entry.kind === 'host') hosts.add(entry.port === undefined ? entry.host : `${entry.host} ${entry.port}`)
    else networks.addSubnet(entry.address, entry.prefix, familyOf(entry.address))
  }
  const inNetworks = (text: string): boolean => {
    const address = plainAddress(text)
    return address !== undefined && networks.check(address, familyOf(address))
  }
  const isNamed = (place: { readonly host: string; readonly port: number }): boolean => {
    const host = place.host.toLowerCase()
    return hosts.has(host) || hosts.has(`${host} ${place.port}`)
  }
  return {
    isAllowed: place => isNamed(place) || inNetworks(place.host),
    permitted: (place, addresses) => {
      const isHostNamed = isNamed(place)
      const good = addresses.filter(
        address =>
          plainAddress(address) !== undefined && (isHostNamed || isPublicAddress(address) || inNetworks(address)),
      )
      if (good.length > 0) return good
      throw new SwarmError(
        { code: 'SWARM_ORIGIN_REFUSED' },
        `${place.host} is not a machine of the public internet: allow it in the file of sources if it is yours`,
      )
    },
  }
}

/** As a URL has it, without the brackets of IPv6. */
export function bareHost(host: string): string {
  const { hostname } = new URL(`http://${host}/`)
  return hostname.startsWith('[') ? hostname.slice(1, -1) : hostname
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 4 ? 'ipv4' : 'ipv6'
}
