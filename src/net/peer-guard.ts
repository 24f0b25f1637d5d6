/** Who is kept out for a while. The host asks and reports; what it costs is decided elsewhere. */
import type { AuditKind } from '#protocol'
import type { RefusalReason } from '#wire'
import { decodeAddress } from './address.ts'
import type { Session } from './session.ts'

export interface PeerGuard {
  /** Why a connection is refused before anything is said; undefined: it may try. */
  refuses(
    subjects: readonly string[],
  ): { readonly reason: 'banned' | 'backoff'; readonly retryAfterMs: number } | undefined
  /** A connection of these subjects came to a session. */
  succeeded(subjects: readonly string[]): void
  /** They broke the rules. */
  fault(subjects: readonly string[], reason: RefusalReason): void
}

/**
 * Whom a fault is counted against: the peer, and the address that it came from, since peer ids cost nothing. A
 * connection that we dialled says nothing about who else is at its address.
 */
export function subjectsOf({ peer, direction, connection }: Session): readonly string[] {
  const address = direction === 'inbound' ? subjectOfAddress(connection.remoteAddr.toString()) : undefined
  return address === undefined ? [peer] : [peer, address]
}

/** An address as the subject of faults. @param multiaddr where a connection comes from */
export function subjectOfAddress(multiaddr: string): string | undefined {
  const address = decodeAddress(multiaddr)
  if (address === undefined) return undefined
  // Those who come through a relay share what the relay may do; the relay itself is not to blame for them.
  return address.relay === undefined ? `ip:${networkOf(address.host)}` : `relay:${address.relay}`
}

/** Who has one address of IPv6 has 2^64 of them: there the network counts (/64), as the whole address does in IPv4. */
function networkOf(host: string): string {
  if (!host.includes(':')) return host
  // An IPv4 address in the clothes of the other.
  if (host.includes('.')) return host.slice(host.lastIndexOf(':') + 1)
  const [left = [], right = []] = host.split('::').map(half => half.split(':').filter(group => group !== ''))
  const zeros = Array.from({ length: Math.max(0, 8 - left.length - right.length) }, () => '0')
  const groups = [...left, ...zeros, ...right].slice(0, 4)
  return `${groups.map(group => Number.parseInt(group, 16).toString(16)).join(':')}::/64`
}

/** How the audit log calls what a peer was refused for. */
export const AUDITED_FAULTS: Partial<Readonly<Record<RefusalReason, AuditKind>>> = {
  authentication: 'authentication-failed',
  'proof-wrong': 'authentication-failed',
  superseded: 'peer-key-refused',
  replay: 'replay',
  flood: 'rate-limited',
}
