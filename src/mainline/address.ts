/**
 * IP addresses and ports as KRPC carries them: 4 or 16 bytes and two for the port. Hosts are kept as text in one form
 * only, so that equal texts are equal addresses.
 */
import { isIPv6 } from 'node:net'
import { concatBytes } from '#base'
import type { Contact, Endpoint, Family } from './types.ts'

/** Bytes of a node id. */
export const ID_BYTES = 20

const IPV4_BYTES = 4
const IPV6_BYTES = 16
/** Characters of the longest IPv4 address. */
const IPV4_TEXT_MAX = 15
const [CODE_0, CODE_9, CODE_DOT] = [48, 57, 46]
const PORT_BYTES = 2
/** Of IPv6, what one site gets at most as a rule (RFC 6177); what lies within is cheap to whoever has it. */
const IPV6_SITE_BYTES = 6

export function familyOf(endpoint: { readonly host: string }): Family {
  return endpoint.host.includes(':') ? 6 : 4
}

/** What names an endpoint in a table. */
export function keyOf(endpoint: Endpoint): string {
  return `${endpoint.host} ${endpoint.port}`
}

/** 4 or 16 bytes; undefined for what is no IP address. A zone (`%eth0`) is left out. */
export function ipBytes(host: string): Uint8Array<ArrayBuffer> | undefined {
  const ipv4 = ipv4Bytes(host)
  if (ipv4 !== undefined) return ipv4
  const plain = host.split('%')[0] ?? ''
  if (!isIPv6(plain)) return undefined
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(plain)
  const tail = dotted === null ? undefined : Uint8Array.from((dotted[2] ?? '').split('.'), Number)
  const text =
    tail === undefined ? plain : `${dotted?.[1] ?? ''}${hexPair(tail, 0).toString(16)}:${hexPair(tail, 2).toString(16)}`
  const [head = '', rest] = text.split('::')
  const left = groupsOf(head)
  const right = groupsOf(rest ?? '')
  const groups =
    rest === undefined ? left : [...left, ...Array<number>(8 - left.length - right.length).fill(0), ...right]
  return Uint8Array.from(groups.flatMap(group => [group >> 8, group & 0xff]))
}

/** The one text of an address: IPv6 as RFC 5952 has it, in lower case, the longest run of zeros left out. */
export function formatIp(bytes: Uint8Array): string {
  if (bytes.byteLength === IPV4_BYTES) return bytes.join('.')
  const groups = Array.from({ length: 8 }, (_, i) => hexPair(bytes, 2 * i))
  let [runAt, runLength] = [0, 1]
  for (let from = 0; from < groups.length; from++) {
    let length = 0
    while (groups[from + length] === 0) length++
    if (length > runLength) [runAt, runLength] = [from, length]
  }
  const text = (part: readonly number[]): string => part.map(group => group.toString(16)).join(':')
  if (runLength === 1) return text(groups)
  return `${text(groups.slice(0, runAt))}::${text(groups.slice(runAt + runLength))}`
}

/** The endpoint in its one form; undefined for what is no address or no port. */
export function decodeEndpoint(host: string, port: number): Endpoint | undefined {
  const bytes = ipBytes(host)
  if (bytes === undefined || !Number.isInteger(port) || port < 1 || port > 0xffff) return undefined
  return { host: formatIp(bytes), port }
}

/** 6 or 18 bytes (BEP 5, BEP 32). */
export function compactEndpoint(endpoint: Endpoint): Uint8Array<ArrayBuffer> {
  return concatBytes([
    ipBytes(endpoint.host) ?? new Uint8Array(),
    Uint8Array.of(endpoint.port >> 8, endpoint.port & 0xff),
  ])
}

/** Undefined for another size, and for port 0. */
export function decodeCompactEndpoint(bytes: Uint8Array): Endpoint | undefined {
  const ipSize = bytes.byteLength - PORT_BYTES
  if (ipSize !== IPV4_BYTES && ipSize !== IPV6_BYTES) return undefined
  const port = hexPair(bytes, ipSize)
  return port === 0 ? undefined : { host: formatIp(bytes.subarray(0, ipSize)), port }
}

/** 26 or 38 bytes for each contact. */
export function compactContacts(contacts: readonly Contact[]): Uint8Array<ArrayBuffer> {
  return concatBytes(contacts.flatMap(contact => [contact.id, compactEndpoint(contact)]))
}

