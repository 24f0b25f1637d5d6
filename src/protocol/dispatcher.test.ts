import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { KoinonError, TimeoutError } from '#base'
import {
  createDispatcher,
  RecordingSink,
  settled,
  TestAttachment,
  testCall,
  testCommand,
} from '../../test/support/command-fixture.ts'
import { type Command, type CommandContext, RIGHTS } from './command.ts'
import { HANDLER_END_MS_MAX } from './limits.ts'

const ECHO = testCommand({ type: 32, name: 'ECHO' })

/** A command whose handlers the test ends. */
function held(overrides: Partial<Command> = {}) {
  const runs: Array<{
    readonly body: unknown
    readonly context: CommandContext<unknown>
    readonly resolve: (answer: { readonly body: unknown }) => void
    readonly reject: (error: Error) => void
  }> = []
  const command = testCommand({
    type: 33,
    name: 'HOLD',
    event: z.object({ text: z.string() }),
    handle: (body, context) =>
      new Promise((resolve, reject) => {
        runs.push({ body, context, resolve, reject })
      }),
    ...overrides,
  })
  return { command, runs }
}

const HOLD = { command: { name: 'HOLD' } }

test('a request is answered once, by type and by name alike', async () => {
  const { dispatcher } = createDispatcher([ECHO])
  for (const command of [{ type: 32 }, { name: 'ECHO' }]) {
    const sink = new RecordingSink()
    dispatcher.receive(testCall({ command }), sink)
    await settled()
    assert.deepEqual(sink.finals, [{ body: { text: 'hi' } }])
  }
  assert.equal(dispatcher.counts().accepted, 2)
  assert.equal(dispatcher.counts().open, 0)
})

test('each refusal has its code', async () => {
  const { command } = held({ type: 34, name: 'TRUSTED', right: 'trusted' })
  const rows: ReadonlyArray<readonly [code: string, call: Parameters<typeof testCall>[0], message: RegExp]> = [
    ['PROTOCOL_UNKNOWN_TYPE', { command: { type: 60 } }, /does not know/],
    ['PROTOCOL_UNKNOWN_TYPE', { command: { name: 'toString' } }, /does not know/],
    ['PROTOCOL_BAD_REQUEST', { id: new Uint8Array(15) }, /^id: expected 16 bytes/],
    ['PROTOCOL_NOT_AUTHORISED', { command: { name: 'TRUSTED' } }, /"trusted"/],
    ['PROTOCOL_BAD_REQUEST', { body: { text: 7 } }, /^text: /],
    ['PROTOCOL_BAD_REQUEST', { body: { text: 'x'.repeat(11) } }, /^text: /],
    ['PROTOCOL_BAD_REQUEST', { body: null }, /^body: /],
    ['PROTOCOL_ATTACHMENT_SIZE', { attachment: new TestAttachment(1) }, /takes 0 bytes/],
  ]
  for (const [code, overrides, message] of rows) {
    const { dispatcher } = createDispatcher([ECHO, command])
    const sink = new RecordingSink()
    dispatcher.receive(testCall(overrides), sink)
    await settled()
    const [final] = sink.finals
    assert.ok(final !== undefined && 'code' in final, code)
    assert.equal(final.code, code)
    assert.match(final.message, message)
    assert.deepEqual(dispatcher.counts().refused, { [code]: 1 })
    assert.equal(dispatcher.counts().accepted, 0)
  }
})

test('who may do what: a right includes those below it, and what goes beyond is written down and held against the peer', async () => {
  for (const [needed, right] of RIGHTS.entries()) {
    for (const [has, callerRight] of RIGHTS.entries()) {
      const { dispatcher, audited, penalties } = createDispatcher([testCommand({ type: 32, name: 'ECHO', right })])
      const sink = new RecordingSink()
      dispatcher.receive(testCall({ caller: { peer: 'alice', right: callerRight } }), sink)
      await settled()
      const isAllowed = has >= needed
      assert.equal(sink.outcome, isAllowed ? 'ok' : 'PROTOCOL_NOT_AUTHORISED', `${callerRight} asks for ${right}`)
      assert.equal(penalties.scoreOf('alice') > 0, !isAllowed)
      const kinds = audited.map(({ kind }) => kind)
      assert.deepEqual(kinds, isAllowed ? (right === 'trusted' ? ['command'] : []) : ['not-authorised'])
    }
  }
})

