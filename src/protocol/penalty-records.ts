/**
 * What is held against whom: scores, bans and failed authentications, one record a subject. Shared by `Penalties` and
 * `BackOff`, because the store keeps one row a subject. Bounded: when it is full, the records that matter least go first,
 * so names that cost nothing (peer ids) cannot push out a long ban.
 */
import type { Clock } from '#base'
import {
  BACK_OFF_FREE_FAILURES,
  BACK_OFF_MS_MAX,
  BACK_OFF_MS_MIN,
  BAN_MS_MAX,
  PENALTY_HALF_LIFE_MS,
  PENALTY_SUBJECTS_MAX,
} from './limits.ts'
import type { PenaltyStore, StoredPenalty } from './types.ts'

/** Below these a record says nothing any more. */
const SCORE_MIN = 0.01
const FAILURES_MIN = 0.5
/** Share of a full table that goes at once, so that a flood of new subjects does not sort it each time. */
const EVICTED_SHARE = 1 / 16

/** All times are Unix milliseconds, since records outlive a restart. */
export type PenaltyRecord = {
  score: number
  /** The score holds for this moment; in the future while the subject is banned, so that a ban does not wear it off. */
  scoreAt: number
  bannedUntil: number
  /** Failed authentications, less what time has forgiven. */
  failures: number
  failuresAt: number
  /** When the next attempt to authenticate is welcome. */
  retryAt: number
}

/** How long to wait after so many failed authentications. The first ones are free. */
export function backOffMs(failures: number): number {
  if (failures <= BACK_OFF_FREE_FAILURES) return 0
  return Math.min(BACK_OFF_MS_MAX, BACK_OFF_MS_MIN * 2 ** (Math.ceil(failures - BACK_OFF_FREE_FAILURES) - 1))
}

export class PenaltyRecords {
  readonly #clock: Clock
  readonly #store: PenaltyStore
  readonly #subjectsMax: number
  readonly #records = new Map<string, PenaltyRecord>()
  readonly #saved = new Set<string>()

  /** Takes what the store has kept; what no longer matters is removed from it. */
  constructor(
    deps: { readonly clock: Clock; readonly store: PenaltyStore },
    options: { readonly subjectsMax?: number } = {},
  ) {
    this.#clock = deps.clock
    this.#store = deps.store
    this.#subjectsMax = options.subjectsMax ?? PENALTY_SUBJECTS_MAX
    const now = this.#clock.now()
    for (const { subject, score, at, bannedUntil, failures } of deps.store.load()) {
      // A clock that was set back must neither lengthen a ban nor stop the decay.
      const bounded = Math.min(bannedUntil, now + BAN_MS_MAX)
      const failuresAt = Math.min(at, now)
      const retryAt = failuresAt + backOffMs(failures)
      const scoreAt = Math.max(failuresAt, bounded)
      this.#records.set(subject, { score, scoreAt, bannedUntil: bounded, failures, failuresAt, retryAt })
      this.#saved.add(subject)
    }
    if (this.#records.size > this.#subjectsMax) this.#evict(this.#records.size - this.#subjectsMax)
    this.#forgetTrifles()
  }

  get size(): number {
    return this.#records.size
  }

  /** The record as it is now. Undefined: nothing is held against the subject. */
  find(subject: string): Readonly<PenaltyRecord> | undefined {
    const record = this.#records.get(subject)
    if (record === undefined) return undefined
    this.#decay(record)
    if (!isTrifle(record, this.#clock.now())) return record
    this.forget(subject)
    return undefined
  }

  /** Changes the record, made where there is none, and keeps it in the store where it should outlive a restart. */
  update(subject: string, change: (record: PenaltyRecord) => void): Readonly<PenaltyRecord> {
    const now = this.#clock.now()
    const known = this.#records.get(subject)
    const record = known ?? { score: 0, scoreAt: now, bannedUntil: 0, failures: 0, failuresAt: now, retryAt: 0 }
    this.#decay(record)
    change(record)
    if (known === undefined) {
      if (this.#records.size >= this.#subjectsMax) this.#makeRoom()
      this.#records.set(subject, record)
    }
    this.#persist(subject, record)
    return record
  }

  /** False where nothing was held against the subject. */
  forget(subject: string): boolean {
    if (this.#saved.delete(subject)) this.#store.remove(subject)
    return this.#records.delete(subject)
  }

  /** All subjects that something is held against. */
  list(): ReadonlyArray<{ readonly subject: string } & Readonly<PenaltyRecord>> {
    this.#forgetTrifles()
    return [...this.#records].map(([subject, record]) => ({ subject, ...record }))
  }

  #decay(record: PenaltyRecord): void {
    const now = this.#clock.now()
    if (now > record.scoreAt) {
      record.score *= 0.5 ** ((now - record.scoreAt) / PENALTY_HALF_LIFE_MS)
      record.scoreAt = now
    }
    if (now > record.failuresAt) {
      record.failures *= 0.5 ** ((now - record.failuresAt) / PENALTY_HALF_LIFE_MS)
      record.failuresAt = now
    }
  }

  /** Only bans and waits are worth a write: a flood of small offences must not become one of writes. */
  #persist(subject: string, record: PenaltyRecord): void {
    const now = this.#clock.now()
    if (record.bannedUntil <= now && record.failures <= BACK_OFF_FREE_FAILURES) {
      if (this.#saved.delete(subject)) this.#store.remove(subject)
      return
    }
    this.#saved.add(subject)
    this.#store.save(toStored(subject, record, now))
  }

  #makeRoom(): void {
    this.#forgetTrifles()
    if (this.#records.size < this.#subjectsMax) return
    this.#evict(Math.max(1, Math.floor(this.#subjectsMax * EVICTED_SHARE)))
  }

  #evict(count: number): void {
    const now = this.#clock.now()
    for (const record of this.#records.values()) this.#decay(record)
    const byWeight = [...this.#records].sort((a, b) => weightOf(a[1], now) - weightOf(b[1], now))
    for (const [subject] of byWeight.slice(0, count)) this.forget(subject)
  }

  #forgetTrifles(): void {
    const now = this.#clock.now()
    for (const [subject, record] of this.#records) {
      this.#decay(record)
      if (isTrifle(record, now)) this.forget(subject)
    }
  }
}

function isTrifle({ score, failures, bannedUntil, retryAt }: PenaltyRecord, now: number): boolean {
  return bannedUntil <= now && retryAt <= now && score < SCORE_MIN && failures < FAILURES_MIN
}

/** A ban outweighs every score, the longer the more. */
function weightOf({ score, failures, bannedUntil }: PenaltyRecord, now: number): number {
  return bannedUntil > now ? 1e9 + (bannedUntil - now) : score + failures
}

/** One time for score and failures: both have been brought to this moment. */
function toStored(subject: string, record: PenaltyRecord, now: number): StoredPenalty {
  const { score, bannedUntil, failures } = record
  return { subject, score, at: now, bannedUntil, failures: Math.round(failures) }
}
