import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ManualClock } from '#base'
import { MemoryPenaltyStore } from '../../test/support/command-fixture.ts'
import { BAN_MS_MAX, BAN_MS_MIN, PENALTY_HALF_LIFE_MS } from './limits.ts'
import { Penalties, PENALTY_WEIGHTS, type PenaltyKind } from './penalties.ts'
import { PenaltyRecords } from './penalty-records.ts'

const createPenalties = ({
  clock = new ManualClock(1e12),
  store = new MemoryPenaltyStore(),
  subjectsMax = 100,
} = {}) => {
  const verdicts: string[] = []
  const audited: string[] = []
  const records = new PenaltyRecords({ clock, store }, { subjectsMax })
  const penalties = new Penalties({
    clock,
    records,
    audit: { record: (kind, { peer }) => void audited.push(`${kind} ${peer}`) },
    onVerdict: (subject, verdict) => void verdicts.push(`${subject} ${verdict}`),
  })
  return { clock, store, penalties, records, verdicts, audited }
}

test('misconduct adds up to a lost connection, then to a ban', () => {
  const { penalties, verdicts, audited } = createPenalties()
  const said = Array.from({ length: 5 }, () => penalties.add('eve', 'bad-signature'))
  assert.deepEqual(said, ['none', 'disconnect', 'disconnect', 'ban', 'ban'])
  assert.equal(penalties.bannedForMs('eve'), BAN_MS_MIN)
  assert.equal(penalties.bannedForMs('bob'), 0)
  assert.deepEqual(verdicts, ['eve disconnect', 'eve disconnect', 'eve ban'])
  assert.deepEqual(audited, ['banned eve'])
  assert.deepEqual(penalties.banned(), [{ subject: 'eve', bannedUntil: 1e12 + BAN_MS_MIN }])
})

test('a score halves with time, and what is spread thin enough is never punished', () => {
  const { clock, penalties } = createPenalties()
  penalties.add('bob', 'bad-signature')
  clock.advance(PENALTY_HALF_LIFE_MS)
  assert.ok(Math.abs(penalties.scoreOf('bob') - PENALTY_WEIGHTS['bad-signature'] / 2) < 1e-9)
  for (let i = 0; i < 1_000; i++) {
    clock.advance(PENALTY_HALF_LIFE_MS)
    assert.equal(penalties.add('bob', 'malformed'), 'none')
  }
  clock.advance(20 * PENALTY_HALF_LIFE_MS)
  assert.equal(penalties.scoreOf('bob'), 0)
})

test('each ban is longer than the one before, up to a day, and good conduct shortens the next', () => {
  const { clock, penalties } = createPenalties()
  const offend = (): number => {
    while (penalties.add('eve', 'malformed') !== 'ban');
    const banMs = penalties.bannedForMs('eve')
    clock.advance(banMs)
    assert.equal(penalties.bannedForMs('eve'), 0)
    return banMs
  }
  const bans = Array.from({ length: 14 }, offend)
  for (const [i, banMs] of bans.entries()) {
    const before = bans[i - 1] ?? 0
    assert.ok(banMs >= Math.min(BAN_MS_MAX, 2 * before), `ban ${i}: ${banMs} after ${before}`)
  }
  assert.equal(bans.at(-1), BAN_MS_MAX)
  clock.advance(5 * PENALTY_HALF_LIFE_MS)
  assert.ok(offend() < BAN_MS_MAX / 8)
  clock.advance(40 * PENALTY_HALF_LIFE_MS)
  assert.equal(offend(), BAN_MS_MIN)
})

test('a ban and its length outlive a restart; a clock that was set back does not lengthen it', () => {
  const first = createPenalties()
  for (let i = 0; i < 4; i++) first.penalties.add('eve', 'bad-signature')
  first.clock.advance(BAN_MS_MIN / 2)
  const second = createPenalties({ clock: first.clock, store: first.store })
  assert.equal(second.penalties.bannedForMs('eve'), BAN_MS_MIN / 2)
  assert.equal(second.penalties.scoreOf('eve'), first.penalties.scoreOf('eve'))
  first.clock.advance(BAN_MS_MIN)
  assert.equal(second.penalties.bannedForMs('eve'), 0)
  const early = createPenalties({ clock: new ManualClock(1_000), store: first.store })
  assert.equal(early.penalties.bannedForMs('eve'), BAN_MS_MAX)
})

test('even the smallest offence adds up', () => {
  const { penalties } = createPenalties()
  let count = 1
  while (penalties.add('eve', 'rate-limited') === 'none') count++
  assert.ok(count >= 1_000 && count <= 1_001, `${count}`)
})

test('the owner forgives', () => {
  const { penalties, store } = createPenalties()
  for (let i = 0; i < 4; i++) penalties.add('eve', 'bad-signature')
  assert.equal(store.rows.size, 1)
  assert.ok(penalties.forgive('eve'))
  assert.ok(!penalties.forgive('eve'))
  assert.equal(penalties.bannedForMs('eve'), 0)
  assert.equal(penalties.scoreOf('eve'), 0)
  assert.equal(store.rows.size, 0)
})

test('small offences are not worth a write', () => {
  const { penalties, store } = createPenalties()
  for (let i = 0; i < 500; i++) penalties.add(`peer${i}`, 'rate-limited')
  for (let i = 0; i < 500; i++) penalties.add('bob', 'rate-limited')
  assert.equal(store.writes, 0)
})

test('a long ban is not pushed out by names that cost nothing', () => {
  const { clock, penalties, records, store } = createPenalties({ subjectsMax: 64 })
  for (let ban = 0; ban < 4; ban++) {
    while (penalties.add('eve', 'bad-signature') !== 'ban');
    if (ban < 3) clock.advance(penalties.bannedForMs('eve'))
  }
  for (let i = 0; i < 2_000; i++) {
    for (let j = 0; j < 4; j++) penalties.add(`name${i}`, 'bad-signature')
    assert.ok(records.size <= 64)
    assert.ok(store.rows.size <= 64)
  }
  assert.ok(penalties.bannedForMs('eve') > BAN_MS_MIN)
})

test('whatever happens, scores and bans stay within their bounds and everything is forgotten in the end', () => {
  const kinds = Object.keys(PENALTY_WEIGHTS) as PenaltyKind[]
  const step = fc.record({
    subject: fc.constantFrom('a', 'b', 'ip:10.0.0.1'),
    kind: fc.constantFrom(...kinds),
    pauseMs: fc.nat({ max: 2 * 60_000 }),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), steps => {
      const { clock, penalties, store, records } = createPenalties()
      for (const { subject, kind, pauseMs } of steps) {
        clock.advance(pauseMs)
        const wasBannedMs = penalties.bannedForMs(subject)
        const verdict = penalties.add(subject, kind)
        assert.equal(verdict === 'ban', penalties.bannedForMs(subject) > 0)
        if (wasBannedMs > 0) assert.equal(penalties.bannedForMs(subject), wasBannedMs)
        assert.ok(penalties.bannedForMs(subject) <= BAN_MS_MAX)
      }
      clock.advance(BAN_MS_MAX + 60 * PENALTY_HALF_LIFE_MS)
      assert.deepEqual(records.list(), [])
      assert.equal(store.rows.size, 0)
    }),
  )
})
