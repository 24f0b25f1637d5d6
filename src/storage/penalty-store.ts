/** Penalty scores and bans that outlive a restart. */
import type { PenaltyStore, StoredPenalty } from '#protocol'
import { PENALTIES_KEPT_MAX, PENALTY_AGE_MS_MAX } from './limits.ts'
import { integerOf, limitRows, prepareRead, type Row, type StoreDeps, textOf } from './rows.ts'

/** When a row was last of use: a running ban is of use until its end. A flood of new subjects ends no ban early. */
const LAST_USE = 'max(at, banned_until)'

export function createPenaltyStore({ database, clock, guard }: StoreDeps): PenaltyStore {
  const load = prepareRead(database, `SELECT * FROM penalties ORDER BY ${LAST_USE} DESC LIMIT ?`)
  const forget = database.prepare(`DELETE FROM penalties WHERE ${LAST_USE} < ?`)
  const upsert = database.prepare(
    `INSERT INTO penalties (subject, score, at, banned_until, failures) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (subject) DO UPDATE SET score = excluded.score, at = excluded.at,
       banned_until = excluded.banned_until, failures = excluded.failures`,
  )
  const remove = database.prepare('DELETE FROM penalties WHERE subject = ?')
  const limit = limitRows(database, { table: 'penalties', firstToGo: LAST_USE, max: PENALTIES_KEPT_MAX })
  return {
    load: () =>
      guard.attempt<readonly StoredPenalty[]>('read the penalties', [], () => {
        forget.run(clock.now() - PENALTY_AGE_MS_MAX)
        return load
          .all(PENALTIES_KEPT_MAX)
          .map(penaltyOf)
          .filter(penalty => penalty !== undefined)
      }),
    save: ({ subject, score, at, bannedUntil, failures }) =>
      guard.attempt('store a penalty', undefined, () => {
        upsert.run(subject, score, Math.trunc(at), Math.trunc(bannedUntil), failures)
        limit()
      }),
    remove: subject => guard.attempt('forget a penalty', undefined, () => void remove.run(subject)),
  }
}

function penaltyOf(row: Row): StoredPenalty | undefined {
  const subject = textOf(row, 'subject')
  const score = row['score']
  const at = integerOf(row, 'at')
  const bannedUntil = integerOf(row, 'banned_until')
  const failures = integerOf(row, 'failures')
  if (subject === undefined || typeof score !== 'number' || !Number.isFinite(score)) return undefined
  if (at === undefined || bannedUntil === undefined || failures === undefined) return undefined
  return { subject, score, at, bannedUntil, failures }
}
