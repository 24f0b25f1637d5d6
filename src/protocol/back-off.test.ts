import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock } from '#base'
import { MemoryPenaltyStore } from '../../test/support/command-fixture.ts'
import { BackOff } from './back-off.ts'
import { BACK_OFF_FREE_FAILURES, BACK_OFF_MS_MAX, BACK_OFF_MS_MIN, PENALTY_HALF_LIFE_MS } from './limits.ts'
import { PenaltyRecords } from './penalty-records.ts'

const SUBJECT = 'ip:192.0.2.1'

const createBackOff = ({ clock = new ManualClock(1e12), store = new MemoryPenaltyStore() } = {}) => {
  const backOff = new BackOff({ clock, records: new PenaltyRecords({ clock, store }) })
  return { clock, store, backOff }
}

test('the first failures are free, then each doubles the wait', () => {
  const { clock, backOff } = createBackOff()
  for (let i = 0; i < BACK_OFF_FREE_FAILURES; i++) {
    assert.equal(backOff.failed(SUBJECT), 0)
    assert.equal(backOff.mayTry(SUBJECT), undefined)
  }
  for (const waitMs of [1, 2, 4, 8, 16].map(factor => factor * BACK_OFF_MS_MIN)) {
    assert.equal(backOff.failed(SUBJECT), waitMs)
    assert.equal(backOff.mayTry(SUBJECT), waitMs)
    assert.equal(backOff.mayTry('ip:192.0.2.2'), undefined)
    clock.advance(waitMs - 1)
    assert.equal(backOff.mayTry(SUBJECT), 1)
    clock.advance(1)
    assert.equal(backOff.mayTry(SUBJECT), undefined)
  }
})

test('the wait has a bound, and time forgives', () => {
  const { clock, backOff } = createBackOff()
  for (let i = 0; i < 1_000; i++) backOff.failed(SUBJECT)
  assert.equal(backOff.mayTry(SUBJECT), BACK_OFF_MS_MAX)
  clock.advance(3 * PENALTY_HALF_LIFE_MS)
  assert.equal(backOff.mayTry(SUBJECT), undefined)
  assert.equal(backOff.failed(SUBJECT), 0)
})

test('a success forgives all, for others behind the same address too', () => {
  const { backOff, store } = createBackOff()
  for (let i = 0; i <= BACK_OFF_FREE_FAILURES; i++) backOff.failed(SUBJECT)
  assert.notEqual(backOff.mayTry(SUBJECT), undefined)
  backOff.succeeded(SUBJECT)
  assert.equal(backOff.mayTry(SUBJECT), undefined)
  assert.equal(backOff.failed(SUBJECT), 0)
  assert.equal(store.rows.size, 0)
  backOff.succeeded('ip:192.0.2.9')
})

test('a restart does not shorten the wait', () => {
  const { clock, store, backOff } = createBackOff()
  for (let i = 0; i < BACK_OFF_FREE_FAILURES + 4; i++) backOff.failed(SUBJECT)
  clock.advance(1_000)
  const waitMs = backOff.mayTry(SUBJECT)
  assert.equal(createBackOff({ clock, store }).backOff.mayTry(SUBJECT), waitMs)
})
