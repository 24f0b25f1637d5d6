/** Thousands of random lives of a dispatcher: what holds for each of them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { type Random, seededRandom, systemRandom } from '#base'
import { createDispatcher, RecordingSink, settled, testCall, testCommand } from '../../test/support/command-fixture.ts'
import type { Command, CommandContext } from './command.ts'
import type { IncomingCall } from './dispatcher.ts'
import { ANSWER_KEPT_MS_MAX, HANDLER_END_MS_MAX } from './limits.ts'

const SCHEDULES = 1_500
const STEPS = 50
const PEERS = ['alice', 'bob', 'carol']
const PRIORITIES = ['high', 'normal', 'low'] as const
const BOUNDS = { runningMax: 5, runningPerPeerMax: 3, reserved: 1, waitingMax: 4, waitingPerPeerMax: 3 }

type Run = { readonly context: CommandContext<unknown>; readonly end: (how: 'answer' | 'fault') => void }

/** One request of a schedule: all the sinks that it was given, the newest last. */
type Asked = { readonly call: IncomingCall; readonly sinks: RecordingSink[]; isForgotten: boolean }

class Schedule {
  readonly #random: Random
  readonly #runs = new Set<Run>()
  readonly #asked: Asked[] = []
  readonly #room: Array<() => void> = []
  readonly #fixture = createDispatcher(
    PRIORITIES.map((priority, i) => this.#command(priority, 32 + i)),
    { bounds: BOUNDS },
  )
  starts = 0

  constructor(random: Random) {
    this.#random = random
  }

  #pick<T>(items: readonly T[]): T | undefined {
    return items[this.#random.uint32() % Math.max(1, items.length)]
  }

  #command(priority: Command['priority'], type: number): Command {
    return testCommand({
      type,
      name: priority.toUpperCase(),
      priority,
      deadlineMs: 5_000,
      event: z.object({ n: z.number() }),
      handle: (body, context) =>
        new Promise((resolve, reject) => {
          this.starts++
          const run: Run = {
            context,
            end: how => {
              this.#runs.delete(run)
              if (how === 'answer') resolve({ body })
              else reject(new Error('a fault'))
            },
          }
          this.#runs.add(run)
          // Most handlers hear their signal; a few are bad.
          if (this.#random.uint32() % 10 > 0) context.signal.addEventListener('abort', () => run.end('fault'))
        }),
    })
  }

  #sink(): RecordingSink {
    const sink = new RecordingSink()
    if (this.#random.uint32() % 3 === 0) sink.room = () => new Promise<void>(resolve => void this.#room.push(resolve))
    return sink
  }

