import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock } from '#base'
import { RATE_LIMIT_SAID_MS } from './limits.ts'
import { RateLimits } from './rate-limits.ts'

const CHEAP = { type: 32, cost: 1, rate: { perSecond: 100, burst: 100 } }
const DEAR = { type: 33, cost: 8, rate: { perSecond: 100, burst: 100 } }
const RARE = { type: 34, cost: 1, rate: { perSecond: 0.1, burst: 2 } }

const createLimits = (peersMax = 100) => {
  const clock = new ManualClock()
  const requests = { tokensMax: 20, perSecond: 10 }
  const limits = new RateLimits({ clock }, { requests, bytes: { tokensMax: 1_000, perSecond: 100 }, peersMax })
  return { clock, limits }
}

test('a peer spends tokens by what its requests cost, and is told when to come back', () => {
  const { clock, limits } = createLimits()
  assert.equal(limits.takeRequest('a', DEAR), undefined)
  assert.equal(limits.takeRequest('a', DEAR), undefined)
  assert.deepEqual(limits.takeRequest('a', DEAR), { retryAfterMs: 400, isFirst: true })
  assert.equal(limits.takeRequest('a', CHEAP), undefined, 'a refusal takes nothing')
  assert.equal(limits.takeRequest('b', DEAR), undefined, 'others have buckets of their own')
  clock.advance(500)
  assert.equal(limits.takeRequest('a', DEAR), undefined)
})

test('a command has a rate of its own beside the tokens of its peer', () => {
  const { clock, limits } = createLimits()
  assert.equal(limits.takeRequest('a', RARE), undefined)
  assert.equal(limits.takeRequest('a', RARE), undefined)
  assert.equal(limits.takeRequest('a', RARE)?.retryAfterMs, 10_000)
  assert.equal(limits.takeRequest('a', CHEAP), undefined)
  clock.advance(10_000)
  assert.equal(limits.takeRequest('a', RARE), undefined)
  const another = { ...RARE, rate: { perSecond: 1, burst: 1 } }
  assert.equal(limits.takeRequest('a', another), undefined, 'a command that took the place of another has its own rate')
  assert.equal(limits.takeRequest('a', another)?.retryAfterMs, 1_000)
})

test('bytes in and out are counted apart, and bytes that came without end stop requests too', () => {
  const { clock, limits } = createLimits()
  assert.equal(limits.chargeBytes('a', 'in', 1_000), 0)
  assert.equal(limits.chargeBytes('a', 'in', 50), 500)
  assert.equal(limits.chargeBytes('a', 'out', 1_000), 0)
  assert.equal(limits.takeRequest('a', CHEAP)?.retryAfterMs, 500)
  clock.advance(500)
  assert.equal(limits.takeRequest('a', CHEAP), undefined)
})

test('only the first refusal in a while is worth an entry in the audit log', () => {
  const { clock, limits } = createLimits()
  limits.takeTokens('a', 20)
  assert.equal(limits.takeTokens('a', 20)?.isFirst, true)
  for (let i = 0; i < 100; i++) assert.equal(limits.takeTokens('a', 20)?.isFirst, false)
  clock.advance(RATE_LIMIT_SAID_MS)
  limits.takeTokens('a', 20)
  assert.equal(limits.takeTokens('a', 20)?.isFirst, true)
})

test('an empty bucket cannot be got rid of by filling the table with names', () => {
  const { clock, limits } = createLimits(50)
  assert.equal(limits.takeTokens('attacker', 20), undefined)
  for (let i = 0; i < 49; i++) assert.equal(limits.takeTokens(`name${i}`, 20), undefined)
  assert.equal(limits.takeTokens('name50', 20), undefined, 'those without a place share one bucket')
  assert.notEqual(limits.takeTokens('name51', 1), undefined)
  for (let i = 0; i < 1_000; i++) limits.takeTokens(`more${i}`, 1)
  assert.notEqual(limits.takeTokens('attacker', 1), undefined)
  assert.equal(limits.peers, 50)
  clock.advance(10_000)
  assert.equal(limits.takeTokens('newcomer', 20), undefined, 'full buckets make room')
  assert.equal(limits.takeTokens('newcomer2', 20), undefined)
  assert.equal(limits.peers, 50)
})
