/**
 * Which key speaks for a peer now: hand-over statements, each from one key to the next. Whoever calls has verified them.
 *
 * A key hands over once. What this node keeps about a peer (sessions, penalties, ratings, votes, observations) moves to the
 * new key in the same transaction, so that nobody sheds a penalty, or loses a good name, half-way.
 *
 * Unlike the other stores this one throws where the database fails: a node that forgot that a key was handed over would
 * trust whoever has stolen the old one.
 */
import type { DatabaseSync } from 'node:sqlite'
import { messageOf } from '#base'
import { ML_DSA_65_PUBLIC_BYTES } from '#crypto'
import type { PeerKeyStore } from '#protocol'
import { StorageError } from './errors.ts'
import { HANDOVERS_KEPT_MAX, HYBRID_KEYS_KEPT_MAX, KEY_CHAIN_MAX } from './limits.ts'
import { bytesOf, inTransaction, prepareRead, textOf } from './rows.ts'

export interface PeerKeys extends PeerKeyStore {
  /**
   * Records a verified statement and moves what is kept about the peer to its new key.
   * @returns false where it is not taken: the old key has handed over to another key already, or the new key's chain
   *   leads back to the old one
   * @throws StorageError STORAGE_DATABASE
   */
  record(statement: Handover): boolean
  /** The peer ids that `peer` had before, the newest first. @throws StorageError STORAGE_DATABASE */
  formerIds(peer: string): readonly string[]
}

export type Handover = {
  readonly from: string
  readonly to: string
  readonly bytes: Uint8Array
  /** Unix milliseconds. */
  readonly at: number
}

/** @param own the peer id of this node, as far as it is known: its own hand-overs are never pruned */
export function createPeerKeyStore(database: DatabaseSync, path: string, own: () => string | undefined): PeerKeys {
  const next = prepareRead(database, 'SELECT to_peer, statement FROM handovers WHERE from_peer = ?')
  const insert = database.prepare('INSERT INTO handovers (from_peer, to_peer, statement, at) VALUES (?, ?, ?, ?)')
  const formerIdsOf = prepareFormerIds(database)
  const move = prepareMove(database)
  const prune = preparePrune(database)
  const hybrid = prepareHybridKeys(database)

  /** From `peer` to its current key, the oldest first; undefined for a circle, which only a damaged file has. */
  const walk = (peer: string): readonly { readonly to: string; readonly statement: Uint8Array }[] | undefined => {
    const steps: { readonly to: string; readonly statement: Uint8Array }[] = []
    for (let from = peer; steps.length <= KEY_CHAIN_MAX; ) {
      const row = next.get(from)
      const to = row === undefined ? undefined : textOf(row, 'to_peer')
      const statement = row?.['statement']
      if (to === undefined || !(statement instanceof Uint8Array)) return steps
      steps.push({ to, statement: new Uint8Array(statement) })
      from = to
    }
    return undefined
  }

  const record = ({ from, to, bytes, at }: Handover): boolean => {
    const known = next.get(from)
    if (known !== undefined) return textOf(known, 'to_peer') === to
    const after = walk(to)
    if (from === to || after === undefined || after.some(step => step.to === from)) return false
    const current = after.at(-1)?.to ?? to
    inTransaction(database, () => {
      insert.run(from, to, bytes, Math.trunc(at))
      move(from, current)
      prune(current, own() ?? '')
    })
    return true
  }

  const checked = <T>(action: () => T): T => {
    try {
      return action()
    } catch (error) {
      const message = `cannot use the hand-overs of peers' keys in ${path}: ${messageOf(error)}`
      throw new StorageError({ code: 'STORAGE_DATABASE', path }, message, { cause: error })
    }
  }
  return {
    current: peer => checked(() => walk(peer)?.at(-1)?.to ?? peer),
    chain: peer => checked(() => walk(peer)?.map(step => step.statement) ?? []),
    formerIds: peer => checked(() => formerIdsOf(peer)),
    record: statement => checked(() => record(statement)),
    hybridKey: peer => checked(() => hybrid.find(peer)),
    pinHybridKey: (peer, key, at) => checked(() => hybrid.pin(peer, key, at)),
  }
}

/** The first ML-DSA-65 key that a peer has proved stays: a peer that could forge Ed25519 alone must not replace it. */
function prepareHybridKeys(database: DatabaseSync): {
  find(peer: string): Uint8Array | undefined
  pin(peer: string, key: Uint8Array, at: number): void
} {
  const find = prepareRead(database, 'SELECT key FROM hybrid_keys WHERE peer = ?')
  const insert = database.prepare('INSERT INTO hybrid_keys (peer, key, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING')
  const prune = database.prepare(
    'DELETE FROM hybrid_keys WHERE peer NOT IN (SELECT peer FROM hybrid_keys ORDER BY at DESC LIMIT ?)',
  )
  return {
    find: peer => {
      const row = find.get(peer)
      return row === undefined ? undefined : bytesOf(row, 'key', ML_DSA_65_PUBLIC_BYTES)
    },
    pin: (peer, key, at) => {
      insert.run(peer, key, Math.trunc(at))
      prune.run(HYBRID_KEYS_KEPT_MAX)
    },
  }
}