test('requests beyond the rate are told when to come back, and audited once', async () => {
  const limited = testCommand({ type: 32, name: 'ECHO', rate: { perSecond: 2, burst: 3 } })
  const { dispatcher, clock, audited } = createDispatcher([limited])
  const sinks = Array.from({ length: 6 }, () => new RecordingSink())
  for (const sink of sinks) dispatcher.receive(testCall(), sink)
  await settled()
  const outcomes = sinks.map(sink => sink.outcome)
  assert.deepEqual(outcomes, [...Array(3).fill('ok'), ...Array(3).fill('PROTOCOL_RATE_LIMITED')])
  const [refusal] = sinks[3]?.finals ?? []
  assert.ok(refusal !== undefined && 'code' in refusal)
  assert.equal(refusal.retryAfterMs, 500)
  assert.equal(audited.filter(({ kind }) => kind === 'rate-limited').length, 1)
  clock.advance(500)
  const late = new RecordingSink()
  dispatcher.receive(testCall(), late)
  await settled()
  assert.equal(late.outcome, 'ok')
})

test('a flood costs its sender the connection, whatever it is made of', () => {
  const floods: ReadonlyArray<Parameters<typeof testCall>[0]> = [
    {},
    { command: { type: 61 } },
    { command: { name: 'TRUSTED' } },
    { body: 7 },
  ]
  for (const overrides of floods) {
    const { command } = held({ type: 34, name: 'TRUSTED', right: 'trusted' })
    const { dispatcher, verdicts, audited } = createDispatcher([ECHO, command])
    for (let i = 0; i < 10_000; i++) dispatcher.receive(testCall(overrides), new RecordingSink())
    assert.ok(verdicts.some(([subject, verdict]) => subject === 'alice' && verdict === 'disconnect'))
    assert.ok(audited.length < 600, `${audited.length} entries in the audit log`)
  }
})

test('requests wait for a place within bounds, the urgent first, then the oldest', async () => {
  const order: string[] = []
  const commands = (['low', 'normal', 'high'] as const).map((priority, i) =>
    testCommand({
      type: 40 + i,
      name: priority.toUpperCase(),
      priority,
      handle: async body => {
        order.push((body as { readonly text: string }).text)
        return { body }
      },
    }),
  )
  const { command, runs } = held({ priority: 'high' })
  const bounds = { runningMax: 1, runningPerPeerMax: 1, reserved: 0, waitingMax: 6, waitingPerPeerMax: 4 }
  const { dispatcher } = createDispatcher([...commands, command], { bounds })
  dispatcher.receive(testCall(HOLD), new RecordingSink())
  const ask = (name: string, peer: string, text: string): RecordingSink => {
    const sink = new RecordingSink()
    dispatcher.receive(testCall({ command: { name }, caller: { peer, right: 'member' }, body: { text } }), sink)
    return sink
  }
  const waiting = ['LOW', 'NORMAL', 'HIGH', 'NORMAL'].map((name, i) => ask(name, 'bob', `${name} ${i}`))
  assert.equal(ask('HIGH', 'bob', 'too many').outcome, 'PROTOCOL_BUSY', 'of one peer')
  waiting.push(ask('HIGH', 'carol', 'HIGH 4'), ask('LOW', 'carol', 'LOW 5'))
  const busy = ask('HIGH', 'dave', 'too many')
  assert.equal(busy.outcome, 'PROTOCOL_BUSY', 'in all')
  assert.ok('retryAfterMs' in (busy.finals[0] ?? {}))
  assert.equal(dispatcher.counts().waiting, 6)
  runs[0]?.resolve({ body: { text: '' } })
  await settled()
  assert.deepEqual(order, ['HIGH 2', 'HIGH 4', 'NORMAL 1', 'NORMAL 3', 'LOW 0', 'LOW 5'])
  assert.ok(waiting.every(sink => sink.outcome === 'ok'))
})

test('some places are kept for what is urgent', () => {
  const slow = held()
  const urgent = held({ type: 34, name: 'URGENT', priority: 'high' })
  const bounds = { runningMax: 4, runningPerPeerMax: 4, reserved: 1, waitingMax: 10, waitingPerPeerMax: 10 }
  const { dispatcher } = createDispatcher([slow.command, urgent.command], { bounds })
  for (let i = 0; i < 5; i++) dispatcher.receive(testCall(HOLD), new RecordingSink())
  assert.equal(slow.runs.length, 3)
  dispatcher.receive(testCall({ command: { name: 'URGENT' } }), new RecordingSink())
  assert.equal(urgent.runs.length, 1)
})

