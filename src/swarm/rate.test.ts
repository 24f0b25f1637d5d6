/** A limit of a rate that is changed while it is used. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock } from '#base'
import { Rate } from './rate.ts'

const MIB = 2 ** 20

test('a limit that is set again and again lets no more through than it says', () => {
  const clock = new ManualClock()
  const rate = new Rate(clock, 4 * MIB)
  let moved = 0
  for (let second = 0; second < 10; second++) {
    for (let turn = 0; turn < 20; turn++) {
      clock.advance(50)
      rate.set(turn % 2 === 0 ? 4 * MIB : 4 * MIB + 1)
      const bytes = rate.available
      rate.charge(bytes)
      moved += bytes
    }
  }
  assert.ok(moved <= 41 * MIB, `${moved} bytes`)
  rate.set(undefined)
  assert.equal(rate.available, Number.POSITIVE_INFINITY)
  rate.set(MIB)
  assert.equal(rate.available, MIB)
})
