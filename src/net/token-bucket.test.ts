import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ManualClock } from '#base'
import { TokenBucket } from './token-bucket.ts'

describe('net / token-bucket', () => {
  it('gives so much at once, and so much more with time, never beyond its size', () => {
    const clock = new ManualClock()
    const bucket = new TokenBucket({ clock }, { tokensMax: 10, perSecond: 2 })
    assert.ok(bucket.take(10))
    assert.ok(!bucket.take(1))
    clock.advance(499)
    assert.ok(!bucket.take(1))
    clock.advance(1)
    assert.ok(bucket.take(1))
    clock.advance(1e9)
    assert.ok(!bucket.take(11))
    assert.ok(bucket.take(10))
  })
})