/** Undefined where the size fits no whole number of contacts. Contacts with port 0 are left out. */
export function decodeCompactContacts(bytes: Uint8Array, family: Family): Contact[] | undefined {
  const size = ID_BYTES + (family === 4 ? IPV4_BYTES : IPV6_BYTES) + PORT_BYTES
  if (bytes.byteLength % size !== 0) return undefined
  const contacts: Contact[] = []
  for (let at = 0; at < bytes.byteLength; at += size) {
    const endpoint = decodeCompactEndpoint(bytes.subarray(at + ID_BYTES, at + size))
    if (endpoint !== undefined) contacts.push({ id: bytes.slice(at, at + ID_BYTES), ...endpoint })
  }
  return contacts
}

/** What limits on prefixes count by: IPv4 /24, IPv6 /48. */
export function prefixOf(host: string): string {
  const bytes = ipBytes(host) ?? new Uint8Array()
  if (bytes.byteLength === IPV4_BYTES) return host.slice(0, host.lastIndexOf('.'))
  return bytes.subarray(0, IPV6_SITE_BYTES).join('.')
}

/** What allowances count by: one IPv4 address, or one IPv6 /48, as one machine may have any number of IPv6 addresses. */
export function allowanceOf(host: string): string {
  return familyOf({ host }) === 4 ? host : prefixOf(host)
}

/**
 * `public`: can be reached from anywhere. `private`: a network of its own (RFC 1918, RFC 6598, RFC 4193, link-local).
 * `unusable`: nobody, everybody, or another protocol: never sent to.
 */
export type Scope = 'public' | 'private' | 'loopback' | 'unusable'

export function scopeOf(host: string): Scope {
  const bytes = ipBytes(host)
  if (bytes === undefined) return 'unusable'
  return bytes.byteLength === IPV4_BYTES ? scopeOfIpv4(bytes) : scopeOfIpv6(bytes)
}

/** Whether `host` is of any use to somebody at `other`; nobody on a public address learns of our own network. */
export function isReachableFrom(host: string, other: string): boolean {
  return scopeOf(host) === 'public' || scopeOf(other) !== 'public'
}

function scopeOfIpv4([a = 0, b = 0]: Uint8Array): Scope {
  if (a === 127) return 'loopback'
  if (a === 0 || a >= 224) return 'unusable'
  const isPrivate =
    a === 10 ||
    (a === 172 && b >> 4 === 1) ||
    (a === 192 && b === 168) ||
    (a === 169 && b === 254) ||
    (a === 100 && b >> 6 === 1)
  return isPrivate ? 'private' : 'public'
}

function scopeOfIpv6(bytes: Uint8Array): Scope {
  const [a = 0, b = 0] = bytes
  if (bytes.subarray(0, 15).every(byte => byte === 0)) return bytes[15] === 1 ? 'loopback' : 'unusable'
  if (a === 0xff) return 'unusable'
  if ((a & 0xfe) === 0xfc || (a === 0xfe && b >> 6 === 2)) return 'private'
  // Only 2000::/3 is given out; the rest, mapped IPv4 addresses among it, would be a second name of something else.
  return a >> 5 === 1 ? 'public' : 'unusable'
}

/** Four numbers without idle zeros. Every datagram needs this several times, so it makes no texts on its way. */
function ipv4Bytes(host: string): Uint8Array<ArrayBuffer> | undefined {
  if (host.length > IPV4_TEXT_MAX) return undefined
  const bytes = new Uint8Array(IPV4_BYTES)
  let [index, value, digits] = [0, 0, 0]
  for (let at = 0; at <= host.length; at++) {
    const code = host.charCodeAt(at)
    if (code >= CODE_0 && code <= CODE_9) {
      if (digits > 0 && value === 0) return undefined
      value = 10 * value + code - CODE_0
      digits++
      continue
    }
    const isEnd = at === host.length
    if (digits === 0 || value > 0xff || (!isEnd && code !== CODE_DOT) || isEnd !== (index === IPV4_BYTES - 1)) {
      return undefined
    }
    bytes[index++] = value
    value = 0
    digits = 0
  }
  return bytes
}

function groupsOf(text: string): number[] {
  return text === '' ? [] : text.split(':').map(group => Number.parseInt(group, 16))
}

function hexPair(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)
}
