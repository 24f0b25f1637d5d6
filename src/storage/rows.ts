/**
 * Values of rows, checked as they are read: somebody may have edited the file, and a damaged row is then as good as
 * none. Statements that read integers ask for bigints, because SQLite's do not all fit in a number and node:sqlite
 * throws for those that do not.
 */
import type { DatabaseSync, SQLOutputValue, StatementSync } from 'node:sqlite'
import type { Clock } from '#base'
import type { StoreGuard } from './store-guard.ts'

export type Row = Readonly<Record<string, SQLOutputValue>>

/** What the stores of `node.db` share. */
export type StoreDeps = { readonly database: DatabaseSync; readonly clock: Clock; readonly guard: StoreGuard }

/** A statement whose integers are bigints. */
export function prepareRead(database: DatabaseSync, sql: string): StatementSync {
  const statement = database.prepare(sql)
  statement.setReadBigInts(true)
  return statement
}

/** A whole number from 0 up. */
export function integerOf(row: Row, name: string): number | undefined {
  const value = row[name]
  return typeof value === 'bigint' && value >= 0n && value <= BigInt(Number.MAX_SAFE_INTEGER)
    ? Number(value)
    : undefined
}

export function textOf(row: Row, name: string): string | undefined {
  const value = row[name]
  return typeof value === 'string' ? value : undefined
}

/** Exactly `size` bytes. */
export function bytesOf(row: Row, name: string, size: number): Uint8Array<ArrayBuffer> | undefined {
  const value = row[name]
  return value instanceof Uint8Array && value.byteLength === size ? new Uint8Array(value) : undefined
}

/** Runs all of `action` or nothing of it. */
export function inTransaction<T>(database: DatabaseSync, action: () => T): T {
  database.exec('BEGIN IMMEDIATE')
  try {
    const result = action()
    database.exec('COMMIT')
    return result
  } catch (error) {
    // SQLite has rolled back by itself after some errors (a full disk).
    if (database.isTransaction) database.exec('ROLLBACK')
    throw error
  }
}

export type RowLimit = { readonly table: string; readonly firstToGo: string; readonly max: number }

/**
 * Keeps a table from growing. To be called after every row that may be a new one; counts the rows only when there may
 * be too many, and then makes room for a hundredth, so that a full table costs little.
 */
export function limitRows(database: DatabaseSync, { table, firstToGo, max }: RowLimit): () => void {
  const count = database.prepare(`SELECT count(*) AS count FROM ${table}`)
  const prune = database.prepare(
    `DELETE FROM ${table} WHERE rowid IN (SELECT rowid FROM ${table} ORDER BY ${firstToGo} LIMIT ?)`,
  )
  const countRows = (): number => Number(count.get()?.['count'] ?? 0)
  let atMost = countRows()
  return () => {
    atMost++
    if (atMost <= max) return
    atMost = countRows()
    if (atMost <= max) return
    prune.run(atMost - Math.floor(max * 0.99))
    atMost = countRows()
  }
}
