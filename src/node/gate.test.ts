import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock } from '#base'
import { NodeError } from './errors.ts'
import { Gate } from './gate.ts'

const never = new AbortController().signal
const options = { runningMax: 1, waitingMax: 1, waitMsMax: 100 }

test('those who wait get their turn in the order of their coming', async () => {
  const gate = new Gate(new ManualClock(), { ...options, waitingMax: 2 })
  const order: string[] = []
  const leave = await gate.enter(never)
  const others = ['b', 'c'].map(async name => {
    const leave = await gate.enter(never)
    order.push(name)
    leave()
  })
  assert.deepEqual(order, [])
  leave()
  await Promise.all(others)
  assert.deepEqual(order, ['b', 'c'])
  assert.equal(gate.running, 0)
})

test('one more than may run and wait is refused at once, with the numbers', async () => {
  const gate = new Gate(new ManualClock(), options)
  const leave = await gate.enter(never)
  const waiting = gate.enter(never)
  await assert.rejects(gate.enter(never), (error: unknown) => {
    assert.ok(error instanceof NodeError)
    assert.deepEqual(error.fault, { code: 'NODE_BUSY', running: 1, waiting: 1 })
    return true
  })
  leave()
  ;(await waiting)()
  assert.equal(gate.running, 0)
})

test('a wait ends with its bound or with the signal, and leaves no place behind', async () => {
  const clock = new ManualClock()
  const gate = new Gate(clock, options)
  const leave = await gate.enter(never)
  const late = gate.enter(never)
  clock.advance(100)
  await assert.rejects(late, { code: 'NODE_BUSY' })
  const controller = new AbortController()
  const gone = gate.enter(controller.signal)
  controller.abort(new Error('the client left'))
  await assert.rejects(gone, /the client left/)
  leave()
  assert.equal(gate.running, 0)
  ;(await gate.enter(never))()
})

test('giving a turn back twice counts once', async () => {
  const gate = new Gate(new ManualClock(), options)
  const leave = await gate.enter(never)
  leave()
  leave()
  assert.equal(gate.running, 0)
})