test('a deadline is the smaller of the command and of the caller, and holds for those that wait too', async () => {
  for (const [asked, deadlineMs] of [
    [undefined, 1_000],
    [200, 200],
    [5_000, 1_000],
  ] as const) {
    const { command, runs } = held()
    const bounds = { runningMax: 1, runningPerPeerMax: 1, reserved: 0 }
    const { dispatcher, clock } = createDispatcher([command], { bounds })
    const [running, waiting] = [new RecordingSink(), new RecordingSink()]
    const call = { ...HOLD, ...(asked === undefined ? {} : { deadlineMs: asked }) }
    dispatcher.receive(testCall(call), running)
    dispatcher.receive(testCall(call), waiting)
    clock.advance(deadlineMs - 1)
    assert.deepEqual([running.outcome, waiting.outcome], [undefined, undefined])
    clock.advance(1)
    assert.deepEqual([running.outcome, waiting.outcome], ['PROTOCOL_DEADLINE', 'PROTOCOL_DEADLINE'])
    assert.equal(runs[0]?.context.signal.aborted, true)
    assert.equal(runs.length, 1, 'what waited does not begin')
    assert.equal(dispatcher.counts().running, 1, 'the place stays taken while the handler has not ended')
    runs[0]?.resolve({ body: { text: 'late' } })
    await settled()
    assert.equal(dispatcher.counts().running, 0)
    assert.equal(running.finals.length, 1, 'an answer behind the deadline is not given')
  }
})

test('a handler that ignores its signal loses its place in the end, with a word in the log', async () => {
  const { command, runs } = held()
  const { dispatcher, clock, logged } = createDispatcher([command])
  dispatcher.receive(testCall(HOLD), new RecordingSink())
  clock.advance(1_000 + HANDLER_END_MS_MAX - 1)
  assert.equal(dispatcher.counts().running, 1)
  clock.advance(1)
  assert.equal(dispatcher.counts().running, 0)
  assert.deepEqual(logged, ['a command does not end'])
  runs[0]?.resolve({ body: { text: 'much too late' } })
  await settled()
  assert.equal(dispatcher.counts().running, 0, 'its place is given back once')
})

test('a cancelled request ends at once, and only its own caller can cancel it', async () => {
  const { command, runs } = held()
  const { dispatcher, logged } = createDispatcher([command])
  const sink = new RecordingSink()
  const call = testCall(HOLD)
  dispatcher.receive(call, sink)
  dispatcher.cancel('mallory', call.id)
  assert.equal(sink.outcome, undefined)
  dispatcher.cancel('alice', call.id)
  assert.equal(sink.outcome, 'PROTOCOL_CANCELLED')
  assert.equal(runs[0]?.context.signal.aborted, true)
  runs[0]?.reject(new Error('aborted'))
  await settled()
  dispatcher.cancel('alice', call.id)
  assert.equal(sink.finals.length, 1)
  assert.deepEqual(logged, [], 'a handler that ends because it was told to is no fault')
})

test('a caller that has gone for good leaves nothing running', async () => {
  const { command, runs } = held()
  const { dispatcher } = createDispatcher([command, ECHO])
  for (let i = 0; i < 3; i++) dispatcher.receive(testCall(HOLD), new RecordingSink())
  dispatcher.receive(testCall(), new RecordingSink())
  dispatcher.receive(testCall({ ...HOLD, caller: { peer: 'bob', right: 'member' } }), new RecordingSink())
  await settled()
  dispatcher.callerGone('alice')
  assert.deepEqual(
    runs.map(({ context }) => context.signal.aborted),
    [true, true, true, false],
  )
  const { open, remembered, answersKept } = dispatcher.counts()
  assert.deepEqual({ open, remembered, answersKept }, { open: 1, remembered: 0, answersKept: 0 })
})

test('what a handler throws on purpose is told, what it throws by mistake is not', async () => {
  const busy = new KoinonError({ code: 'NODE_BUSY', retryAfterMs: 250.5 }, 'come back later')
  const path = new KoinonError({ code: 'STORAGE_FILE' }, 'cannot read /home/jane doe/model.gguf')
  const share = new KoinonError({ code: 'STORAGE_FILE' }, String.raw`cannot read \\nas\models`)
  const odd = new KoinonError({ code: 'not a code' }, 'a sentence')
  const hidden = 'the request failed; the log of the node that was asked says more'
  const internal = { code: 'PROTOCOL_INTERNAL', message: 'a fault of this node' }
  const rows: ReadonlyArray<readonly [thrown: unknown, told: object, isLogged: boolean]> = [
    [busy, { code: 'NODE_BUSY', message: 'come back later', retryAfterMs: 251 }, false],
    [path, { code: 'STORAGE_FILE', message: hidden }, false],
    [share, { code: 'STORAGE_FILE', message: hidden }, false],
    [new TimeoutError('a wait', 5), { code: 'TIMEOUT', message: 'a wait took longer than 5 ms' }, false],
    [odd, internal, true],
    [new TypeError('at /src/secret.ts'), internal, true],
    ['text', internal, true],
    [undefined, internal, true],
  ]
  for (const [thrown, told, isLogged] of rows) {
    const handle = async (): Promise<never> => {
      throw thrown
    }
    const { dispatcher, logged } = createDispatcher([testCommand({ type: 32, name: 'ECHO', handle })])
    const sink = new RecordingSink()
    dispatcher.receive(testCall(), sink)
    await settled()
    assert.deepEqual(sink.finals, [told])
    assert.equal(logged.length, isLogged ? 1 : 0)
  }
})

