/**
 * The audit log as a node writes it: a chain of entries in `node.db`, each with the hash of the one before, and every
 * now and then a signature of the node's key over the newest hash. It is tamper-evident, not tamper-proof: whoever has
 * the disk and the key can write another one, and whoever has the disk can cut off what is not signed yet, or put an
 * older copy of the whole file in its place. `docs/guides/audit-log.md` says so to people.
 *
 * The oldest entries go. What remains is tied to them by the anchor (number and hash of the last one that went), which
 * a `log-pruned` entry repeats inside the chain.
 */
import type { DatabaseSync } from 'node:sqlite'
import { type CancelTimer, type Clock, toHex } from '#base'
import { SHA256_BYTES } from '#crypto'
import type { AuditKind, AuditLog } from '#protocol'
import { type AuditFacts, encodeFacts, FIRST_PREVIOUS, hashEntry, short, utf8 } from './audit-entry.ts'
import { AuditFolds, type FoldedEntry } from './audit-folds.ts'
import { AuditSigner, type CheckpointSigner } from './audit-signer.ts'
import {
  AUDIT_AGE_MS_MAX,
  AUDIT_ENTRIES_MAX,
  AUDIT_FOLD_MS,
  AUDIT_NAME_CHARS_MAX,
  AUDIT_PRUNE_BATCH,
  AUDIT_PRUNE_PERIOD_MS,
  AUDIT_TEXT_CHARS_MAX,
} from './limits.ts'
import { bytesOf, inTransaction, integerOf, prepareRead, type StoreDeps } from './rows.ts'

export interface AuditStore extends AuditLog {
  /** The node's key from now on. What was not signed with the key before is signed with this one. */
  setSigner(signer: CheckpointSigner): void
  /** Signs the end of the log now. Resolves when that has been done or has failed; never rejects. */
  checkpoint(): Promise<void>
  /** Writes what is still being counted, signs the end, and takes no more. Never rejects. Idempotent. */
  close(): Promise<void>
}

/** The kind of entry that says what went, by number and hash. */
export const LOG_PRUNED = 'log-pruned'

type Head = { readonly seq: number; readonly hash: Uint8Array }

export function createAuditLog(deps: StoreDeps): AuditStore {
  return new SqliteAuditLog(deps)
}

class SqliteAuditLog implements AuditStore {
  readonly #clock: Clock
  readonly #deps: StoreDeps
  readonly #folds = new AuditFolds()
  readonly #signer: AuditSigner
  readonly #statements: ReturnType<typeof prepareStatements>
  #head: Head
  /** Number of the last entry that was pruned. */
  #anchor: number
  /** Entries that could not be written: said with the next one that can. */
  #lost = 0
  #cancelFolds: CancelTimer | undefined
  #foldsDue = Number.POSITIVE_INFINITY
  #cancelPrune: CancelTimer | undefined
  #isClosed = false

  constructor(deps: StoreDeps) {
    this.#deps = deps
    this.#clock = deps.clock
    this.#statements = prepareStatements(deps)
    const { head, anchor, signed } = readEnd(deps.database)
    this.#head = head
    this.#anchor = anchor
    this.#signer = new AuditSigner(deps, { head: () => this.#head, signed })
    this.#prune()
  }

