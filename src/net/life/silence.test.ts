import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { SILENCE_DOUBT_MS, SILENCE_FORGET_MS } from '../limits.ts'
import { Silence } from './silence.ts'

describe('net / silence', () => {
  it('doubts a path over which something was said and nothing heard, for a while', () => {
    const silence = new Silence()
    const [saidAt, said] = [60_000, { bytesIn: 5, bytesOut: 9 }]
    assert.equal(silence.look(0, { bytesIn: 5, bytesOut: 5 }), false)
    // However long nothing was heard before: the peer had nothing to answer.
    assert.equal(silence.look(saidAt, said), false)
    assert.equal(silence.look(saidAt + SILENCE_DOUBT_MS - 1, said), false)
    assert.equal(silence.look(saidAt + SILENCE_DOUBT_MS, said), true)
    assert.equal(silence.look(saidAt + SILENCE_FORGET_MS - 1, said), true)
    assert.equal(silence.look(saidAt + SILENCE_FORGET_MS, said), false)
  })

  it('goes on doubting while more is said, until something is heard', () => {
    const silence = new Silence()
    for (let now = 0; now < 2 * SILENCE_FORGET_MS; now += SILENCE_DOUBT_MS / 2) {
      assert.equal(silence.look(now, { bytesIn: 0, bytesOut: now + 1 }), now >= SILENCE_DOUBT_MS)
    }
    assert.equal(silence.look(2 * SILENCE_FORGET_MS, { bytesIn: 1, bytesOut: 1e6 }), false)
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
