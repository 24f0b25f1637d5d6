import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { BoundedQueue, KoinonError, ManualClock, silentLogger, systemClock } from '#base'
import { MessageReader, sendMessage } from './child/frames.ts'
import { encodeGenerate } from './child/codec.ts'
import { encodeJson, KIND } from './child/protocol.ts'
import { createEdgeEngine } from './edge-engine.ts'
import { CHILD_FRAME_BYTES_MAX, CHILD_REQUEST_MS_MAX, CHILD_WAITING_MAX } from './limits.ts'
import { createStageEngine } from './stage-engine.ts'
import type { EdgeEngine } from './types.ts'

const FILE = fileURLToPath(new URL('../../models/storyteller-2m-q8_0.gguf', import.meta.url))
const ENTRY = fileURLToPath(new URL('./child/main.ts', import.meta.url))
const PLAIN = { addSpecial: false, parseSpecial: false }
const options = { threads: 1, device: 'cpu' } as const
const stageLoad = { file: FILE, layers: { first: 0, last: 8 }, slots: 1, contextMax: 256 }
const oneRow = { slot: 0, layers: stageLoad.layers, position: 0, count: 1, outputs: 1, rows: new Uint8Array(512) }
const refusesWith = (code: string) => (error: unknown) => error instanceof KoinonError && error.code === code
/** Signals that stop and end a process are not a thing of Windows. */
const skip = process.platform === 'win32' && 'needs POSIX signals'

type Crashing = { readonly pid: () => number; readonly crash: () => Promise<string> }

/** Kills the engine's child as an out-of-memory killer would, and waits until the engine has noticed. */
function crashing(engine: Pick<EdgeEngine, 'status' | 'onCrash'>): Crashing {
  const crashes = new BoundedQueue<string>(16)
  engine.onCrash(reason => void crashes.push(reason))
  const pid = (): number => {
    const { pid } = engine.status()
    assert.ok(pid !== undefined)
    return pid
  }
  return {
    pid,
    crash: async () => {
      process.kill(pid(), 'SIGKILL')
      return (await crashes.take()) ?? ''
    },
  }
}

test('a killed child fails what is in flight, is reported, restarted and serves again', { skip }, async t => {
  const engine = createEdgeEngine({ clock: systemClock, log: silentLogger }, options)
  t.after(() => engine.stop())
  const { pid, crash } = crashing(engine)
  const before = await engine.load({ file: FILE })
  const tokens = await engine.tokenize('Hello', PLAIN)
  // Stopped, it cannot answer before it is killed.
  process.kill(pid(), 'SIGSTOP')
  const inFlight = assert.rejects(engine.tokenize('Hello', PLAIN), (error: unknown) => {
    assert.ok(error instanceof KoinonError)
    assert.deepEqual(error.fault, { code: 'ENGINE_CRASHED', exitCode: null, signal: 'SIGKILL', lastLine: '' })
    return true
  })
  assert.match(await crash(), /SIGKILL/)
  await inFlight
  assert.equal(engine.status().state, 'restarting')
  // What went with the old process fails at once; what did not waits for the new one.
  await assert.rejects(engine.next(1, new Uint8Array(512)), refusesWith('ENGINE_CRASHED'))
  assert.deepEqual(await engine.tokenize('Hello', PLAIN), tokens)
  const { state, restarts, lastError, ...status } = engine.status()
  assert.equal(state, 'ready')
  assert.equal(restarts, 1)
  assert.match(lastError ?? '', /SIGKILL/)
  assert.notEqual(status.pid, before.pid)
})

test('a stage that restarts refuses steps, has nothing to release, and computes again', { skip }, async t => {
  const clock = new ManualClock()
  const engine = createStageEngine({ clock, log: silentLogger }, options)
  t.after(() => engine.stop())
  const { pid, crash } = crashing(engine)
  await engine.load(stageLoad)
  const expected = await engine.step(oneRow)
  process.kill(pid(), 'SIGSTOP')
  const releasing = engine.release(0)
  await crash()
  await releasing
  await assert.rejects(engine.step(oneRow), refusesWith('ENGINE_CRASHED'))
  await engine.release(0)
  clock.advance(10_000)
  // Loading anew is refused while the restart does it; its end is seen by a step that is answered.
  await assert.rejects(engine.load(stageLoad), refusesWith('ENGINE_BUSY'))
  while (engine.status().state === 'restarting') await new Promise(setImmediate)
  assert.deepEqual(await engine.step(oneRow), expected)
})

test('the fourth crash in a minute is the last; a load starts over', { skip }, async t => {
  const clock = new ManualClock()
  const engine = createEdgeEngine({ clock, log: silentLogger }, options)
  t.after(() => engine.stop())
  const { crash } = crashing(engine)
  await engine.load({ file: FILE })
  for (let restart = 1; restart <= 3; restart++) {
    await crash()
    const waiting = engine.tokenize('x', PLAIN)
    clock.advance(5_000)
    await waiting
    assert.equal(engine.status().restarts, restart)
  }
  await crash()
  assert.equal(engine.status().state, 'failed')
  await assert.rejects(engine.tokenize('x', PLAIN), refusesWith('ENGINE_FAILED'))
  await engine.load({ file: FILE })
  await engine.tokenize('x', PLAIN)
})

test('a child that does not answer is ended and reported', { skip }, async t => {
  const clock = new ManualClock()
  const engine = createEdgeEngine({ clock, log: silentLogger }, options)
  t.after(() => engine.stop())
  await engine.load({ file: FILE })
  process.kill(engine.status().pid ?? 0, 'SIGSTOP')
  const hung = assert.rejects(engine.tokenize('x', PLAIN), /gave no answer/)
  // The request leaves in this turn; its time limit runs from then.
  await new Promise(setImmediate)
  clock.advance(CHILD_REQUEST_MS_MAX)
  await hung
})

