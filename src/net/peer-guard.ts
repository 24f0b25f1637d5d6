/** Who is kept out for a while. The host asks and reports; what it costs is decided elsewhere. */
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
  const host = direction === 'inbound' ? decodeAddress(connection.remoteAddr.toString())?.host : undefined
  return host === undefined ? [peer] : [peer, `ip:${host}`]
}