test('an answer that breaks its own schema, a handler that throws at once and one that answers nothing are our faults', async () => {
  const handlers: ReadonlyArray<Command['handle']> = [
    async () => ({ body: { text: 7 } }),
    () => {
      throw new Error('at once')
    },
    async () => undefined as never,
    async (_, { emit }) => {
      await emit({ text: 'no events here' })
      return { body: { text: '' } }
    },
  ]
  for (const handle of handlers) {
    const { dispatcher, logged } = createDispatcher([testCommand({ type: 32, name: 'ECHO', handle })])
    const sink = new RecordingSink()
    dispatcher.receive(testCall(), sink)
    await settled()
    assert.equal(sink.outcome, 'PROTOCOL_INTERNAL')
    assert.equal(logged.length, 1)
    assert.equal(dispatcher.counts().running, 0)
  }
})

test('fields that the response schema does not have are not told', async () => {
  const handle = async (): Promise<{ body: unknown }> => ({ body: { text: 'told', secret: 'not told' } })
  const { dispatcher } = createDispatcher([testCommand({ type: 32, name: 'ECHO', handle })])
  const sink = new RecordingSink()
  dispatcher.receive(testCall(), sink)
  await settled()
  assert.deepEqual(sink.finals, [{ body: { text: 'told' } }])
})

test('an attachment that came is released when the request has ended, however it ends', async () => {
  const { command, runs } = held({ attachmentBytesMax: 10 })
  const { dispatcher } = createDispatcher([command], { bounds: { runningMax: 2, reserved: 0 } })
  const send = (sizeBytes: number): { attachment: TestAttachment; call: ReturnType<typeof testCall> } => {
    const attachment = new TestAttachment(sizeBytes)
    const call = testCall({ ...HOLD, attachment })
    dispatcher.receive(call, new RecordingSink())
    return { attachment, call }
  }
  const tooLarge = send(11)
  const answered = send(10)
  const cancelled = send(10)
  const waiting = send(10)
  assert.ok(tooLarge.attachment.releases > 0)
  assert.equal(runs[0]?.context.attachment, answered.attachment)
  dispatcher.cancel('alice', cancelled.call.id)
  assert.equal(cancelled.attachment.releases, 0, 'the handler may still read it')
  dispatcher.cancel('alice', waiting.call.id)
  assert.ok(waiting.attachment.releases > 0)
  runs[0]?.resolve({ body: { text: '' } })
  runs[1]?.reject(new Error('cancelled'))
  await settled()
  assert.ok(answered.attachment.releases > 0)
  assert.ok(cancelled.attachment.releases > 0)
})

test('a command of a plug-in can be added while the node serves, and a run outlives its removal', async () => {
  const { dispatcher, registry } = createDispatcher([])
  const { command, runs } = held({ type: 64 })
  const sink = new RecordingSink()
  dispatcher.receive(testCall(HOLD), sink)
  assert.equal(sink.outcome, 'PROTOCOL_UNKNOWN_TYPE')
  registry.register(command, { isPlugin: true })
  const second = new RecordingSink()
  dispatcher.receive(testCall(HOLD), second)
  registry.unregister('HOLD')
  runs[0]?.resolve({ body: { text: 'still' } })
  await settled()
  assert.equal(second.outcome, 'ok')
})

test('drain refuses what is new, lets run what is open, and ends what is left at its bound', async () => {
  const { command, runs } = held({ deadlineMs: 60_000 })
  const { dispatcher, clock } = createDispatcher([command], { bounds: { runningMax: 2, reserved: 0 } })
  const sinks = Array.from({ length: 3 }, () => new RecordingSink())
  for (const sink of sinks) dispatcher.receive(testCall(HOLD), sink)
  const drained = dispatcher.drain({ timeoutMs: 5_000 })
  const late = new RecordingSink()
  dispatcher.receive(testCall(HOLD), late)
  assert.equal(late.outcome, 'PROTOCOL_STOPPING')
  runs[0]?.resolve({ body: { text: 'in time' } })
  await settled()
  clock.advance(5_000)
  assert.equal(await drained, 2)
  assert.deepEqual(
    sinks.map(sink => sink.outcome),
    ['ok', 'PROTOCOL_STOPPING', 'PROTOCOL_STOPPING'],
  )
  assert.equal(await dispatcher.drain({ timeoutMs: 5_000 }), 0, 'again, with nothing open')
})

test('drain ends as soon as the last request has its answer', async () => {
  const { command, runs } = held()
  const { dispatcher } = createDispatcher([command])
  dispatcher.receive(testCall(HOLD), new RecordingSink())
  const drained = dispatcher.drain({ timeoutMs: 5_000 })
  runs[0]?.resolve({ body: { text: '' } })
  assert.equal(await drained, 0)
})
