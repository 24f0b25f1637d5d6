import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RestartPolicy } from './restart-policy.ts'

test('three crashes in a minute are followed by restarts that wait longer each time, the fourth is not', () => {
  const policy = new RestartPolicy()
  const delays = [0, 10_000, 20_000].map(nowMs => policy.crashed(nowMs))
  assert.ok(
    delays.every((delay, i) => delay !== undefined && delay > (delays[i - 1] ?? 0)),
    String(delays),
  )
  assert.equal(policy.crashed(59_999), undefined)
  assert.equal(policy.count, 3)
})

test('crashes that are a minute old do not count', () => {
  const policy = new RestartPolicy()
  for (const nowMs of [0, 1, 2]) policy.crashed(nowMs)
  assert.notEqual(policy.crashed(60_002), undefined)
})

test('after a look by somebody the count starts anew', () => {
  const policy = new RestartPolicy()
  for (const nowMs of [0, 1, 2, 3]) policy.crashed(nowMs)
  policy.forgive()
  assert.notEqual(policy.crashed(4), undefined)
})
