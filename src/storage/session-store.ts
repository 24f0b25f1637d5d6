/** Sessions that can go on after a lost connection or a restart. Their secrets are why `node.db` is private. */
import type { SessionStore, StoredSession } from '#protocol'
import { SESSIONS_KEPT_MAX, SESSIONS_KEPT_PER_PEER_MAX } from './limits.ts'
import { bytesOf, integerOf, limitRows, prepareRead, type Row, type StoreDeps, textOf } from './rows.ts'

const SESSION_ID_BYTES = 16
const RESUMPTION_SECRET_BYTES = 32

export function createSessionStore({ database, clock, guard }: StoreDeps): SessionStore {
  const find = prepareRead(
    database,
    'SELECT * FROM sessions WHERE peer = ? AND expires_at > ? ORDER BY created_at DESC, id DESC LIMIT ?',
  )
  // Whoever dials makes the id up: nobody replaces the session of another peer by proposing its id.
  const upsert = database.prepare(
    `INSERT INTO sessions (id, peer, resumption_secret, resumptions, version, suite, created_at, expires_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (id) DO UPDATE SET peer = excluded.peer, resumption_secret = excluded.resumption_secret,
       resumptions = excluded.resumptions, version = excluded.version, suite = excluded.suite,
       created_at = excluded.created_at, expires_at = excluded.expires_at
     WHERE sessions.peer = excluded.peer`,
  )
  const remove = database.prepare('DELETE FROM sessions WHERE id = ?')
  const removeExpired = database.prepare('DELETE FROM sessions WHERE expires_at <= ?')
  const removeOlder = database.prepare(
    `DELETE FROM sessions WHERE rowid IN
       (SELECT rowid FROM sessions WHERE peer = ? ORDER BY created_at DESC, id DESC LIMIT -1 OFFSET ?)`,
  )
  const limit = limitRows(database, { table: 'sessions', firstToGo: 'created_at', max: SESSIONS_KEPT_MAX })
  return {
    find: peer =>
      guard.attempt('read the stored sessions', undefined, () => {
        const rows = find.all(peer, clock.now(), SESSIONS_KEPT_PER_PEER_MAX)
        return rows.map(sessionOf).find(session => session !== undefined)
      }),
    save: session =>
      guard.attempt('store a session', undefined, () => {
        const { id, peer, resumptionSecret, resumptions, version, suite, createdAt, expiresAt } = session
        removeExpired.run(clock.now())
        upsert.run(id, peer, resumptionSecret, resumptions, version, suite, createdAt, expiresAt)
        removeOlder.run(peer, SESSIONS_KEPT_PER_PEER_MAX)
        limit()
      }),
    remove: id => guard.attempt('forget a session', undefined, () => void remove.run(id)),
  }
}

function sessionOf(row: Row): StoredSession | undefined {
  const id = bytesOf(row, 'id', SESSION_ID_BYTES)
  const peer = textOf(row, 'peer')
  const resumptionSecret = bytesOf(row, 'resumption_secret', RESUMPTION_SECRET_BYTES)
  const resumptions = integerOf(row, 'resumptions')
  const version = integerOf(row, 'version')
  const suite = textOf(row, 'suite')
  const createdAt = integerOf(row, 'created_at')
  const expiresAt = integerOf(row, 'expires_at')
  if (id === undefined || peer === undefined || resumptionSecret === undefined || resumptions === undefined) {
    return undefined
  }
  if (version === undefined || suite === undefined || createdAt === undefined || expiresAt === undefined) {
    return undefined
  }
  return { id, peer, resumptionSecret, resumptions, version, suite, createdAt, expiresAt }
}
