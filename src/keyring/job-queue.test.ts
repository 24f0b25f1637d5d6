import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock } from '#base'
import { JobQueue } from './job-queue.ts'

const JOB = { what: 'the token', timeoutMs: 100 }

test('jobs take turns in the order in which they came', async () => {
  const queue = new JobQueue(new ManualClock(), { runningMax: 1, waitingMax: 10 })
  const order: string[] = []
  const job = (name: string) => async () => {
    order.push(`${name} begins`)
    await Promise.resolve()
    order.push(`${name} ends`)
  }
  await Promise.all(['a', 'b', 'c'].map(name => queue.run(JOB, job(name))))
  assert.deepEqual(order, ['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends'])
})

test('a job that fails makes way for the next', async () => {
  const queue = new JobQueue(new ManualClock(), { runningMax: 1, waitingMax: 10 })
  const failed = queue.run(JOB, () => Promise.reject(new Error('no')))
  const next = queue.run(JOB, async () => 'next')
  await assert.rejects(failed, { message: 'no' })
  assert.equal(await next, 'next')
})

test('no more jobs wait than may', async () => {
  const queue = new JobQueue(new ManualClock(), { runningMax: 1, waitingMax: 2 })
  const gate = Promise.withResolvers<void>()
  const jobs = [1, 2, 3].map(() => queue.run(JOB, () => gate.promise))
  await assert.rejects(
    queue.run(JOB, async () => undefined),
    { code: 'KEYRING_BUSY' },
  )
  gate.resolve()
  await Promise.all(jobs)
  assert.equal(await queue.run(JOB, async () => 1), 1)
})

test('a job whose time is up before its turn is never begun, and one that goes on keeps its place', async () => {
  const clock = new ManualClock()
  const queue = new JobQueue(clock, { runningMax: 1, waitingMax: 10 })
  const gate = Promise.withResolvers<void>()
  const slow = queue.run(JOB, () => gate.promise)
  let isBegun = false
  const late = queue.run(JOB, async () => {
    isBegun = true
  })
  const refused = Promise.all([slow, late].map(job => assert.rejects(job, { code: 'KEYRING_TIMEOUT' })))
  clock.advance(100)
  await refused
  const afterwards = queue.run(JOB, async () => 'done')
  await Promise.resolve()
  gate.resolve()
  assert.equal(await afterwards, 'done')
  assert.equal(isBegun, false)
})