test('requests that wait are counted', { skip }, async t => {
  const engine = createEdgeEngine({ clock: systemClock, log: silentLogger }, options)
  t.after(() => engine.stop())
  const { pid } = await engine.load({ file: FILE })
  process.kill(pid, 'SIGSTOP')
  const waiting = Array.from({ length: CHILD_WAITING_MAX }, () => engine.tokenize('x', PLAIN))
  await assert.rejects(engine.tokenize('x', PLAIN), refusesWith('ENGINE_BUSY'))
  process.kill(pid, 'SIGCONT')
  await Promise.all(waiting)
})

test('an aborted load ends the child without counting as a crash', async t => {
  const engine = createEdgeEngine({ clock: systemClock, log: silentLogger }, options)
  t.after(() => engine.stop())
  let crashes = 0
  engine.onCrash(() => crashes++)
  const abort = new AbortController()
  const reason = new Error('changed my mind')
  const load = engine.load({ file: FILE }, { signal: abort.signal, onProgress: () => abort.abort(reason) })
  await assert.rejects(load, error => error === reason)
  assert.equal(engine.status().state, 'stopped')
  await engine.load({ file: FILE })
  assert.equal(crashes, 0)
})

test('loading reports its progress to the end', async t => {
  const engine = createStageEngine({ clock: systemClock, log: silentLogger }, options)
  t.after(() => engine.stop())
  const seen: Array<readonly [done: number, total: number]> = []
  const report = await engine.load(stageLoad, { onProgress: (done, total) => seen.push([done, total]) })
  assert.deepEqual(seen.at(-1), [report.weightBytes, report.weightBytes])
  assert.ok(seen.every(([done], i) => done >= (seen[i - 1]?.[0] ?? 0)))
})

test('a stopped engine is gone, and stays stopped', async () => {
  const engine = createEdgeEngine({ clock: systemClock, log: silentLogger }, options)
  const { pid } = await engine.load({ file: FILE })
  const inFlight = assert.rejects(engine.embed(new Int32Array(4096)), refusesWith('ENGINE_STOPPED'))
  await Promise.all([engine.stop(), engine.stop(), inFlight.catch(() => undefined)])
  await engine.stop()
  assert.throws(() => process.kill(pid, 0), /ESRCH/)
  assert.equal(engine.status().state, 'stopped')
  await assert.rejects(engine.load({ file: FILE }), refusesWith('ENGINE_STOPPED'))
  await assert.rejects(engine.tokenize('x', PLAIN), refusesWith('ENGINE_STOPPED'))
})

test('an engine that never loaded can be asked and stopped', async () => {
  const engine = createEdgeEngine({ clock: systemClock, log: silentLogger }, options)
  await assert.rejects(engine.tokenize('x', PLAIN), refusesWith('ENGINE_NOT_LOADED'))
  await engine.stop()
})

test('a child refuses a frame that announces too much', async () => {
  const child = spawn(process.execPath, [ENTRY, 'edge', JSON.stringify(options)], {
    stdio: ['ignore', 'ignore', 'pipe', 'overlapped', 'overlapped'],
  })
  let stderr = ''
  child.stderr?.setEncoding('utf8').on('data', text => (stderr += text))
  const pipe = child.stdio[3] as Duplex
  pipe.on('error', () => undefined).resume()
  pipe.write(new Uint8Array(Uint32Array.of(CHILD_FRAME_BYTES_MAX + 1, 1, KIND.load).buffer))
  await once(child, 'close')
  assert.match(stderr, /a frame of \d+ bytes/)
})

test('a child ends with its parent, even in the middle of a computation', { skip }, async () => {
  // The parent is a process of its own that only passes its pipes on, so that it can be killed. Both hold its stdout:
  // the end of that is the end of both.
  const { parent, pipe } = spawnThroughParent()
  const reader = new MessageReader(CHILD_FRAME_BYTES_MAX)
  const isComputing = new Promise<void>(resolve => {
    pipe.on('data', (piece: Buffer) => {
      if (reader.push(piece).some(({ kind }) => kind === KIND.event)) resolve()
    })
  })
  sendMessage(pipe, { id: 1, kind: KIND.load }, [encodeJson({ file: FILE, threads: 1, contextMax: 200_000 })])
  // Minutes of work: attention over ever more positions, in one command.
  const request = { tokens: Int32Array.of(1, 2, 3), count: 150_000, logits: false }
  sendMessage(pipe, { id: 2, kind: KIND.generate }, encodeGenerate(request))
  await isComputing
  const bothGone = once(parent.stdout ?? pipe, 'end')
  parent.kill('SIGKILL')
  await bothGone
})

/** A parent that starts a reference child with the lifeline of its own and our command pipe. */
function spawnThroughParent(): { readonly parent: ChildProcess; readonly pipe: Duplex } {
  const script = `
    const { spawn } = require('node:child_process')
    spawn(process.execPath, ${JSON.stringify([ENTRY, 'reference', JSON.stringify(options)])}, {
      stdio: ['ignore', 'inherit', 'ignore', 3, 'pipe'],
    })`
  const parent = spawn(process.execPath, ['--eval', script], { stdio: ['ignore', 'pipe', 'inherit', 'pipe'] })
  parent.stdout?.resume()
  const pipe = parent.stdio[3] as Duplex
  pipe.on('error', () => undefined)
  return { parent, pipe }
}
