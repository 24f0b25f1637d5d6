import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock, silentLogger } from '#base'
import { STOP_MS_MAX } from './limits.ts'
import { Stopper } from './stopper.ts'

test('parts stop in the opposite order of their making, once, even where one fails', async () => {
  const stopper = new Stopper({ clock: new ManualClock(), log: silentLogger })
  const stopped: string[] = []
  stopper.add('first', () => void stopped.push('first'))
  stopper.add('broken', () => Promise.reject(new Error('it cannot')))
  stopper.add('last', async () => void stopped.push(`last ${stopper.signal.aborted}`))
  await Promise.all([stopper.stop(), stopper.stop()])
  assert.deepEqual(stopped, ['last true', 'first'])
})

test('what drains comes to its end before anything stops, once, however often it is asked for', async () => {
  const stopper = new Stopper({ clock: new ManualClock(), log: silentLogger })
  const events: string[] = []
  const running = Promise.withResolvers<void>()
  stopper.addDrain(async () => {
    events.push(`drain begins ${stopper.isDraining}`)
    await running.promise
    events.push(`drain ends ${stopper.signal.aborted}`)
  })
  stopper.addDrain(() => Promise.reject(new Error('it cannot')))
  stopper.add('a part', () => void events.push('stopped'))
  const all = [stopper.drain(), stopper.stop(), stopper.drain()]
  await new Promise(resolve => setImmediate(resolve))
  running.resolve()
  await Promise.all(all)
  assert.deepEqual(events, ['drain begins true', 'drain ends false', 'stopped'])
})

test('a part that hangs is given up on after its bound', async () => {
  const clock = new ManualClock()
  const stopper = new Stopper({ clock, log: silentLogger })
  let isReached = false
  stopper.add('the rest', () => {
    isReached = true
  })
  stopper.add('hanging', () => new Promise(() => undefined))
  const stopped = stopper.stop()
  await new Promise(resolve => setImmediate(resolve))
  clock.advance(STOP_MS_MAX)
  await stopped
  assert.ok(isReached)
})
