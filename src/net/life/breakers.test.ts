import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ManualClock, seededRandom } from '#base'
import { BREAKERS_MAX } from '../limits.ts'
import { Breakers } from './breakers.ts'

const SETTINGS = { breakerFailures: 3, breakerWindowMs: 10_000, breakerWaitMsMin: 1_000, breakerWaitMsMax: 8_000 }

function setUp() {
  const clock = new ManualClock()
  const breakers = new Breakers({ clock, random: seededRandom(11) }, SETTINGS)
  const failTimes = (times: number, key = 'p'): void => {
    for (let i = 0; i < times; i++) {
      assert.equal(breakers.enter(key), undefined)
      breakers.failed(key)
    }
  }
  return { clock, breakers, failTimes }
}

/** What a wait of so many milliseconds may be once it is spread out. */
function isAbout(actual: number | undefined, ms: number): void {
  assert.ok(actual !== undefined && actual >= 0.75 * ms && actual <= 1.25 * ms + 1, `${actual} is not about ${ms}`)
}

describe('net / circuit breakers', () => {
  it('open with the last of the failures, and say for how long', () => {
    const { breakers, failTimes } = setUp()
    failTimes(2)
    assert.equal(breakers.restsForMs('p'), undefined)
    failTimes(1)
    isAbout(breakers.enter('p'), 1_000)
    assert.equal(breakers.restsForMs('another'), undefined)
    assert.deepEqual(
      breakers.facts().map(({ key, state, round }) => ({ key, state, round })),
      [{ key: 'p', state: 'open', round: 0 }],
    )
  })

  it('stay closed where the failures are far apart', () => {
    const { clock, breakers, failTimes } = setUp()
    for (let i = 0; i < 10; i++) {
      failTimes(1)
      clock.advance(5_001)
    }
    assert.equal(breakers.restsForMs('p'), undefined)
  })

  it('let one probe through when their time is up, and wait twice as long each time that it fails', () => {
    const { clock, breakers, failTimes } = setUp()
    failTimes(3)
    for (const waitMs of [1_000, 2_000, 4_000, 8_000, 8_000]) {
      const restsForMs = breakers.restsForMs('p')
      isAbout(restsForMs, waitMs)
      clock.advance((restsForMs ?? 0) - 1)
      assert.notEqual(breakers.enter('p'), undefined)
      clock.advance(1)
      assert.equal(breakers.enter('p'), undefined)
      assert.notEqual(breakers.enter('p'), undefined, 'one probe at a time')
      breakers.failed('p')
    }
  })

  it('close with a probe that succeeds, and begin anew then', () => {
    const { clock, breakers, failTimes } = setUp()
    failTimes(3)
    clock.advance(2_000)
    assert.equal(breakers.enter('p'), undefined)
    breakers.succeeded('p')
    assert.deepEqual([breakers.size, breakers.facts()], [0, []])
    failTimes(2)
    assert.equal(breakers.restsForMs('p'), undefined)
  })

  it('are open again where a probe came to no end, and count that as no failure', () => {
    const { clock, breakers, failTimes } = setUp()
    failTimes(3)
    clock.advance(2_000)
    assert.equal(breakers.enter('p'), undefined)
    breakers.gaveUp('p', 500)
    assert.equal(breakers.enter('p'), 500)
    clock.advance(500)
    assert.equal(breakers.enter('p'), undefined)
    breakers.failed('p')
    isAbout(breakers.restsForMs('p'), 2_000)
  })

  it('are so many, and forget those that were heard of longest ago', () => {
    const { breakers, failTimes } = setUp()
    failTimes(3, 'first')
    for (let i = 0; i < BREAKERS_MAX; i++) breakers.failed(`p${i}`)
    assert.equal(breakers.size, BREAKERS_MAX)
    assert.equal(breakers.restsForMs('first'), undefined)
  })
})
