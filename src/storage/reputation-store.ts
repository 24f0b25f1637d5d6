/** What is known about how peers behave: what others say, and what this node has seen itself. Nothing is weighed yet. */
import {
  RATING_COMMENT_CHARS_MAX,
  RATINGS_KEPT_MAX,
  RATINGS_PER_RATER_MAX,
  RATINGS_PER_SUBJECT_MAX,
  RATINGS_SHOWN_MAX,
  OBSERVED_PEERS_MAX,
} from './limits.ts'
import { integerOf, limitRows, prepareRead, type Row, type StoreDeps, textOf } from './rows.ts'

export type Rating = {
  /** Who says so. */
  readonly rater: string
  /** About whom. */
  readonly subject: string
  /** -1 (bad) to 1 (good). */
  readonly score: number
  /** 200 characters at most. */
  readonly comment: string
  /** Unix milliseconds. */
  readonly at: number
}

/** What became of a request that this node gave to a peer. */
export type Observation = 'served' | 'failed' | 'refused'

export type Reputation = {
  /** Of all ratings alike; undefined: nobody has rated this peer. */
  readonly mean: number | undefined
  readonly count: number
  /** What this node has counted itself. */
  readonly own: Readonly<Record<Observation, number>>
  /** The newest first, 20 at most. */
  readonly ratings: readonly Rating[]
}

export interface ReputationStore {
  /**
   * Keeps one rating a rater and subject, the newest. Ids of keys that were handed over stand for the current ones.
   * @returns false where it is not taken: out of bounds, of itself, or older than what is kept
   */
  rate(rating: Rating): boolean
  of(subject: string): Reputation
  /** Counts what this node has seen a peer do. */
  observe(subject: string, what: Observation): void
}

const UNKNOWN: Reputation = { mean: undefined, count: 0, own: { served: 0, failed: 0, refused: 0 }, ratings: [] }

/** @param current the id that speaks for a peer now */
export function createReputationStore(deps: StoreDeps, current: (peer: string) => string): ReputationStore {
  const { database, clock, guard } = deps
  const rate = prepareRate(deps)
  const summary = prepareRead(
    database,
    'SELECT avg(score) AS mean, count(*) AS count FROM ratings WHERE subject = ? AND score BETWEEN -1 AND 1',
  )
  const newest = prepareRead(database, 'SELECT * FROM ratings WHERE subject = ? ORDER BY at DESC, rater LIMIT ?')
  const own = prepareRead(database, 'SELECT * FROM observations WHERE peer = ?')
  const observe = prepareObserve(deps)
  return {
    rate: rating =>
      guard.attempt('store a rating', false, () => {
        const { score, comment, at } = rating
        const [rater, subject] = [current(rating.rater), current(rating.subject)]
        if (rater === subject || !(score >= -1 && score <= 1) || comment.length > RATING_COMMENT_CHARS_MAX) return false
        // A time ahead of ours would keep every later rating out.
        return rate({ rater, subject, score, comment, at: Math.max(0, Math.min(Math.trunc(at), clock.now())) })
      }),
    of: peer =>
      guard.attempt('read a reputation', UNKNOWN, () => {
        const subject = current(peer)
        const row = summary.get(subject)
        const observed = own.get(subject)
        const counted = (name: Observation): number => (observed === undefined ? 0 : (integerOf(observed, name) ?? 0))
        return {
          mean: typeof row?.['mean'] === 'number' ? row['mean'] : undefined,
          count: row === undefined ? 0 : (integerOf(row, 'count') ?? 0),
          own: { served: counted('served'), failed: counted('failed'), refused: counted('refused') },
          ratings: newest
            .all(subject, RATINGS_SHOWN_MAX)
            .map(ratingOf)
            .filter(rating => rating !== undefined),
        }
      }),
    observe: (subject, what) =>
      guard.attempt('count what a peer did', undefined, () => observe(current(subject), what)),
  }
}

function prepareRate({ database }: StoreDeps): (rating: Rating) => boolean {
  const upsert = database.prepare(
    `INSERT INTO ratings (subject, rater, score, comment, at) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (subject, rater) DO UPDATE SET score = excluded.score, comment = excluded.comment, at = excluded.at
       WHERE excluded.at >= ratings.at`,
  )
  const keepNewest = (column: 'subject' | 'rater') =>
    database.prepare(
      `DELETE FROM ratings WHERE rowid IN
         (SELECT rowid FROM ratings WHERE ${column} = ? ORDER BY at DESC LIMIT -1 OFFSET ?)`,
    )
  const [ofSubject, ofRater] = [keepNewest('subject'), keepNewest('rater')]
  const limit = limitRows(database, { table: 'ratings', firstToGo: 'at', max: RATINGS_KEPT_MAX })
  return ({ rater, subject, score, comment, at }) => {
    const { changes } = upsert.run(subject, rater, score, comment, at)
    ofSubject.run(subject, RATINGS_PER_SUBJECT_MAX)
    ofRater.run(rater, RATINGS_PER_RATER_MAX)
    limit()
    return Number(changes) > 0
  }
}

function prepareObserve({ database, clock }: StoreDeps): (peer: string, what: Observation) => void {
  const prepare = (what: Observation) =>
    database.prepare(
      `INSERT INTO observations (peer, served, failed, refused, at)
         VALUES (?1, ${Number(what === 'served')}, ${Number(what === 'failed')}, ${Number(what === 'refused')}, ?2)
       ON CONFLICT (peer) DO UPDATE SET ${what} = ${what} + 1, at = ?2`,
    )
  const count = { served: prepare('served'), failed: prepare('failed'), refused: prepare('refused') }
  const limit = limitRows(database, { table: 'observations', firstToGo: 'at', max: OBSERVED_PEERS_MAX })
  return (peer, what) => {
    count[what].run(peer, clock.now())
    limit()
  }
}

function ratingOf(row: Row): Rating | undefined {
  const subject = textOf(row, 'subject')
  const rater = textOf(row, 'rater')
  const score = row['score']
  const comment = textOf(row, 'comment')
  const at = integerOf(row, 'at')
  if (subject === undefined || rater === undefined || comment === undefined || at === undefined) return undefined
  if (typeof score !== 'number' || !(score >= -1 && score <= 1)) return undefined
  return { subject, rater, score, comment, at }
}
