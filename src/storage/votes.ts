/**
 * What nodes say about models: one vote a voter and model, as it was signed, so that it can be passed on. Bounded for
 * each model and each voter, so that nobody pushes out what others said by saying much.
 */
import { openVote, type SignedVote } from '#protocol'
import {
  VOTE_ENVELOPE_BYTES_MAX,
  VOTES_KEPT_MAX,
  VOTES_PER_MODEL_MAX,
  VOTES_PER_VOTER_MAX,
  VOTES_SHOWN_MAX,
} from './limits.ts'
import { limitRows, prepareRead, type Row, type StoreDeps } from './rows.ts'

export type StoredVote = SignedVote & {
  /** The id that speaks for the voter now. */
  readonly voter: string
  /** The signed envelope. */
  readonly bytes: Uint8Array
}

export interface VoteStore {
  /**
   * Checks and keeps a vote. One voter has one vote on a model, that with the highest sequence; a key that was handed
   * over says nothing against a vote that is there already, since whoever has stolen it could go on counting.
   * @param bytes a signed envelope, from anybody @returns the vote where it is new here; undefined: refused, or older
   */
  put(bytes: Uint8Array): StoredVote | undefined
  /** The newest first, 100 at most. */
  of(model: string): readonly StoredVote[]
  /** How many say one thing and the other; of all that are kept. */
  count(model: string): { readonly trusted: number; readonly distrusted: number }
  /** The highest sequence of a voter's votes on a model; the next one is above it. */
  sequenceOf(model: string, voter: string): number | undefined
}

const NONE = { trusted: 0, distrusted: 0 } as const

/** @param current the id that speaks for a peer now */
export function createVoteStore(deps: StoreDeps, current: (peer: string) => string): VoteStore {
  const { database, guard } = deps
  const save = prepareSave(deps)
  const newest = prepareRead(
    database,
    'SELECT voter, envelope FROM model_votes WHERE model = ? ORDER BY at DESC, voter LIMIT ?',
  )
  const known = prepareRead(database, 'SELECT voter, envelope FROM model_votes WHERE model = ? AND voter = ?')
  const count = database.prepare(
    'SELECT coalesce(sum(trusted), 0) AS trusted, count(*) AS count FROM model_votes WHERE model = ?',
  )
  const find = (model: string, voter: string): StoredVote | undefined => storedVote(known.get(model, voter), model)
  return {
    put: bytes =>
      guard.attempt('store a vote', undefined, () => {
        if (bytes.byteLength > VOTE_ENVELOPE_BYTES_MAX) return undefined
        const opened = openVote(bytes)
        if ('code' in opened) return undefined
        const voter = current(opened.signer)
        const before = find(opened.vote.model, voter)
        if (before !== undefined && !isNewer(opened, { before, voter })) return undefined
        const vote: StoredVote = { ...opened, voter, bytes: new Uint8Array(bytes) }
        return save(vote) ? vote : undefined
      }),
    of: model =>
      guard.attempt<readonly StoredVote[]>('read votes', [], () =>
        newest
          .all(model, VOTES_SHOWN_MAX)
          .map(row => storedVote(row, model))
          .filter(vote => vote !== undefined),
      ),
    count: model =>
      guard.attempt<ReturnType<VoteStore['count']>>('count votes', NONE, () => {
        const row = count.get(model)
        const trusted = Number(row?.['trusted'] ?? 0)
        return { trusted, distrusted: Number(row?.['count'] ?? 0) - trusted }
      }),
    sequenceOf: (model, voter) =>
      guard.attempt('read a vote', undefined, () => find(model, current(voter))?.vote.sequence),
  }
}

function isNewer(
  { signer, vote }: SignedVote,
  { before, voter }: { readonly before: StoredVote; readonly voter: string },
): boolean {
  if (signer !== voter) return false
  return before.signer !== voter || vote.sequence > before.vote.sequence
}

/** @returns whether it is still there once the oldest have made room */
function prepareSave({ database, clock }: StoreDeps): (vote: StoredVote) => boolean {
  const upsert = database.prepare(
    `INSERT INTO model_votes (model, voter, trusted, at, envelope) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (model, voter) DO UPDATE SET trusted = excluded.trusted, at = excluded.at, envelope = excluded.envelope`,
  )
  const keepNewest = (column: 'model' | 'voter') =>
    database.prepare(
      `DELETE FROM model_votes WHERE rowid IN
         (SELECT rowid FROM model_votes WHERE ${column} = ? ORDER BY at DESC LIMIT -1 OFFSET ?)`,
    )
  const [ofModel, ofVoter] = [keepNewest('model'), keepNewest('voter')]
  const limit = limitRows(database, { table: 'model_votes', firstToGo: 'at', max: VOTES_KEPT_MAX })
  const isThere = database.prepare('SELECT 1 FROM model_votes WHERE model = ? AND voter = ?')
  return ({ vote, voter, bytes }) => {
    // A time ahead of ours would keep every later vote out.
    upsert.run(vote.model, voter, Number(vote.isTrusted), Math.min(vote.at, clock.now()), bytes)
    ofModel.run(vote.model, VOTES_PER_MODEL_MAX)
    ofVoter.run(voter, VOTES_PER_VOTER_MAX)
    limit()
    return isThere.get(vote.model, voter) !== undefined
  }
}

/** A row whose envelope does not hold, or is about another model, is as good as none. */
function storedVote(row: Row | undefined, model: string): StoredVote | undefined {
  const envelope = row?.['envelope']
  const voter = row?.['voter']
  if (!(envelope instanceof Uint8Array) || typeof voter !== 'string') return undefined
  const bytes = new Uint8Array(envelope)
  const opened = openVote(bytes)
  return 'code' in opened || opened.vote.model !== model ? undefined : { ...opened, voter, bytes }
}