  record(kind: AuditKind, { peer = '', ...facts }: { readonly peer?: string } & AuditFacts): void {
    if (this.#isClosed) return
    const now = this.#clock.monotonic()
    if (now >= this.#foldsDue) this.#writeFolds()
    const entry = this.#folds.take({ kind, peer: short(peer, AUDIT_TEXT_CHARS_MAX), facts }, now)
    if (entry !== undefined) this.#append(entry)
    this.#scheduleFolds(now + AUDIT_FOLD_MS)
  }

  setSigner(signer: CheckpointSigner): void {
    if (!this.#isClosed) this.#signer.setSigner(signer)
  }

  checkpoint(): Promise<void> {
    return this.#signer.checkpoint()
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#cancelFolds?.()
    this.#cancelPrune?.()
    for (const entry of this.#folds.due(this.#clock.monotonic(), true)) this.#append(entry)
    this.#isClosed = true
    await this.#signer.close()
  }

  #writeFolds(): void {
    this.#cancelFolds?.()
    this.#foldsDue = Number.POSITIVE_INFINITY
    for (const entry of this.#folds.due(this.#clock.monotonic())) this.#append(entry)
    const next = this.#folds.nextDue()
    if (next !== undefined) this.#scheduleFolds(next)
  }

  #scheduleFolds(at: number): void {
    if (at >= this.#foldsDue) return
    this.#cancelFolds?.()
    this.#foldsDue = at
    this.#cancelFolds = this.#clock.after(Math.max(0, at - this.#clock.monotonic()), () => this.#writeFolds())
  }

  /** Never throws: what goes wrong with the disk must not end what is being recorded. */
  #append(entry: FoldedEntry): void {
    const isWritten = this.#deps.guard.attempt('write to the audit log', false, () => {
      const facts = this.#lost === 0 ? entry.facts : { ...entry.facts, lost: this.#lost }
      this.#head = this.#insert({ ...entry, facts })
      return true
    })
    if (!isWritten) {
      this.#lost++
      return
    }
    this.#lost = 0
    this.#signer.appended()
    if (this.#head.seq - this.#anchor >= AUDIT_ENTRIES_MAX + AUDIT_PRUNE_BATCH) this.#prune()
  }

  #insert(entry: FoldedEntry): Head {
    const seq = this.#head.seq + 1
    const at = Math.max(0, Math.trunc(this.#clock.now()))
    const kind = short(entry.kind, AUDIT_NAME_CHARS_MAX)
    const facts = encodeFacts(entry.facts)
    const previous = this.#head.hash
    const hash = hashEntry({
      seq: BigInt(seq),
      at: BigInt(at),
      kind: utf8(kind),
      peer: utf8(entry.peer),
      facts: utf8(facts),
      previous,
    })
    this.#statements.insert.run(seq, at, kind, entry.peer, facts, previous, hash)
    return { seq, hash }
  }

  /** Removes one batch of what is too old or too much; where more is left, soon another. */
  #prune(): void {
    this.#cancelPrune?.()
    const isMoreLeft = this.#deps.guard.attempt('prune the audit log', false, () => this.#pruneBatch())
    this.#cancelPrune = this.#clock.after(isMoreLeft ? AUDIT_FOLD_MS : AUDIT_PRUNE_PERIOD_MS, () => this.#prune())
  }

  /** @returns whether more is left to remove */
  #pruneBatch(): boolean {
    const { first, fresh, hashOf, remove, removeCheckpoints, moveAnchor } = this.#statements
    const firstKept = first.get()
    const from = firstKept === undefined ? undefined : integerOf(firstKept, 'seq')
    if (from === undefined) return false // The log is empty.
    const firstFresh = fresh.get(this.#clock.now() - AUDIT_AGE_MS_MAX)
    const byAge = (firstFresh === undefined ? undefined : integerOf(firstFresh, 'seq')) ?? this.#head.seq + 1
    // The entry that says so needs room too.
    const byCount = this.#head.seq + 2 - AUDIT_ENTRIES_MAX
    const end = Math.max(byAge, byCount)
    if (end <= from) return false
    const last = Math.min(end, from + AUDIT_PRUNE_BATCH) - 1
    this.#head = inTransaction(this.#deps.database, () => {
      const row = hashOf.get(last)
      // In a damaged log the row may be missing: the check of the log says so as long as the rows around it are kept.
      const hash = (row === undefined ? undefined : bytesOf(row, 'hash', SHA256_BYTES)) ?? FIRST_PREVIOUS
      remove.run(last)
      removeCheckpoints.run(last)
      moveAnchor.run(last, hash)
      const facts = { through: last, hash: toHex(hash), reason: byAge > byCount ? 'age' : 'count' }
      return this.#insert({ kind: LOG_PRUNED, peer: '', facts })
    })
    this.#anchor = last
    this.#signer.appended()
    return last < end - 1
  }
}

function prepareStatements({ database }: StoreDeps) {
  return {
    insert: database.prepare(
      'INSERT INTO audit (seq, at, kind, peer, facts, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?)',
    ),
    first: prepareRead(database, 'SELECT min(seq) AS seq FROM audit WHERE seq > 0'),
    fresh: prepareRead(database, 'SELECT seq FROM audit WHERE seq > 0 AND at >= ? ORDER BY seq LIMIT 1'),
    hashOf: prepareRead(database, 'SELECT hash FROM audit WHERE seq = ?'),
    remove: database.prepare('DELETE FROM audit WHERE seq <= ?'),
    removeCheckpoints: database.prepare('DELETE FROM audit_checkpoints WHERE seq <= ?'),
    moveAnchor: database.prepare(
      `INSERT INTO audit_state (id, anchor_seq, anchor_hash) VALUES (1, ?, ?)
       ON CONFLICT (id) DO UPDATE SET anchor_seq = excluded.anchor_seq, anchor_hash = excluded.anchor_hash`,
    ),
  }
}

/** Numbers beyond this one are nothing that a node has written: it goes on before them. */
const SEQ_MAX = 2 ** 52

/**
 * Where the log ends. Where a signed end lies behind the last entry, the log was cut: it goes on behind the signed end,
 * so that the gap stays and the check of the log finds it.
 */
function readEnd(database: DatabaseSync): { readonly head: Head; readonly anchor: number; readonly signed: number } {
  const newest = (table: string) =>
    prepareRead(database, `SELECT seq, hash FROM ${table} WHERE seq BETWEEN 1 AND ? ORDER BY seq DESC LIMIT 1`).get(
      SEQ_MAX,
    )
  const [entry, checkpoint] = [newest('audit'), newest('audit_checkpoints')]
  const state = prepareRead(database, 'SELECT anchor_seq, anchor_hash FROM audit_state WHERE id = 1').get()
  const anchor = Math.min(state === undefined ? 0 : (integerOf(state, 'anchor_seq') ?? 0), SEQ_MAX)
  const anchorHash = state === undefined ? undefined : bytesOf(state, 'anchor_hash', SHA256_BYTES)
  const signed = checkpoint === undefined ? 0 : (integerOf(checkpoint, 'seq') ?? 0)
  const seq = Math.max(entry === undefined ? 0 : (integerOf(entry, 'seq') ?? 0), signed, anchor)
  const hash = entry === undefined ? anchorHash : bytesOf(entry, 'hash', SHA256_BYTES)
  return { head: { seq, hash: hash ?? FIRST_PREVIOUS }, anchor, signed }
}
