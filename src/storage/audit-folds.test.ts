import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AuditFolds, type FoldedEntry } from './audit-folds.ts'
import { AUDIT_BURST_MAX, AUDIT_FOLD_MS, AUDIT_FOLD_MS_MAX, AUDIT_REFILL_MS } from './limits.ts'

const event = (peer: string, n = 0, kind = 'refused'): FoldedEntry => ({ kind, peer, facts: { n } })
const DAY_MS = 24 * 60 * 60 * 1000

test('the first event is an entry at once, those that follow within a second become one with a count', () => {
  const folds = new AuditFolds()
  assert.deepEqual(folds.take(event('a', 1), 0), event('a', 1))
  for (let n = 2; n <= 5; n++) assert.equal(folds.take(event('a', n), n * 100), undefined)
  assert.deepEqual(folds.take(event('b', 1), 100), event('b', 1), 'another peer')
  assert.ok(folds.take(event('a', 1, 'banned'), 100), 'another kind')
  assert.deepEqual(folds.due(AUDIT_FOLD_MS - 1), [])
  assert.deepEqual(folds.due(AUDIT_FOLD_MS), [{ kind: 'refused', peer: 'a', facts: { n: 5, folded: 4 } }])
})

test('the same event a second later is an entry of its own', () => {
  const folds = new AuditFolds()
  for (let i = 0; i < 5; i++) {
    folds.due(i * AUDIT_FOLD_MS)
    assert.ok(folds.take(event('a'), i * AUDIT_FOLD_MS))
  }
  folds.due(10 * AUDIT_FOLD_MS)
  assert.equal(folds.nextDue(), undefined)
})

/** Plays events through a day and counts entries and the events that they stand for. */
function play(peerAt: (i: number) => string, events: number): { entries: number; events: number } {
  const folds = new AuditFolds()
  const seen = { entries: 0, events: 0 }
  const note = (entry: FoldedEntry): void => {
    seen.entries++
    seen.events += Number(entry.facts['folded'] ?? 1)
  }
  for (let i = 0; i < events; i++) {
    const now = (i * DAY_MS) / events
    for (const entry of folds.due(now)) note(entry)
    const entry = folds.take(event(peerAt(i), i), now)
    if (entry !== undefined) note(entry)
  }
  for (const entry of folds.due(DAY_MS, true)) note(entry)
  return seen
}

test('a peer that does not stop costs an entry a minute, and every event is counted', () => {
  const events = 500_000
  const seen = play(() => 'a', events)
  assert.equal(seen.events, events)
  assert.ok(seen.entries <= DAY_MS / AUDIT_FOLD_MS_MAX + 10, `${seen.entries}`)
})

test('any number of peers cost a bounded number of entries a day, and every event is counted', () => {
  const events = 500_000
  const bound = AUDIT_BURST_MAX + DAY_MS / AUDIT_REFILL_MS + DAY_MS / AUDIT_FOLD_MS_MAX + 10
  for (const peers of [500_000, 2_000, 50]) {
    const seen = play(i => `peer-${(i * 7919) % peers}`, events)
    assert.equal(seen.events, events)
    assert.ok(seen.entries <= bound, `${seen.entries} entries for ${peers} peers`)
  }
})

test('a flood of one kind keeps no other kind out', () => {
  const folds = new AuditFolds()
  for (let i = 0; i < 10_000; i++) folds.take(event(`p${i}`), 0)
  assert.ok(folds.take(event('a', 0, 'key-rotated'), 0))
})
