/**
 * Multiaddrs, narrowed to what this host dials: an IP address or a DNS name with a TCP port (plain or WebSocket) or a
 * QUIC port, or a circuit through a relay, and perhaps a peer id. Addresses come from peers too, so everything else
 * (`dnsaddr` look-ups, Unix sockets) is refused here.
 */
import type { Connection } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { type Component, type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { OBSERVED_CHARS_MAX } from '#wire'
import { NetError } from './errors.ts'
import type { Transport } from './types.ts'

/** Characters of an address; the same bound as in an offer. */
const ADDRESS_CHARS_MAX = 300

const HOSTS: ReadonlySet<string> = new Set(['ip4', 'ip6', 'dns', 'dns4', 'dns6'])

/** What follows the host of an address, by the names of its components, and what it is. */
const TRANSPORTS: ReadonlyMap<string, Transport> = new Map([
  ['tcp', 'tcp'],
  ['tcp/ws', 'ws'],
  ['udp/quic-v1', 'quic'],
])

/** An address that can be dialled. */
export type Address = {
  /** As it was given, in canonical form. */
  readonly text: string
  /** Without the peer id: what is dialled, so that it is we who compare identities. */
  readonly target: Multiaddr
  /** Who must answer there. */
  readonly peer?: string
  /** Host of the node, or of its relay; '' where only the relay's id is known. */
  readonly host: string
  readonly transport: Transport
  /** Peer id of the relay, where the address leads through one. */
  readonly relay?: string
}

/** Undefined where the text is not an address that this host dials. */
export function decodeAddress(text: string): Address | undefined {
  if (text.length > ADDRESS_CHARS_MAX) return undefined
  try {
    const whole = multiaddr(text)
    const components = whole.getComponents()
    const circuit = components.findIndex(({ name }) => name === 'p2p-circuit')
    const place = placeOf(circuit < 0 ? components : components.slice(0, circuit))
    const rest = circuit < 0 ? place?.rest : components.slice(circuit + 1)
    if (place === undefined || rest === undefined || rest.length > 1) return undefined
    const isRelayed = circuit >= 0
    if (isRelayed ? place.rest.length !== 1 : place.host === '') return undefined
    const peer = rest[0] === undefined ? undefined : peerOf(rest[0])
    const relay = isRelayed ? peerOf(place.rest[0]) : undefined
    const target = peer === undefined ? whole : whole.decapsulateCode(P2P_CODE)
    const found = { text: whole.toString(), target, host: place.host, transport: place.transport }
    return { ...found, ...(peer === undefined ? {} : { peer }), ...(relay === undefined ? {} : { relay }) }
  } catch {
    return undefined // The library throws errors of many kinds; for us they all mean that this is no address.
  }
}

/** Code of `/p2p` in the table of multiaddr protocols. */
const P2P_CODE = 421

type Place = { readonly host: string; readonly transport: Transport; readonly rest: readonly Component[] }

/** Host and transport at the start of an address; a relay may be named without them. */
function placeOf(components: readonly Component[]): Place | undefined {
  const [host, port, ...rest] = components
  if (host?.name === 'p2p' && port === undefined) return { host: '', transport: 'tcp', rest: [host] }
  if (host?.value === undefined || !HOSTS.has(host.name) || port?.value === undefined) return undefined
  const upper = rest[0]?.name === 'p2p' ? undefined : rest.shift()?.name
  const transport = TRANSPORTS.get(upper === undefined ? port.name : `${port.name}/${upper}`)
  return transport === undefined ? undefined : { host: host.value, transport, rest }
}

/** @throws where the component names no peer */
function peerOf(component: Component | undefined): string {
  if (component?.name !== 'p2p' || component.value === undefined) throw new Error('no peer id')
  return peerIdFromString(component.value).toString()
}

/** @throws NetError NET_ADDRESS_INVALID */
export function parseAddress(text: string): Address {
  const address = decodeAddress(text)
  if (address !== undefined) return address
  const form = '/ip4/HOST/tcp/PORT/p2p/PEER, /ip4/HOST/udp/PORT/quic-v1/p2p/PEER or /ip4/HOST/tcp/PORT/ws/p2p/PEER'
  throw new NetError(
    { code: 'NET_ADDRESS_INVALID', address: text.slice(0, ADDRESS_CHARS_MAX) },
    `not an address that can be dialled; the form is ${form}`,
  )
}

/**
 * Those of a peer's own addresses that can be dialled and that name this peer, or nobody: a DHT keeps them without the id,
 * and a relay has to be told whom we want. All that come back name it.
 */
export function addressesOf(peer: string, texts: readonly string[]): Address[] {
  return texts.flatMap(text => {
    const address = decodeAddress(text)
    return address === undefined || (address.peer ?? peer) !== peer ? [] : [naming(address, peer)]
  })
}

function naming(address: Address, peer: string): Address {
  return address.peer === undefined ? { ...address, peer, text: `${address.text}/p2p/${peer}` } : address
}

/** Each transport of the addresses once. */
export function transportsOf(texts: readonly string[]): Transport[] {
  return [...new Set(texts.map(text => decodeAddress(text)?.transport ?? 'tcp'))]
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
  if ((address.peer ?? self) === self) return naming(address, self).text
  throw new NetError({ code: 'NET_ADDRESS_INVALID', address: address.text }, 'the address names another node')
}
