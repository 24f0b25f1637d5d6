/**
 * Which events become an entry of the audit log of their own, and which are counted together, so that nobody can fill
 * the disk, or flush the log, by making the same thing happen again and again. A state machine without I/O: times in,
 * entries out.
 *
 * The first event of a kind and peer is an entry at once. Those that follow within a second are counted and become one
 * entry; while they go on the time doubles, up to a minute. Every entry costs a token of its kind's bucket. Where there
 * is none (many peers do the same), events are counted by kind alone, one entry a minute.
 */
import type { AuditFacts } from './audit-entry.ts'
import { AUDIT_BURST_MAX, AUDIT_FOLD_MS, AUDIT_FOLD_MS_MAX, AUDIT_FOLDS_MAX, AUDIT_REFILL_MS } from './limits.ts'

export type FoldedEntry = { readonly kind: string; readonly peer: string; readonly facts: AuditFacts }

type Fold = {
  readonly kind: string
  readonly peer: string
  /** Of the newest event. */
  facts: AuditFacts
  /** Events that are in no entry yet. */
  count: number
  windowMs: number
  until: number
}

export class AuditFolds {
  readonly #folds = new Map<string, Fold>()
  readonly #overflows = new Map<string, Fold>()
  readonly #buckets = new Map<string, { tokens: number; at: number }>()

  /**
   * Takes an event. @param now monotonic milliseconds
   * @returns the entry to write now, if any
   */
  take(event: FoldedEntry, now: number): FoldedEntry | undefined {
    const { kind, peer, facts } = event
    const key = `${kind}\u0000${peer}`
    const open = this.#folds.get(key)
    if (open !== undefined) {
      open.count++
      open.facts = facts
      return undefined
    }
    if (this.#folds.size >= AUDIT_FOLDS_MAX || !this.#spend(kind, now)) {
      this.#overflow(kind, 1, now)
      return undefined
    }
    this.#folds.set(key, { kind, peer, facts, count: 0, windowMs: AUDIT_FOLD_MS, until: now + AUDIT_FOLD_MS })
    return event
  }

  /** Closes what is due, and returns the entries to write. @param isAll closes everything: the log ends */
  due(now: number, isAll = false): readonly FoldedEntry[] {
    const entries: FoldedEntry[] = []
    for (const [key, fold] of this.#folds) {
      if (!isAll && fold.until > now) continue
      if (fold.count > 0 && this.#spend(fold.kind, now)) {
        entries.push(entryOf(fold, { folded: fold.count }))
        fold.count = 0
        fold.windowMs = Math.min(fold.windowMs * 2, AUDIT_FOLD_MS_MAX)
        fold.until = now + fold.windowMs
        continue
      }
      if (fold.count > 0) this.#overflow(fold.kind, fold.count, now)
      this.#folds.delete(key)
    }
    for (const [kind, fold] of this.#overflows) {
      if (!isAll && fold.until > now) continue
      entries.push({ kind, peer: '', facts: { folded: fold.count, overflow: true } })
      this.#overflows.delete(kind)
    }
    return entries
  }

  /** When `due` has something to do next; undefined: never. */
  nextDue(): number | undefined {
    let next: number | undefined
    for (const folds of [this.#folds, this.#overflows]) {
      for (const { until } of folds.values()) next = next === undefined ? until : Math.min(next, until)
    }
    return next
  }

  #overflow(kind: string, count: number, now: number): void {
    const open = this.#overflows.get(kind)
    if (open !== undefined) {
      open.count += count
      return
    }
    const fold = { kind, peer: '', facts: {}, count, windowMs: AUDIT_FOLD_MS_MAX, until: now + AUDIT_FOLD_MS_MAX }
    this.#overflows.set(kind, fold)
  }

  #spend(kind: string, now: number): boolean {
    const bucket = this.#buckets.get(kind) ?? { tokens: AUDIT_BURST_MAX, at: now }
    bucket.tokens = Math.min(AUDIT_BURST_MAX, bucket.tokens + (now - bucket.at) / AUDIT_REFILL_MS)
    bucket.at = now
    this.#buckets.set(kind, bucket)
    if (bucket.tokens < 1) return false
    bucket.tokens--
    return true
  }
}

function entryOf(fold: Fold, more: AuditFacts): FoldedEntry {
  return { kind: fold.kind, peer: fold.peer, facts: { ...fold.facts, ...more } }
}
