/**
 * Groups of addresses: whoever has a block of addresses has all of it, so limits count blocks. IPv4 /24, IPv6 /48; a peer
 * behind a relay counts as the relay's, since circuits cost no address at all.
 */
import type { Multiaddr } from '@multiformats/multiaddr'

/** Loopback, RFC 1918, RFC 6598 and link-local addresses: nobody comes from there but this machine or its own network. */
const LOCAL_IPV4 =
  /^(?:127\.|10\.|192\.168\.|169\.254\.|172\.(?:1[6-9]|2\d|3[01])\.|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.)/
const LOCAL_IPV6 = /^(?:::1$|f[cd]|fe[89ab])/i

/**
 * Undefined where no limit is to count: no IP address (a transport in memory), or a local one where those are exempt.
 * @param address where a connection leads, as this node's own socket says it
 */
export function groupOf(address: Multiaddr, options: { readonly isLocalExempt: boolean }): string | undefined {
  const parts = address.getComponents()
  const circuit = parts.findIndex(part => part.name === 'p2p-circuit')
  if (circuit >= 0) {
    const relay = parts.slice(0, circuit).findLast(part => part.name === 'p2p')?.value
    return `relay ${relay ?? ''}`
  }
  const ip = parts.find(part => part.name === 'ip4' || part.name === 'ip6')
  if (ip?.value === undefined) return undefined
  const host = ip.name === 'ip6' ? mappedIpv4(ip.value) : ip.value
  if (!host.includes(':')) {
    if (options.isLocalExempt && LOCAL_IPV4.test(host)) return undefined
    return host.split('.').slice(0, 3).join('.')
  }
  if (options.isLocalExempt && LOCAL_IPV6.test(host)) return undefined
  return siteOf(host)
}

/** An IPv4 address in the clothes of the other. */
function mappedIpv4(host: string): string {
  const dotted = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(host)
  if (dotted?.[1] !== undefined) return dotted[1]
  const hexadecimal = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/i.exec(host)
  if (hexadecimal === null) return host
  const [high, low] = [hexadecimal[1], hexadecimal[2]].map(text => Number.parseInt(text ?? '0', 16))
  return [(high ?? 0) >> 8, (high ?? 0) & 0xff, (low ?? 0) >> 8, (low ?? 0) & 0xff].join('.')
}

/** The first 48 bits. */
function siteOf(host: string): string {
  const [left = [], right = []] = (host.split('%')[0] ?? '')
    .split('::')
    .map(half => half.split(':').filter(group => group !== ''))
  const zeros = Array.from({ length: Math.max(0, 8 - left.length - right.length) }, () => '0')
  const groups = [...left, ...zeros, ...right].slice(0, 3)
  return groups.map(group => Number.parseInt(group, 16).toString(16)).join(':')
}
