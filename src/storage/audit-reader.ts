/**
 * The audit log as people read it: over a connection of its own that cannot write, so it works beside a running node
 * (SQLite's write-ahead log lets one write while others read) and where none runs.
 */
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { messageOf, toHex } from '#base'
import { type AuditVerdict, checkAuditLog } from './audit-check.ts'
import { type AuditEntry, decodeFacts, ENTRY_COLUMNS, hashEntry, storedEntryOf } from './audit-entry.ts'
import { StorageError } from './errors.ts'
import { AUDIT_ENTRIES_MAX, AUDIT_PRUNE_BATCH, DATABASE_BUSY_MS_MAX } from './limits.ts'
import { MIGRATIONS } from './migrations.ts'
import { prepareRead, type Row } from './rows.ts'

export type AuditQuery = {
  /** The newest so many. @default all that are kept */
  readonly limit?: number
  readonly kind?: string
  /** A peer id, or how it ends. */
  readonly peer?: string
  /** Unix milliseconds: this and later. */
  readonly since?: number
}

export interface AuditReader {
  /** The oldest first. @throws StorageError STORAGE_DATABASE */
  entries(query?: AuditQuery): readonly AuditEntry[]
  /**
   * Checks the whole log (`AuditVerdict` says what for).
   * @param signer the peer id whose key must have signed; left out: the one that the file names, which whoever can
   *   replace the file can replace too
   * @throws StorageError STORAGE_DATABASE
   */
  verify(signer?: string): AuditVerdict
  /** Idempotent. */
  close(): void
}

/** @throws StorageError STORAGE_FILE where no node has run in this directory, STORAGE_DATABASE */
export function readAuditLog(dataDir: string): AuditReader {
  const path = join(dataDir, 'node.db')
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) {
    throw new StorageError({ code: 'STORAGE_FILE', path }, `no node has run in ${dataDir}: there is no node.db`)
  }
  const checked = <T>(action: () => T): T => {
    try {
      return action()
    } catch (error) {
      if (error instanceof StorageError) throw error
      const message = `cannot read the audit log in ${path}: ${messageOf(error)}`
      throw new StorageError({ code: 'STORAGE_DATABASE', path }, message, { cause: error })
    }
  }
  const database = checked(() => open(path))
  return {
    entries: query => checked(() => readEntries(database, query ?? {})),
    verify: signer => checked(() => inSnapshot(database, () => checkAuditLog(database, signer))),
    close: () => void (database.isOpen && database.close()),
  }
}

function open(path: string): DatabaseSync {
  const database = new DatabaseSync(path, { readOnly: true, timeout: DATABASE_BUSY_MS_MAX })
  try {
    const version = Number(database.prepare('PRAGMA user_version').get()?.['user_version'] ?? 0)
    if (version === MIGRATIONS.length) return database
    const message =
      version > MIGRATIONS.length
        ? `${path} has version ${version}, but this program knows version ${MIGRATIONS.length}: update it`
        : `${path} is of an earlier version of this program: start the node once`
    throw new StorageError({ code: 'STORAGE_DATABASE', path }, message)
  } catch (error) {
    database.close()
    throw error
  }
}

/** What is read belongs together, whatever a node writes or prunes meanwhile. */
function inSnapshot<T>(database: DatabaseSync, action: () => T): T {
  database.exec('BEGIN')
  try {
    return action()
  } finally {
    database.exec('COMMIT')
  }
}

function readEntries(database: DatabaseSync, query: AuditQuery): readonly AuditEntry[] {
  const { kind, peer, since = 0, limit = AUDIT_ENTRIES_MAX + AUDIT_PRUNE_BATCH } = query
  const rows = prepareRead(
    database,
    `SELECT ${ENTRY_COLUMNS} FROM audit
     WHERE (?1 IS NULL OR kind = ?1) AND (?2 IS NULL OR substr(peer, -length(?2)) = ?2) AND at >= ?3
     ORDER BY seq DESC LIMIT ?4`,
  ).all(kind ?? null, peer ?? null, since, limit)
  return rows.map(entryOf).reverse()
}

/** The last moment that a Date can hold: formatting a later one throws. */
const TIME_MAX = 8_640_000_000_000_000n

/** A row, or what can still be read of it. */
function entryOf(row: Row): AuditEntry {
  const { seq, at, kind, peer, hash } = row
  const facts = row['facts'] instanceof Uint8Array ? decodeFacts(row['facts']) : undefined
  const stored = storedEntryOf(row)
  const isTimeGood = typeof at === 'bigint' && at >= 0n && at <= TIME_MAX
  const isGood =
    stored !== undefined && facts !== undefined && isTimeGood && toHex(hashEntry(stored)) === toHex(stored.hash)
  const from = textIn(peer)
  return {
    seq: Number(seq),
    at: isTimeGood ? Number(at) : 0,
    kind: textIn(kind),
    ...(from === '' ? {} : { peer: from }),
    facts: facts ?? {},
    hash: hash instanceof Uint8Array ? toHex(hash) : '',
    ...(isGood ? {} : { isDamaged: true }),
  }
}

function textIn(value: Row[string] | undefined): string {
  return value instanceof Uint8Array ? new TextDecoder().decode(value) : ''
}
