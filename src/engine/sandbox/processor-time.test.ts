/** What real processes use of the processors, and what they may. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test, type TestContext } from 'node:test'
import { ManualClock, systemClock } from '#base'
import { EngineChild } from '../engine-child.ts'
import { EngineError } from '../errors.ts'
import { PROCESSOR_LIMITS, processorTimeMs, watchProcessorTime } from './processor-time.ts'

const skip = process.platform === 'linux' ? false : 'only Linux tells what a process has used'
const BURNT_MS = 300
const LIMITS = { lookMs: 1_000, burstMs: 100, spareThreads: 1, idleShare: 0.1 }

/** A process that computes for a while once it is told to, and then waits. */
async function burner(t: TestContext): Promise<{ pid: number; burn: () => Promise<void> }> {
  const program = `
    process.stdin.on('data', () => {
      const { user, system } = process.cpuUsage()
      for (const end = user + system + ${BURNT_MS}e3; process.cpuUsage().user + process.cpuUsage().system < end; );
      console.log('done')
    })
    console.log('up')`
  const child = spawn(process.execPath, ['-e', program], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  const burn = async (): Promise<void> => {
    child.stdin.write('x')
    await once(child.stdout, 'data')
  }
  return { pid: child.pid ?? 0, burn }
}

for (const wasAsked of [true, false]) {
  test(`what a child computes ${wasAsked ? 'when asked is its own affair' : 'unasked ends it'}`, { skip }, async t => {
    const clock = new ManualClock()
    const { pid, burn } = await burner(t)
    const reasons: string[] = []
    const cancel = watchProcessorTime(
      { clock, processor: LIMITS },
      { pid, threads: 1, wasAsked: () => wasAsked, onExceeded: reason => void reasons.push(reason) },
    )
    clock.advance(LIMITS.lookMs)
    assert.deepEqual(reasons, [])
    await burn()
    clock.advance(3 * LIMITS.lookMs)
    assert.deepEqual(reasons, wasAsked ? [] : ['used more processor time than was asked of it'])
    cancel()
  })
}

test('a child that uses more threads than it has is ended while it is asked', { skip }, async t => {
  const clock = new ManualClock()
  const { pid, burn } = await burner(t)
  let isExceeded = false
  const child = { pid, threads: 0, wasAsked: () => true, onExceeded: () => (isExceeded = true) }
  watchProcessorTime({ clock, processor: { ...LIMITS, spareThreads: 0.1 } }, child)
  await burn()
  clock.advance(LIMITS.lookMs)
  assert.ok(isExceeded)
})

test('nobody is blamed for what cannot be known', { skip }, () => {
  assert.equal(processorTimeMs(0), undefined)
  assert.ok((processorTimeMs(process.pid) ?? 0) > 0)
})

test('an engine child that uses too much ends with a crash that says so', { skip }, async t => {
  const processor = { ...PROCESSOR_LIMITS, lookMs: 5, burstMs: 20, spareThreads: -1 }
  const child = new EngineChild(
    { clock: systemClock, processor },
    { role: 'tool', options: { threads: 1, device: 'cpu' } },
  )
  t.after(() => child.end())
  const crash = await child.ended
  assert.ok(crash instanceof EngineError && crash.fault.code === 'ENGINE_CRASHED')
  assert.equal(crash.fault.lastLine, 'used more processor time than was asked of it')
})