  step(): void {
    const { dispatcher, clock } = this.#fixture
    const actions: ReadonlyArray<() => void> = [
      () => this.#ask(),
      () => this.#ask(),
      () => this.#ask(),
      () => this.#askAgain(),
      () => void this.#pick([...this.#runs])?.context.emit({ n: 1 }),
      () => void this.#pick([...this.#runs])?.context.emit({ n: 2 }),
      () => this.#pick([...this.#runs])?.end('answer'),
      () => this.#pick([...this.#runs])?.end('answer'),
      () => this.#pick([...this.#runs])?.end('fault'),
      () => this.#room.splice(0).forEach(resolve => resolve()),
      () => clock.advance(this.#random.uint32() % 1_000),
      () => {
        const asked = this.#pick(this.#asked)
        if (asked !== undefined) dispatcher.cancel(asked.call.caller.peer, asked.call.id)
      },
      () => {
        const sink = this.#pick(this.#asked)?.sinks.at(-1)
        if (sink !== undefined) sink.isLost = true
      },
      () => {
        if (this.#random.uint32() % 5 > 0) return
        const peer = this.#pick(PEERS) ?? ''
        dispatcher.callerGone(peer)
        for (const asked of this.#asked) if (asked.call.caller.peer === peer) asked.isForgotten = true
      },
    ]
    this.#pick(actions)?.()
    this.#checkBounds()
  }

  #ask(): void {
    const name = this.#pick(PRIORITIES)?.toUpperCase() ?? ''
    const peer = this.#pick(PEERS) ?? ''
    const deadlineMs = 1 + (this.#random.uint32() % 8_000)
    const call = testCall({ command: { name }, caller: { peer, right: 'member' }, deadlineMs })
    const asked: Asked = { call, sinks: [this.#sink()], isForgotten: false }
    this.#asked.push(asked)
    this.#fixture.dispatcher.receive(call, asked.sinks[0] ?? new RecordingSink())
  }

  /** As after a lost connection: the sink before gets nothing more. */
  #askAgain(): void {
    const asked = this.#pick(this.#asked)
    const before = asked?.sinks.at(-1)
    // What was forgotten, or never accepted, would be a new request.
    if (asked === undefined || before === undefined || asked.isForgotten || isRefused(before)) return
    before.isLost = true
    const sink = this.#sink()
    asked.sinks.push(sink)
    this.#fixture.dispatcher.receive({ ...asked.call, eventsFrom: before.events.length }, sink)
  }

  #checkBounds(): void {
    const { running, waiting, open } = this.#fixture.dispatcher.counts()
    assert.ok(running <= BOUNDS.runningMax, `${running} run`)
    assert.ok(waiting <= BOUNDS.waitingMax, `${waiting} wait`)
    assert.ok(open <= BOUNDS.runningMax + BOUNDS.waitingMax, `${open} are open`)
    const handlers = [...this.#runs].filter(({ context }) => !context.signal.aborted)
    for (const peer of PEERS) {
      const own = handlers.filter(({ context }) => context.caller.peer === peer).length
      assert.ok(own <= BOUNDS.runningPerPeerMax, `${own} run for ${peer}`)
    }
  }

  /** The node goes down. */
  async end(): Promise<void> {
    const { dispatcher, clock } = this.#fixture
    const before = this.starts
    let isDrained = false
    const drained = dispatcher.drain({ timeoutMs: 3_000 }).then(() => {
      isDrained = true
    })
    this.#ask()
    assert.equal(this.#asked.pop()?.sinks[0]?.outcome, 'PROTOCOL_STOPPING')
    await settled()
    clock.advance(3_000)
    await drained
    assert.ok(isDrained)
    assert.equal(dispatcher.counts().open, 0)
    assert.equal(dispatcher.counts().waiting, 0)
    clock.advance(HANDLER_END_MS_MAX)
    await settled()
    assert.equal(dispatcher.counts().running, 0)
    // A slow sink that works through old events is given up with the answer that is kept for it.
    clock.advance(ANSWER_KEPT_MS_MAX)
    await settled()
    assert.equal(dispatcher.counts().answersKept, 0)
    assert.ok(this.starts - before <= BOUNDS.waitingMax)
    assert.ok(this.starts <= dispatcher.counts().accepted, 'none runs twice')
    for (const { sinks } of this.#asked) {
      for (const sink of sinks) assert.ok(sink.finals.length <= 1, 'never two final answers')
      const last = sinks.at(-1)
      if (last?.isLost === false) assert.equal(last.finals.length, 1, 'a final answer')
    }
  }
}

/** Refused before it was accepted: then it was no request yet. */
function isRefused(sink: RecordingSink): boolean {
  return ['PROTOCOL_BUSY', 'PROTOCOL_RATE_LIMITED', 'PROTOCOL_STOPPING'].includes(sink.outcome ?? '')
}

test('every request gets exactly one final answer, within all bounds, whatever happens when', async t => {
  const seed = systemRandom.uint32()
  t.diagnostic(`seed ${seed}`)
  for (let i = 0; i < SCHEDULES; i++) {
    const random = seededRandom(seed + i)
    const schedule = new Schedule(random)
    try {
      for (let step = 0; step < STEPS; step++) {
        schedule.step()
        if (random.uint32() % 4 === 0) await settled()
      }
      await schedule.end()
    } catch (error) {
      throw new Error(`seed ${seed + i}`, { cause: error })
    }
  }
})
