import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ManualClock, seededRandom } from '#base'
import { DOUBT_TIMEOUT_MS, DOUBTS_FAILED_MAX, PING_FIRST_INTERVAL_MS, PINGS_FIRST } from '../limits.ts'
import { Pinger } from './pinger.ts'

const SETTINGS = { pingIntervalMs: 15_000, pingTimeoutMs: 4_000, pingFailuresMax: 3 }

function setUp(settings = SETTINGS) {
  const clock = new ManualClock()
  const pings: { readonly id: number; readonly at: number }[] = []
  const deadAt: number[] = []
  const pinger = new Pinger(
    {
      clock,
      random: seededRandom(2),
      send: id => void pings.push({ id, at: clock.monotonic() }),
      onRtt: () => undefined,
      onDead: () => void deadAt.push(clock.monotonic()),
    },
    settings,
  )
  pinger.start()
  return { clock, pinger, pings, deadAt }
}

describe('net / pings', () => {
  it('close a connection with the last of so many failures in a row', () => {
    const { clock, pinger, pings, deadAt } = setUp()
    clock.advance(33_999)
    assert.deepEqual([pinger.failures, deadAt], [2, []])
    clock.advance(1)
    assert.deepEqual(deadAt, [2 * 15_000 + 4_000])
    clock.advance(3_600_000)
    assert.deepEqual([pings.length, deadAt.length], [3, 1])
  })

  it('take an answer in time for life, and a late one for none', () => {
    const { clock, pinger, pings, deadAt } = setUp()
    const newest = (): number => pings.at(-1)?.id ?? 0
    const untilNext = (): void => {
      const count = pings.length
      while (pings.length === count) clock.advance(100)
    }
    for (let round = 1; round <= 5; round++) {
      for (let failed = 1; failed <= 2; failed++) {
        clock.advance(4_000)
        pinger.pong(newest())
        assert.equal(pinger.failures, failed)
        untilNext()
      }
      pinger.pong(newest())
      assert.equal(pinger.failures, 0)
      untilNext()
    }
    assert.deepEqual(deadAt, [])
  })

  it('measure: a shorter time is believed at once, a longer one by an eighth', () => {
    const { clock, pinger, pings } = setUp()
    for (const rttMs of [100, 20, 60]) {
      clock.advance(rttMs)
      pinger.pong(pings.at(-1)?.id ?? 0)
      if (rttMs !== 60) clock.advance(PING_FIRST_INTERVAL_MS)
    }
    assert.equal(pinger.rttMs, 25)
  })

  it('come quickly at first, then at the interval', () => {
    const { clock, pinger, pings } = setUp()
    for (let i = 0; i < 8; i++) {
      pinger.pong(pings.at(-1)?.id ?? 0)
      clock.advance(i < PINGS_FIRST - 1 ? PING_FIRST_INTERVAL_MS : 15_000)
    }
    const waits = pings.slice(1).map(({ at }, i) => at - (pings[i]?.at ?? 0))
    assert.deepEqual(waits.slice(0, PINGS_FIRST - 1), Array(PINGS_FIRST - 1).fill(PING_FIRST_INTERVAL_MS))
    assert.deepEqual(waits.slice(PINGS_FIRST - 1), Array(8 - PINGS_FIRST + 1).fill(15_000))
  })

  it('end when they are stopped', () => {
    const { clock, pinger, pings, deadAt } = setUp()
    pinger.stop()
    clock.advance(3_600_000)
    assert.deepEqual([pings.length, deadAt.length], [1, 0])
  })

  it('end a doubt also with an answer that took longer than a doubt waits, and wait as much longer then', () => {
    const { clock, pinger, pings, deadAt } = setUp()
    const lateMs = DOUBT_TIMEOUT_MS + 500
    pinger.pong(pings.at(-1)?.id ?? 0)
    for (let round = 0; round < 20; round++) {
      pinger.doubt()
      const asked = pings.at(-1)?.id ?? 0
      clock.advance(lateMs)
      pinger.pong(asked)
      assert.equal(pinger.failures, 0)
    }
    assert.deepEqual(deadAt, [])
    assert.ok((pinger.rttMs ?? 0) > DOUBT_TIMEOUT_MS)
    const before = clock.monotonic()
    pinger.doubt()
    clock.advance(DOUBTS_FAILED_MAX * DOUBT_TIMEOUT_MS)
    assert.deepEqual(deadAt, [])
    clock.advance(60_000)
    assert.ok(deadAt[0] !== undefined && deadAt[0] > before + DOUBTS_FAILED_MAX * DOUBT_TIMEOUT_MS)
  })

  it('follow one another at once where somebody waits in vain, until an answer or the end', () => {
    const { clock, pinger, pings, deadAt } = setUp()
    for (let i = 0; i < PINGS_FIRST; i++) {
      pinger.pong(pings.at(-1)?.id ?? 0)
      if (i < PINGS_FIRST - 1) clock.advance(PING_FIRST_INTERVAL_MS)
    }
    const first = pings.length
    pinger.doubt()
    pinger.doubt()
    assert.equal(pings.length, first + 1)
    clock.advance(DOUBT_TIMEOUT_MS)
    assert.equal(pings.length, first + 2)
    pinger.pong(pings.at(-1)?.id ?? 0)
    clock.advance(DOUBTS_FAILED_MAX * DOUBT_TIMEOUT_MS)
    assert.deepEqual([pinger.failures, deadAt], [0, []])
    const before = clock.monotonic()
    pinger.doubt()
    clock.advance(DOUBTS_FAILED_MAX * DOUBT_TIMEOUT_MS)
    assert.deepEqual(deadAt, [before + DOUBTS_FAILED_MAX * DOUBT_TIMEOUT_MS])
  })
})
