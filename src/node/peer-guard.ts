/** What breaking the rules of a session costs, and whom: scores and bans for peers, waiting for addresses. */
import type { PeerGuard } from '#net'
import type { BackOff, Penalties, PenaltyKind } from '#protocol'
import type { RefusalReason } from '#wire'

/** Refusals that are nobody's fault cost nothing: another version, another swarm, a clock that is off, no room. */
const COSTS: Partial<Readonly<Record<RefusalReason, PenaltyKind>>> = {
  malformed: 'malformed',
  authentication: 'bad-signature',
  'proof-wrong': 'bad-handshake',
  superseded: 'bad-handshake',
  replay: 'bad-signature',
  flood: 'flood',
  slow: 'slow',
}

const FAILED_AUTHENTICATION: ReadonlySet<RefusalReason> = new Set(['authentication', 'proof-wrong', 'superseded'])

/**
 * Peer ids cost nothing, so failed authentications are held against the address too; but many nodes may share one, so
 * an address is only made to wait, and the first failures are free. Scores and bans are the peer's own.
 */
export function createPeerGuard({
  penalties,
  backOff,
}: {
  readonly penalties: Penalties
  readonly backOff: BackOff
}): PeerGuard {
  return {
    refuses: subjects => {
      const bannedMs = Math.max(...subjects.map(subject => penalties.bannedForMs(subject)))
      if (bannedMs > 0) return { reason: 'banned', retryAfterMs: Math.ceil(bannedMs) }
      const waitMs = Math.max(...subjects.map(subject => backOff.mayTry(subject) ?? 0))
      return waitMs > 0 ? { reason: 'backoff', retryAfterMs: Math.ceil(waitMs) } : undefined
    },
    succeeded: subjects => {
      for (const subject of subjects) backOff.succeeded(subject)
    },
    fault: (subjects, reason) => {
      if (FAILED_AUTHENTICATION.has(reason)) for (const subject of subjects) backOff.failed(subject)
      const kind = COSTS[reason]
      const [peer] = subjects
      if (kind !== undefined && peer !== undefined) penalties.add(peer, kind)
    },
  }
}
