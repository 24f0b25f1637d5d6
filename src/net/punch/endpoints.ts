/**
 * Which endpoints of a peer may be called. A peer names them, so it could name somebody else's: they are few, all at one
 * address outside, at ports that no system service has, and never in a private network but our own.
 */
import { BlockList, isIP, isIPv4 } from 'node:net'
import { networkInterfaces } from 'node:os'

export type Endpoint = { readonly address: string; readonly port: number }

/** A network that one of our interfaces is in. */
export type LocalNetwork = { readonly address: string; readonly prefixBits: number }

/** Addresses that are not somebody's on the internet (RFC 6890, 4193, 4291). */
const SPECIAL = { ipv4: new BlockList(), ipv6: new BlockList() }
for (const [address, bits] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['224.0.0.0', 3],
] as const) {
  SPECIAL.ipv4.addSubnet(address, bits, 'ipv4')
}
for (const [address, bits] of [
  ['::', 96],
  ['::ffff:0:0', 96],
  ['fc00::', 7],
  ['fe80::', 10],
  ['ff00::', 8],
] as const) {
  SPECIAL.ipv6.addSubnet(address, bits, 'ipv6')
}

/** Whether an IP address is one of the internet's. */
export function isPublicAddress(address: string): boolean {
  // A list for each family: in a common one IPv4 inside IPv6 would stand for all of IPv4.
  return isIP(address) !== 0 && !SPECIAL[familyOf(address)].check(address, familyOf(address))
}

/** Whether a private address is in a network that we are in ourselves. */
export function isNeighbour(address: string, networks: readonly LocalNetwork[]): boolean {
  if (isIP(address) === 0) return false
  return networks.some(network => {
    if (familyOf(network.address) !== familyOf(address)) return false
    const list = new BlockList()
    list.addSubnet(network.address, network.prefixBits, familyOf(address))
    return list.check(address, familyOf(address))
  })
}

/** Those of a peer's endpoints that may be called. */
export function callable(endpoints: readonly Endpoint[], networks: readonly LocalNetwork[]): Endpoint[] {
  return endpoints.filter(({ address }) => isPublicAddress(address) || isNeighbour(address, networks))
}

/** The networks of this machine's interfaces, loopback aside. */
export function localNetworks(): LocalNetwork[] {
  return Object.values(networkInterfaces()).flatMap(entries =>
    (entries ?? []).flatMap(({ address, internal, cidr, scopeid }) => {
      const prefixBits = Number(cidr?.split('/')[1])
      const isUsable = !internal && Number.isInteger(prefixBits) && (scopeid ?? 0) === 0
      return isUsable ? [{ address, prefixBits }] : []
    }),
  )
}

/** As it would be in a message: IPv4 inside IPv6 is IPv4. */
export function plainAddress(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '')
}

/** A multiaddr of a TCP endpoint. */
export function tcpMultiaddr({ address, port }: Endpoint): string {
  return `/${isIPv4(address) ? 'ip4' : 'ip6'}/${address}/tcp/${port}`
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIPv4(address) ? 'ipv4' : 'ipv6'
}
