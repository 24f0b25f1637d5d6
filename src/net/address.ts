/**
 * Multiaddrs, narrowed to what this host dials: an IP address or a DNS name, a TCP port, and perhaps a peer id.
 * Addresses come from peers too, so everything else (relays, `dnsaddr` look-ups, Unix sockets) is refused here.
 */
import type { Connection } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { OBSERVED_CHARS_MAX } from '#wire'
import { NetError } from './errors.ts'

/** Characters of an address; the same bound as in an offer. */
const ADDRESS_CHARS_MAX = 300

const HOSTS: ReadonlySet<string> = new Set(['ip4', 'ip6', 'dns', 'dns4', 'dns6'])

/** An address that can be dialled. */
export type Address = {
  /** As it was given, in canonical form. */
  readonly text: string
  /** Without the peer id: what is dialled, so that it is we who compare identities. */
  readonly target: Multiaddr
  /** Who must answer there. */
  readonly peer?: string
  readonly host: string
}

/** Undefined where the text is not an address that this host dials. */
export function decodeAddress(text: string): Address | undefined {
  if (text.length > ADDRESS_CHARS_MAX) return undefined
  try {
    const whole = multiaddr(text)
    const [host, port, id, ...rest] = whole.getComponents()
    if (host?.value === undefined || !HOSTS.has(host.name) || port?.name !== 'tcp' || rest.length > 0) return undefined
    const target = multiaddr(`/${host.name}/${host.value}/tcp/${port.value ?? ''}`)
    if (id === undefined) return { text: whole.toString(), target, host: host.value }
    if (id.name !== 'p2p' || id.value === undefined) return undefined
    return { text: whole.toString(), target, host: host.value, peer: peerIdFromString(id.value).toString() }
  } catch {
    return undefined // The library throws errors of many kinds; for us they all mean that this is no address.
  }
}

/** @throws NetError NET_ADDRESS_INVALID */
export function parseAddress(text: string): Address {
  const address = decodeAddress(text)
  if (address !== undefined) return address
  const form = '/ip4/HOST/tcp/PORT/p2p/PEER'
  throw new NetError(
    { code: 'NET_ADDRESS_INVALID', address: text.slice(0, ADDRESS_CHARS_MAX) },
    `not an address that can be dialled; the form is ${form}`,
  )
}

/** Those of a peer's own addresses that can be dialled and that name this peer. */
export function addressesOf(peer: string, texts: readonly string[]): Address[] {
  return texts
    .map(decodeAddress)
    .filter(address => address !== undefined && (address.peer ?? peer) === peer) as Address[]
}

/** 127.0.0.0/8 and ::1. */
export function isLoopback(address: Address): boolean {
  return address.host.startsWith('127.') || address.host === '::1'
}

/** Where a connection's other end is, without its peer id; undefined where a relay or something else stands between. */
export function remoteAddressOf(connection: Pick<Connection, 'remoteAddr'>): string | undefined {
  const text = connection.remoteAddr.toString().replace(/\/p2p\/[^/]+$/, '')
  return /^\/ip[46]\/(?!.*\/p2p)/.test(text) && text.length <= OBSERVED_CHARS_MAX ? text : undefined
}

/** An address of this very node, with its peer id. @throws NetError NET_ADDRESS_INVALID */
export function ownAddress(text: string, self: string): string {
  const address = parseAddress(text)
  if (address.peer === undefined) return `${address.text}/p2p/${self}`
  if (address.peer === self) return address.text
  throw new NetError({ code: 'NET_ADDRESS_INVALID', address: address.text }, 'the address names another node')
}
