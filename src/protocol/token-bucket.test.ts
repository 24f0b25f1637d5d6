import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ManualClock } from '#base'
import { TokenBucket } from './token-bucket.ts'

test('a bucket gives so much at once, and so much more with time, never beyond its size', () => {
  const clock = new ManualClock()
  const bucket = new TokenBucket({ clock }, { tokensMax: 10, perSecond: 2 })
  assert.ok(bucket.isFull)
  assert.ok(bucket.take(10))
  assert.ok(!bucket.take(1))
  clock.advance(499)
  assert.ok(!bucket.take(1))
  clock.advance(1)
  assert.ok(bucket.take(1))
  clock.advance(1e9)
  assert.ok(bucket.isFull)
  assert.ok(!bucket.take(11))
  assert.ok(bucket.take(10))
})

test('whoever waits as long as he is told gets his tokens, and not earlier', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1000 }),
      fc.double({ min: 0.01, max: 1e6, noNaN: true }),
      fc.array(fc.tuple(fc.integer({ min: 1, max: 1000 }), fc.integer({ min: 0, max: 5_000 })), { maxLength: 30 }),
      (tokensMax, perSecond, steps) => {
        const clock = new ManualClock()
        const bucket = new TokenBucket({ clock }, { tokensMax, perSecond })
        for (const [asked, pauseMs] of steps) {
          clock.advance(pauseMs)
          const tokens = Math.min(asked, tokensMax)
          const waitMs = bucket.retryAfterMs(tokens)
          // Whole milliseconds, rounded up: the last one may be for nothing, the one before is not.
          if (waitMs > 2) {
            clock.advance(waitMs - 2)
            assert.ok(!bucket.take(tokens), 'too early')
            clock.advance(2)
          } else clock.advance(waitMs)
          assert.equal(bucket.retryAfterMs(tokens), 0)
          assert.ok(bucket.take(tokens), 'as told')
        }
      },
    ),
  )
})

test('what cannot be refused leaves a debt, which one refill pays at most', () => {
  const clock = new ManualClock()
  const bucket = new TokenBucket({ clock }, { tokensMax: 100, perSecond: 10 })
  bucket.charge(150)
  assert.equal(bucket.retryAfterMs(0), 5_000)
  bucket.charge(1e9)
  assert.equal(bucket.retryAfterMs(0), 10_000)
  clock.advance(10_000)
  assert.equal(bucket.retryAfterMs(0), 0)
})

test('other limits are no fresh start: what is there stays, and so does what is owed', () => {
  const clock = new ManualClock()
  const bucket = new TokenBucket({ clock }, { tokensMax: 10, perSecond: 2 })
  assert.ok(bucket.take(7))
  bucket.change({ tokensMax: 100, perSecond: 50 })
  assert.equal(bucket.available, 3)
  clock.advance(1_000)
  assert.equal(bucket.available, 53)
  bucket.change({ tokensMax: 10, perSecond: 1 })
  assert.equal(bucket.available, 10)
  bucket.charge(18)
  for (let change = 0; change < 10; change++) bucket.change({ tokensMax: change % 2 === 0 ? 100 : 10, perSecond: 1 })
  assert.equal(bucket.available, 0)
  clock.advance(8_000)
  assert.ok(!bucket.take(1))
  clock.advance(1_000)
  assert.ok(bucket.take(1))
})
