/** `koinon stop` ends when another node may have the data directory, which is later than nobody listening at the socket. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type Clock, ManualClock } from '#base'
import { createCliBench } from './support/cli-bench.ts'
import { createScriptedNode } from './support/scripted-node.ts'

const OPTIONS = { skip: process.platform === 'win32' ? 'a named pipe cannot be taken away from its server' : false }
/** Between two looks of the command. */
const POLL_MS = 50

type Stopping = {
  /** Lets the command look some times more. @returns its exit code, where it has ended by then */
  readonly look: () => Promise<number | undefined>
  /** As the node does last of all. */
  readonly unlock: () => void
}

/** `koinon stop`, after a node of this process id has closed its socket. It has its lock still. */
async function stopping(t: TestContext, pid: number): Promise<Stopping> {
  const time = new ManualClock()
  let sleeps = Promise.withResolvers<void>()
  const clock: Clock = {
    now: () => time.now(),
    monotonic: () => time.monotonic(),
    after: (ms, action) => {
      const cancel = time.after(ms, action)
      if (ms === POLL_MS) sleeps.resolve()
      return cancel
    },
  }
  const node = createScriptedNode()
  const bench = await createCliBench(t, { ...node, status: () => ({ ...node.status(), pid }) }, { clock })
  writeFileSync(join(bench.dataDir, 'node.pid'), `${pid}\n`)
  let code: number | undefined
  const ended = bench.run('stop').then(exitCode => {
    code = exitCode
  })
  await Promise.race([sleeps.promise, ended])
  rmSync(join(bench.dataDir, 's'))
  const look = async (): Promise<number | undefined> => {
    for (let count = 0; count < 3; count++) {
      await Promise.race([sleeps.promise, ended])
      if (code !== undefined) break
      sleeps = Promise.withResolvers()
      time.advance(POLL_MS)
    }
    return code
  }
  return { look, unlock: () => rmSync(join(bench.dataDir, 'node.pid')) }
}

/** A process that runs until it is told not to. */
async function startProcess(t: TestContext): Promise<{ readonly pid: number; readonly kill: () => Promise<void> }> {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => undefined, 1e6)'], { stdio: 'ignore' })
  const exited = once(child, 'exit')
  t.after(() => void child.kill('SIGKILL'))
  await once(child, 'spawn')
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL')
    await exited
  }
  return { pid: child.pid ?? 0, kill }
}

test('stop waits for the lock of the data directory, which a node gives back last', OPTIONS, async t => {
  const { look, unlock } = await stopping(t, process.pid)
  assert.equal(await look(), undefined)
  unlock()
  assert.equal(await look(), 0)
})

test('stop does not wait for the lock of a node that was killed while it stopped', OPTIONS, async t => {
  const { pid, kill } = await startProcess(t)
  const { look } = await stopping(t, pid)
  assert.equal(await look(), undefined)
  await kill()
  assert.equal(await look(), 0)
})

test(
  'stop waits for the lock of a node whose process goes by an id of another machine or container',
  OPTIONS,
  async t => {
    const { pid, kill } = await startProcess(t)
    await kill()
    const { look, unlock } = await stopping(t, pid)
    assert.equal(await look(), undefined)
    unlock()
    assert.equal(await look(), 0)
  },
)
