import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { SILENCE_DOUBT_MS, SILENCE_FORGET_MS } from '../limits.ts'
import { Silence } from './silence.ts'

describe('net / silence', () => {
  it('doubts a path over which something was said and nothing heard, for a while', () => {
    const silence = new Silence()
    assert.equal(silence.look(0, { bytesIn: 5, bytesOut: 5 }), false)
    assert.equal(silence.look(SILENCE_DOUBT_MS - 1, { bytesIn: 5, bytesOut: 9 }), false)
    assert.equal(silence.look(SILENCE_DOUBT_MS, { bytesIn: 5, bytesOut: 9 }), true)
    assert.equal(silence.look(SILENCE_FORGET_MS, { bytesIn: 5, bytesOut: 9 }), true)
    assert.equal(silence.look(2 * SILENCE_FORGET_MS, { bytesIn: 5, bytesOut: 9 }), false)
  })

  it('does not doubt one that is heard from, or over which nothing is said', () => {
    const silence = new Silence()
    assert.equal(silence.look(0, { bytesIn: 0, bytesOut: 0 }), false)
    assert.equal(silence.look(10 * SILENCE_DOUBT_MS, { bytesIn: 0, bytesOut: 0 }), false)
    for (let now = 20_000, bytes = 1; bytes < 10; now += 2 * SILENCE_DOUBT_MS, bytes++) {
      assert.equal(silence.look(now, { bytesIn: bytes, bytesOut: bytes }), false)
    }
    // What was heard came after what was said.
    assert.equal(silence.look(90_000, { bytesIn: 100, bytesOut: 9 }), false)
    assert.equal(silence.look(90_000 + SILENCE_DOUBT_MS, { bytesIn: 100, bytesOut: 9 }), false)
  })
})