/** Ids that lead to one, the newest first. UNION, not UNION ALL: it ends where a damaged file has a circle. */
export function prepareFormerIds(database: DatabaseSync): (peer: string) => readonly string[] {
  const statement = prepareRead(
    database,
    `WITH RECURSIVE former (peer, depth) AS (
       SELECT from_peer, 1 FROM handovers WHERE to_peer = ?1
       UNION
       SELECT from_peer, depth + 1 FROM handovers JOIN former ON to_peer = former.peer WHERE depth < ?2
     )
     SELECT peer FROM former WHERE peer <> ?1 GROUP BY peer ORDER BY min(depth) LIMIT ?2`,
  )
  return peer =>
    statement
      .all(peer, KEY_CHAIN_MAX)
      .map(row => textOf(row, 'peer'))
      .filter(id => id !== undefined)
}

/** Moves what is kept about one id to another; where both have a row, the two become one. */
function prepareMove(database: DatabaseSync): (from: string, to: string) => void {
  const steps = [
    `UPDATE sessions SET peer = ?2 WHERE peer = ?1`,
    `INSERT INTO penalties (subject, score, at, banned_until, failures)
       SELECT ?2, score, at, banned_until, failures FROM penalties WHERE subject = ?1
       ON CONFLICT (subject) DO UPDATE SET score = max(score, excluded.score), at = max(at, excluded.at),
         banned_until = max(banned_until, excluded.banned_until), failures = max(failures, excluded.failures)`,
    `DELETE FROM penalties WHERE subject = ?1 AND subject <> ?2`,
    `INSERT INTO observations (peer, served, failed, refused, at)
       SELECT ?2, served, failed, refused, at FROM observations WHERE peer = ?1
       ON CONFLICT (peer) DO UPDATE SET served = served + excluded.served, failed = failed + excluded.failed,
         refused = refused + excluded.refused, at = max(at, excluded.at)`,
    `DELETE FROM observations WHERE peer = ?1 AND peer <> ?2`,
    `INSERT INTO ratings (subject, rater, score, comment, at)
       SELECT ?2, rater, score, comment, at FROM ratings WHERE subject = ?1 AND rater <> ?2
       ON CONFLICT (subject, rater) DO UPDATE SET score = excluded.score, comment = excluded.comment, at = excluded.at
         WHERE excluded.at > ratings.at`,
    `DELETE FROM ratings WHERE subject = ?1 AND subject <> ?2`,
    `INSERT INTO ratings (subject, rater, score, comment, at)
       SELECT subject, ?2, score, comment, at FROM ratings WHERE rater = ?1 AND subject <> ?2
       ON CONFLICT (subject, rater) DO UPDATE SET score = excluded.score, comment = excluded.comment, at = excluded.at
         WHERE excluded.at > ratings.at`,
    `DELETE FROM ratings WHERE rater = ?1 AND rater <> ?2`,
    // What the new key has said already stands, whatever the old one said later.
    `UPDATE OR IGNORE model_votes SET voter = ?2 WHERE voter = ?1`,
    `DELETE FROM model_votes WHERE voter = ?1 AND voter <> ?2`,
  ].map(sql => database.prepare(sql))
  return (from, to) => {
    for (const step of steps) step.run(from, to)
  }
}

/** Shortens the chain of one peer and the table as a whole, the oldest first. */
function preparePrune(database: DatabaseSync): (changed: string, own: string) => void {
  const former = `WITH RECURSIVE former (peer, depth) AS (
       VALUES (?1, 0) UNION
       SELECT from_peer, depth + 1 FROM handovers JOIN former ON to_peer = former.peer WHERE depth < ?2
     )`
  const cut = database.prepare(
    `${former} DELETE FROM handovers WHERE from_peer IN (SELECT peer FROM former WHERE depth >= ?2)`,
  )
  const count = database.prepare('SELECT count(*) AS count FROM handovers')
  const removeOldest = database.prepare(
    `${former} DELETE FROM handovers WHERE rowid IN
       (SELECT rowid FROM handovers WHERE from_peer NOT IN (SELECT peer FROM former) ORDER BY at LIMIT ?3)`,
  )
  return (changed, own) => {
    cut.run(changed, KEY_CHAIN_MAX + 1)
    const excess = Number(count.get()?.['count'] ?? 0) - HANDOVERS_KEPT_MAX
    if (excess > 0) removeOldest.run(own, KEY_CHAIN_MAX + 1, excess)
  }
}
