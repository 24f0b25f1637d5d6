/**
 * Addresses of the lab's internet. They must look public to everyone: js-libp2p takes the TEST-NET, benchmarking and
 * documentation ranges as private (`@libp2p/utils` private-ip.js), libtorrent drops DHT nodes in class A ranges that
 * nobody announces (3, 6, 7, 9, 11, 19, 21, 22, 25, 26, 28, 29, 30, 33, 34, 48, 56). They exist in namespaces only.
 * Each public endpoint has a first octet or a /16 of its own, so that limits per IP group see strangers.
 */

const FIRST_OCTETS = [62, 77, 80, 81, 84, 89, 91, 93, 109, 151, 178, 185, 188, 193, 194, 195, 212, 213, 217] as const

/** The public IPv4 address of this number, from 0. */
export function publicIpv4(index: number): string {
  const first = FIRST_OCTETS[index % FIRST_OCTETS.length] ?? FIRST_OCTETS[0]
  const round = Math.floor(index / FIRST_OCTETS.length)
  return `${first}.${20 + (round % 200)}.${1 + (index % 200)}.10`
}

/** The public IPv6 prefix (the first four groups of a /64) of this number, from 0. */
export function publicIpv6Prefix(index: number): string {
  return `2a0${1 + (index % 5)}:${(0x4f0 + index).toString(16)}:1:1`
}

/** The private IPv4 network of a site, as its first three octets. */
export function privateNetwork(index: number): string {
  return `192.168.${10 + (index % 240)}`
}

/** Where hosts with a public address, and routers, send everything. Only their own link knows it. */
export const GATEWAY_IPV4 = '169.254.1.1'
export const GATEWAY_IPV6 = 'fe80::1'

/** What a router calls itself on its way out. */
export const ROUTER_IPV6 = 'fe80::2'
