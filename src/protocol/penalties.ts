/**
 * What misconduct costs. Each kind adds to the subject's score, which halves every `PENALTY_HALF_LIFE_MS`; a score beyond
 * `DISCONNECT_SCORE` costs the connection, beyond `BAN_SCORE` a ban. A ban's length follows the score, and every ban
 * doubles the score, so whoever goes on is banned twice as long each time, and a half-life of good conduct forgives one
 * doubling.
 *
 * What may happen between honest peers costs nothing: duplicates, late frames, and hits of the replay filter, which may
 * be false, are refused and never reported here.
 */
import type { Clock } from '#base'
import { BAN_MS_MAX, BAN_MS_MIN, BAN_SCORE, DISCONNECT_SCORE } from './limits.ts'
import type { PenaltyRecords } from './penalty-records.ts'
import type { AuditLog } from './types.ts'

/** What each kind of misconduct adds to the score. */
export const PENALTY_WEIGHTS = {
  /** Bytes that are no frame, or a body that cannot be decoded. */
  malformed: 20,
  /** A message out of turn. */
  'out-of-turn': 20,
  'bad-signature': 50,
  /** A handshake that does not hold; a version or suite that was changed on the way. */
  'bad-handshake': 25,
  /** More messages than any honest peer sends. */
  flood: 20,
  /** A request beyond the peer's allowance, though it is told when to come back: an honest burst costs little. */
  'rate-limited': 0.1,
  'not-authorised': 10,
  /** A request that breaks its schema: software of another version may do so. */
  'bad-request': 2,
  /** An answer that breaks its schema, or bytes that are not what was promised. */
  'bad-response': 20,
  /** Holds something open and does not go on. */
  slow: 10,
} as const
export type PenaltyKind = keyof typeof PENALTY_WEIGHTS

export type Verdict = 'none' | 'disconnect' | 'ban'

export type PenaltiesDeps = {
  readonly clock: Clock
  readonly records: PenaltyRecords
  readonly audit: AuditLog
  /** Carries a verdict out: closes the subject's connections. Called within `add`. */
  readonly onVerdict?: (subject: string, verdict: Exclude<Verdict, 'none'>) => void
}

/** Beyond this score a ban could not become longer. */
const SCORE_MAX = (2 * BAN_SCORE * BAN_MS_MAX) / BAN_MS_MIN

/** A subject is a peer id, or `ip:` and an address. Many honest nodes may share an address: the caller decides. */
export class Penalties {
  readonly #deps: PenaltiesDeps

  constructor(deps: PenaltiesDeps) {
    this.#deps = deps
  }

  /** Adds to the subject's score and says what follows. A subject that is banned already stays banned as it is. */
  add(subject: string, kind: PenaltyKind): Verdict {
    const now = this.#deps.clock.now()
    if (this.bannedForMs(subject) > 0) return 'ban'
    const { score, bannedUntil } = this.#deps.records.update(subject, record => {
      record.score = Math.min(SCORE_MAX, record.score + PENALTY_WEIGHTS[kind])
      if (record.score < BAN_SCORE) return
      record.bannedUntil = now + Math.round(Math.min(BAN_MS_MAX, BAN_MS_MIN * (record.score / BAN_SCORE)))
      record.score = Math.min(SCORE_MAX, record.score * 2)
      record.scoreAt = record.bannedUntil
    })
    const verdict = bannedUntil > now ? 'ban' : score >= DISCONNECT_SCORE ? 'disconnect' : 'none'
    if (verdict === 'ban') this.#deps.audit.record('banned', { peer: subject, reason: kind, banMs: bannedUntil - now })
    if (verdict !== 'none') this.#deps.onVerdict?.(subject, verdict)
    return verdict
  }

  /** How long the subject is still banned, in milliseconds; 0: it is not. */
  bannedForMs(subject: string): number {
    const bannedUntil = this.#deps.records.find(subject)?.bannedUntil ?? 0
    return Math.min(BAN_MS_MAX, Math.max(0, bannedUntil - this.#deps.clock.now()))
  }

  scoreOf(subject: string): number {
    return this.#deps.records.find(subject)?.score ?? 0
  }

  /** The owner forgets everything that is held against the subject. False: there was nothing. */
  forgive(subject: string): boolean {
    return this.#deps.records.forget(subject)
  }

  /** Who is banned now, and until when (Unix milliseconds). */
  banned(): ReadonlyArray<{ readonly subject: string; readonly bannedUntil: number }> {
    const now = this.#deps.clock.now()
    const banned = this.#deps.records.list().filter(({ bannedUntil }) => bannedUntil > now)
    return banned.map(({ subject, bannedUntil }) => ({ subject, bannedUntil }))
  }
}
