/** What counts as one host where connections are counted: whoever has one IPv6 address has a whole /64 of them. */
import { isIPv6 } from 'node:net'

const GROUPS = 8
const NETWORK_GROUPS = 4

/**
 * An IP address in its one form (IPv6: RFC 5952), also an IPv4 address that is shown as IPv6 (`::ffff:192.0.2.1`), so that
 * what is held against a host is held against it however it is written. What is no address stays as it is.
 */
export function plainHost(host: string): string {
  const unscoped = host.split('%')[0] ?? host
  if (!isIPv6(unscoped)) return unscoped
  const canonical = new URL(`http://[${unscoped}]/`).hostname.slice(1, -1)
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(canonical)
  if (mapped === null) return canonical
  const bytes = [mapped[1] ?? '', mapped[2] ?? ''].map(group => Number.parseInt(group, 16))
  return bytes.flatMap(group => [group >> 8, group & 0xff]).join('.')
}

/** Whom a stock client's deeds are held against: its address, of IPv6 its network. @param host an IP address, in any form */
export function partyOfHost(host: string): string {
  return `bt:${hostGroup(plainHost(host))}`
}

/** @param host an IP address as `plainHost` gives it */
export function hostGroup(host: string): string {
  if (!isIPv6(host)) return host
  const [front = '', back] = host.toLowerCase().split('::')
  const parts = (text: string | undefined): string[] => (text === undefined || text === '' ? [] : text.split(':'))
  const missing = Math.max(0, GROUPS - parts(front).length - parts(back).length)
  const zeros = back === undefined ? [] : Array.from({ length: missing }, () => '0')
  const groups = [...parts(front), ...zeros, ...parts(back)]
  return `${groups
    .slice(0, NETWORK_GROUPS)
    .map(group => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`
}
