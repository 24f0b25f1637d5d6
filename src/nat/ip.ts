/** IP addresses as bytes and as text, each address in one form only, so that texts can be compared. */
import { isIPv4, isIPv6 } from 'node:net'

/** The 4 or 16 bytes of an address; undefined where the text is none. IPv4 inside IPv6 is taken as IPv4. */
export function bytesOfAddress(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (isIPv4(text)) return Uint8Array.from(text.split('.'), Number)
  if (!isIPv6(text) || text.includes('%')) return undefined
  // The URL parser writes every IPv6 address in one way: eight groups at most, no dotted tail.
  const groups = new URL(`http://[${text}]/`).hostname.slice(1, -1).split('::')
  const head = wordsOf(groups[0] ?? '')
  const tail = groups.length > 1 ? wordsOf(groups[1] ?? '') : []
  const words = [...head, ...Array.from({ length: 8 - head.length - tail.length }, () => 0), ...tail]
  const bytes = Uint8Array.from(words.flatMap(word => [word >> 8, word & 0xff]))
  return isMapped(bytes) ? bytes.slice(12) : bytes
}

/** The text of 4 or 16 bytes, in canonical form. IPv4 inside IPv6 becomes IPv4. */
export function addressOfBytes(bytes: Uint8Array): string {
  if (bytes.byteLength === 4) return bytes.join('.')
  if (isMapped(bytes)) return bytes.subarray(12).join('.')
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16)
  const words = Array.from({ length: 8 }, (_, index) => view.getUint16(2 * index).toString(16))
  return new URL(`http://[${words.join(':')}]/`).hostname.slice(1, -1)
}

/** The address in canonical form; undefined where the text is none. */
export function decodeIp(text: string): string | undefined {
  const bytes = bytesOfAddress(text)
  return bytes === undefined ? undefined : addressOfBytes(bytes)
}

/** Addresses of private networks and carriers' shared ones (RFC 1918, 6598, 4193), loopback, link-local. */
export function isPrivate(address: string): boolean {
  const bytes = bytesOfAddress(address)
  if (bytes === undefined) return false
  const [a = 0, b = 0] = bytes
  if (bytes.byteLength === 16) return (a & 0xfe) === 0xfc || (a === 0xfe && (b & 0xc0) === 0x80) || address === '::1'
  return (
    a === 10 ||
    a === 127 ||
    (a === 172 && (b & 0xf0) === 16) ||
    (a === 192 && b === 168) ||
    (a === 100 && (b & 0xc0) === 64) ||
    (a === 169 && b === 254)
  )
}

/** Neither nobody's, nor everybody's, nor a group's: a packet to it goes to one machine. */
export function isUnicast(address: string): boolean {
  const bytes = bytesOfAddress(address)
  if (bytes === undefined) return false
  const first = bytes[0] ?? 0
  if (bytes.byteLength === 16) return first !== 0xff && address !== '::'
  return first !== 0 && first < 224
}

function wordsOf(text: string): number[] {
  return text === '' ? [] : text.split(':').map(word => Number.parseInt(word, 16))
}

/** ::ffff:a.b.c.d */
function isMapped(bytes: Uint8Array): boolean {
  if (bytes.byteLength !== 16 || bytes[10] !== 0xff || bytes[11] !== 0xff) return false
  return bytes.subarray(0, 10).every(byte => byte === 0)
}
