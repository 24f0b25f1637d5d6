import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isScriptTimeout, runInProcessorTime, wallMsMax } from './template-time.ts'

const LIMITS = { timeoutMs: 100, triesMax: 4 }

/** A machine on which this process gets a part of the time, and a template that needs so much of it. */
function machine(share: number, needsMs: number) {
  let usedMs = 0
  const limits: number[] = []
  const run = (limitMs: number): string => {
    limits.push(limitMs)
    usedMs += Math.min(needsMs, limitMs * share)
    if (needsMs > limitMs * share) throw Object.assign(new Error('late'), { code: 'ERR_SCRIPT_EXECUTION_TIMEOUT' })
    return 'text'
  }
  return { limits, start: () => runInProcessorTime(run, { ...LIMITS, processorMs: () => usedMs }) }
}

test('a template that others kept from the processor gets another try, with more time', () => {
  const busy = machine(0.05, 15)
  assert.equal(busy.start(), 'text')
  assert.deepEqual(busy.limits, [100, 200, 400])
})

test('one that had its time, and used it up, gets none', () => {
  const idle = machine(0.99, 5_000)
  assert.throws(idle.start, isScriptTimeout)
  assert.deepEqual(idle.limits, [100])
})

test('tries come to an end, within the time that is said', () => {
  const starved = machine(0.01, 5_000)
  assert.throws(starved.start, isScriptTimeout)
  assert.deepEqual(starved.limits, [100, 200, 400, 800])
  assert.equal(
    wallMsMax(LIMITS),
    starved.limits.reduce((sum, limit) => sum + limit, 0),
  )
})

test('another error is not repeated', () => {
  let runs = 0
  const fail = (): never => {
    runs++
    throw new RangeError('Invalid array length')
  }
  assert.throws(() => runInProcessorTime(fail, { ...LIMITS, processorMs: () => 0 }), RangeError)
  assert.equal(runs, 1)
})
