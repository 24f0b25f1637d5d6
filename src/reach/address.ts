/**
 * Addresses as this module compares them: an IP address, a port and what is spoken there. Names are left to others: what is
 * to be proved or voted on must be the same text for everybody.
 */
import { bytesOfAddress, decodeIp, isPrivate, isUnicast } from '#nat'

/** How a node is dialled. The data plane is no multiaddr of a node: it is where its fast streams go. */
export type Transport = 'tcp' | 'quic' | 'ws' | 'plane'

export type Place = {
  /** Canonical (RFC 5952). */
  readonly ip: string
  readonly port: number
  readonly transport: Transport
}

const FORM =
  /^\/ip([46])\/([0-9a-fA-F.:]{2,45})\/(tcp\/(\d{1,5})(\/ws)?|udp\/(\d{1,5})\/quic-v1)(?:\/p2p\/[a-zA-Z0-9]{1,100})?$/

/** Undefined where the text is not the multiaddr of an IP address, a port and a transport that we know. */
export function decodePlace(text: string): Place | undefined {
  const match = FORM.exec(text.slice(0, 300))
  const ip = decodeIp(match?.[2] ?? '')
  const port = Number(match?.[4] ?? match?.[6])
  if (match === null || ip === undefined || !(port > 0 && port < 65_536)) return undefined
  // IPv4 in the clothes of IPv6 becomes IPv4; an IPv6 text after /ip4 is nothing.
  if (match[1] === '4' && ip.includes(':')) return undefined
  return { ip, port, transport: match[6] !== undefined ? 'quic' : match[5] !== undefined ? 'ws' : 'tcp' }
}

/** The multiaddr without a peer id; of a data plane `/ip4/HOST/tcp/PORT`. */
export function encodePlace({ ip, port, transport }: Place): string {
  const host = `/ip${ip.includes(':') ? 6 : 4}/${ip}`
  if (transport === 'quic') return `${host}/udp/${port}/quic-v1`
  return `${host}/tcp/${port}${transport === 'ws' ? '/ws' : ''}`
}

/** Tells places apart, data planes too. */
export function keyOfPlace(place: Place): string {
  return `${place.transport} ${place.ip} ${place.port}`
}

/** For documents, benchmarks and protocols (RFC 5737, 2544, 6890, 3849): nobody has them on the internet. */
const RESERVED: readonly (readonly number[])[] = [
  [192, 0, 0],
  [192, 0, 2],
  [198, 51, 100],
  [203, 0, 113],
  [198, 18],
  [198, 19],
  [0x20, 0x01, 0x0d, 0xb8],
]

/** Whether everybody could reach the address, as far as it alone says. */
export function isPublicIp(ip: string): boolean {
  const bytes = bytesOfAddress(ip)
  if (bytes === undefined || !isUnicast(ip) || isPrivate(ip)) return false
  const isOfRange = (range: readonly number[]): boolean => range.every((byte, at) => bytes[at] === byte)
  return !RESERVED.some(range => (range[0] === 0x20) === (bytes.byteLength === 16) && isOfRange(range))
}

/** The network that speaks with one voice: /16 of IPv4, /32 of IPv6. */
export function networkOf(ip: string): string {
  const bytes = bytesOfAddress(ip)
  return bytes === undefined ? '' : bytes.subarray(0, bytes.byteLength === 4 ? 2 : 4).join('.')
}

/** Whom an address belongs to, for rates: itself, of IPv6 its /64. */
export function ownerOf(ip: string): string {
  const bytes = bytesOfAddress(ip)
  return bytes?.byteLength === 16 ? bytes.subarray(0, 8).join('.') : ip
}
