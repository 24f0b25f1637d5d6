/** Events, lost connections and requests that are sent again: through the dispatcher, as a caller meets them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import {
  createDispatcher,
  RecordingSink,
  settled,
  TestAttachment,
  testCall,
  testCommand,
} from '../../test/support/command-fixture.ts'
import type { Command } from './command.ts'
import { ANSWER_KEPT_MS_MAX, ANSWERS_KEPT_PER_PEER_MAX, EVENT_BYTES_KEPT_MAX, EVENTS_WAITING_MAX } from './limits.ts'

const COUNT: Partial<Command> & Pick<Command, 'type' | 'name'> = {
  type: 32,
  name: 'COUNT',
  request: z.object({ to: z.number() }),
  response: z.object({ to: z.number() }),
  event: z.object({ n: z.number() }),
}

/** Emits 0, 1, 2, …, and waits for each. */
const countTo: Command['handle'] = async (body, { emit, signal }) => {
  const { to } = body as { readonly to: number }
  for (let n = 0; n < to && !signal.aborted; n++) await emit({ n })
  return { body: { to } }
}

const counting = (to: number) => testCall({ command: { name: 'COUNT' }, body: { to } })
const numbers = (sink: RecordingSink): unknown[] => sink.events.map(({ body }) => (body as { readonly n: number }).n)
const upTo = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i)

test('events come in order and before the answer', async () => {
  const { dispatcher } = createDispatcher([testCommand({ ...COUNT, handle: countTo })])
  const sink = new RecordingSink()
  dispatcher.receive(counting(100), sink)
  await settled()
  assert.deepEqual(numbers(sink), upTo(0, 100))
  assert.deepEqual(
    sink.events.map(({ index }) => index),
    upTo(0, 100),
  )
  assert.deepEqual(sink.finals, [{ body: { to: 100 } }])
})

test('a slow caller slows the handler, and the answer waits for its events', async () => {
  const { dispatcher } = createDispatcher([testCommand({ ...COUNT, handle: countTo })])
  const sink = new RecordingSink()
  const room: Array<() => void> = []
  sink.room = () => new Promise<void>(resolve => void room.push(resolve))
  dispatcher.receive(counting(3), sink)
  for (let taken = 1; taken <= 3; taken++) {
    await settled()
    assert.equal(sink.events.length, taken)
    assert.equal(sink.outcome, undefined)
    room.shift()?.()
  }
  await settled()
  assert.equal(sink.outcome, 'ok')
})

test('a caller that takes nothing gets the deadline instead of the answer that waits', async () => {
  const { dispatcher, clock } = createDispatcher([testCommand({ ...COUNT, handle: countTo })])
  const sink = new RecordingSink()
  sink.room = () => Promise.withResolvers<void>().promise
  dispatcher.receive(counting(1), sink)
  await settled()
  clock.advance(1_000)
  assert.equal(sink.outcome, 'PROTOCOL_DEADLINE')
  assert.equal(dispatcher.counts().open, 0)
  await settled()
  assert.equal(sink.finals.length, 1)
})

test('an attachment that waits behind events is released when the deadline takes its place', async () => {
  const attachment = new TestAttachment(5)
  const handle: Command['handle'] = async (body, { emit }) => {
    void emit({ n: 0 })
    return { body, attachment }
  }
  const { dispatcher, clock } = createDispatcher([testCommand({ ...COUNT, handle })])
  const sink = new RecordingSink()
  sink.room = () => Promise.withResolvers<void>().promise
  dispatcher.receive(counting(1), sink)
  await settled()
  assert.equal(attachment.releases, 0)
  clock.advance(1_000)
  assert.equal(sink.outcome, 'PROTOCOL_DEADLINE')
  assert.equal(attachment.releases, 1)
})

test('a caller may cancel while it takes an event, a large one too', async () => {
  const large = 'x'.repeat(EVENT_BYTES_KEPT_MAX + 1)
  const event = z.object({ n: z.number() }).transform(({ n }) => ({ n, large }))
  const { dispatcher } = createDispatcher([testCommand({ ...COUNT, event, handle: countTo })])
  const sink = new RecordingSink()
  const call = counting(5)
  sink.room = () => {
    if (sink.events.length === 2) dispatcher.cancel('alice', call.id)
    return undefined
  }
  dispatcher.receive(call, sink)
  await settled()
  assert.equal(sink.outcome, 'PROTOCOL_CANCELLED')
  assert.deepEqual(numbers(sink), [0, 1])
  for (const eventsFrom of [0, 1, 2]) {
    const again = new RecordingSink()
    dispatcher.receive({ ...call, eventsFrom }, again)
    assert.deepEqual([again.outcome, again.events], ['PROTOCOL_CANCELLED', []], 'a failure needs no events')
  }
})

test('a handler that does not wait for its events is stopped by a bound, and ends nothing but itself', async () => {
  const handle: Command['handle'] = async (_, { emit }) => {
    for (let n = 0; n <= EVENTS_WAITING_MAX + 5; n++) void emit({ n })
    await emit({ n: -1 })
    return { body: { to: 0 } }
  }
  const { dispatcher, logged } = createDispatcher([testCommand({ ...COUNT, handle })])
  const sink = new RecordingSink()
  sink.room = () => Promise.withResolvers<void>().promise
  dispatcher.receive(counting(0), sink)
  await settled()
  assert.equal(sink.outcome, 'PROTOCOL_INTERNAL')
  assert.equal(logged.length, 1)
})

test('a request that is sent again goes on where the caller was, and runs once', async () => {
  let runs = 0
  const handle: Command['handle'] = (body, context) => {
    runs++
    return countTo(body, context)
  }
  const { dispatcher } = createDispatcher([testCommand({ ...COUNT, handle })])
  const call = counting(10)
  const first = new RecordingSink()
  first.room = () => {
    if (first.events.length === 6) first.isLost = true
    return undefined
  }
  dispatcher.receive(call, first)
  await settled()
  assert.deepEqual(numbers(first), upTo(0, 6))
  assert.equal(first.finals.length, 0)
  assert.equal(dispatcher.counts().open, 1, 'it waits for its caller')
  const second = new RecordingSink()
  // The last two events were sent and never came.
  dispatcher.receive({ ...call, eventsFrom: 4 }, second)
  await settled()
  assert.deepEqual(numbers(second), upTo(4, 10))
  assert.equal(second.outcome, 'ok')
  assert.equal(runs, 1)
})

test('an event that came, though its sink was lost before it made room, does not hold the handler up', async () => {
  const { dispatcher } = createDispatcher([testCommand({ ...COUNT, handle: countTo })])
  const call = counting(3)
  const lost = new RecordingSink()
  lost.room = () => Promise.withResolvers<void>().promise
  dispatcher.receive(call, lost)
  await settled()
  assert.deepEqual(numbers(lost), [0])
  const sink = new RecordingSink()
  dispatcher.receive({ ...call, eventsFrom: 1 }, sink)
  await settled()
  assert.deepEqual(numbers(sink), [1, 2])
  assert.equal(sink.outcome, 'ok')
})

test('an answer that got lost is given again to its own caller, for a while', async () => {
  let runs = 0
  const handle: Command['handle'] = async body => {
    runs++
    return { body }
  }
  const { dispatcher, clock } = createDispatcher([testCommand({ ...COUNT, handle })])
  const call = counting(1)
  const lost = new RecordingSink()
  lost.isLost = true
  dispatcher.receive(call, lost)
  await settled()
  assert.equal(lost.finals.length, 0)
  for (let again = 0; again < 2; again++) {
    const sink = new RecordingSink()
    dispatcher.receive({ ...call, eventsFrom: 0 }, sink)
    assert.deepEqual(sink.finals, [{ body: { to: 1 } }])
  }
  const stranger = new RecordingSink()
  dispatcher.receive({ ...call, caller: { peer: 'mallory', right: 'member' } }, stranger)
  await settled()
  assert.equal(runs, 2, 'for another caller it is another request')
  clock.advance(ANSWER_KEPT_MS_MAX)
  const late = new RecordingSink()
  dispatcher.receive(call, late)
  assert.equal(late.outcome, 'PROTOCOL_ANSWER_LOST')
  assert.equal(runs, 2, 'it does not run again')
})

test('events that are no longer kept end a request that is sent again', async () => {
  const { dispatcher } = createDispatcher([testCommand({ ...COUNT, handle: countTo, deadlineMs: 10_000 })])
  const call = counting(2_000)
  const first = new RecordingSink()
  first.room = () => {
    if (first.events.length === 1_900) first.isLost = true
    return undefined
  }
  dispatcher.receive(call, first)
  await settled()
  const second = new RecordingSink()
  dispatcher.receive({ ...call, eventsFrom: 0 }, second)
  await settled()
  assert.equal(second.outcome, 'PROTOCOL_ANSWER_LOST')
  assert.deepEqual(second.events, [])
  assert.equal(dispatcher.counts().open, 0)
  const liar = new RecordingSink()
  dispatcher.receive({ ...call, eventsFrom: 5_000 }, liar)
  assert.equal(liar.outcome, 'PROTOCOL_ANSWER_LOST')
})

test('an id of another request is refused', async () => {
  const { dispatcher } = createDispatcher([
    testCommand({ ...COUNT, handle: countTo }),
    testCommand({ type: 33, name: 'ECHO' }),
  ])
  const call = counting(1)
  dispatcher.receive(call, new RecordingSink())
  for (let i = 0; i < 2; i++) {
    const sink = new RecordingSink()
    dispatcher.receive({ ...call, command: { name: 'ECHO' }, body: { text: '' } }, sink)
    await settled()
    assert.equal(sink.outcome, 'PROTOCOL_DUPLICATE_ID')
  }
})

test('sending again is not free, so nobody gets bytes for nothing', async () => {
  const limits = { requests: { tokensMax: 10, perSecond: 1 } }
  const { dispatcher } = createDispatcher([testCommand({ ...COUNT, handle: countTo })], { limits })
  const call = counting(5)
  const sinks = Array.from({ length: 20 }, () => new RecordingSink())
  for (const sink of sinks) {
    dispatcher.receive(call, sink)
    await settled()
  }
  assert.equal(sinks.filter(sink => sink.outcome === 'ok').length, 10)
  assert.equal(sinks.filter(sink => sink.outcome === 'PROTOCOL_RATE_LIMITED').length, 10)
})

test('what a caller is known to have is not kept, what it may have lost is, within bounds', async () => {
  const { dispatcher } = createDispatcher([testCommand({ ...COUNT, handle: countTo })])
  const delivered = new RecordingSink()
  delivered.delivery = () => Promise.resolve(true)
  const call = counting(0)
  dispatcher.receive(call, delivered)
  await settled()
  assert.deepEqual([dispatcher.counts().answersKept, dispatcher.counts().remembered], [0, 1])
  for (let i = 0; i < 100; i++) {
    dispatcher.receive(counting(0), new RecordingSink())
    await settled()
  }
  assert.equal(dispatcher.counts().answersKept, ANSWERS_KEPT_PER_PEER_MAX)
  assert.equal(dispatcher.counts().remembered, 101)
  const again = new RecordingSink()
  dispatcher.receive(call, again)
  assert.equal(again.outcome, 'PROTOCOL_ANSWER_LOST')
})

test("an answer's attachment is released once it is not kept and nobody reads it", async () => {
  const attachment = new TestAttachment(5)
  const handle: Command['handle'] = async body => ({ body, attachment })
  const { dispatcher, clock } = createDispatcher([testCommand({ ...COUNT, handle })])
  const reading = Promise.withResolvers<boolean>()
  const sink = new RecordingSink()
  sink.delivery = () => reading.promise
  const call = counting(0)
  dispatcher.receive(call, sink)
  await settled()
  assert.deepEqual(sink.finals, [{ body: { to: 0 }, attachment }])
  clock.advance(ANSWER_KEPT_MS_MAX)
  assert.equal(attachment.releases, 0, 'it is being read')
  reading.reject(new Error('the connection is lost'))
  await settled()
  assert.ok(attachment.releases > 0)
})

test('an attachment of an answer that nobody wants any more is released', async () => {
  const attachment = new TestAttachment(5)
  const { promise, resolve } = Promise.withResolvers<void>()
  const handle: Command['handle'] = async body => {
    await promise
    return { body, attachment }
  }
  const { dispatcher } = createDispatcher([testCommand({ ...COUNT, handle })])
  const call = counting(0)
  dispatcher.receive(call, new RecordingSink())
  dispatcher.cancel('alice', call.id)
  resolve()
  await settled()
  assert.ok(attachment.releases > 0)
})

test('an answer that leaves the cache while a slow sink works through its events is not given half', async () => {
  const attachment = new TestAttachment(5)
  const handle: Command['handle'] = async (body, { emit }) => {
    await emit({ n: 0 })
    return { body, attachment }
  }
  const { dispatcher, clock } = createDispatcher([testCommand({ ...COUNT, handle })])
  const call = counting(0)
  dispatcher.receive(call, new RecordingSink())
  await settled()
  const slow = new RecordingSink()
  slow.room = () => Promise.withResolvers<void>().promise
  dispatcher.receive(call, slow)
  clock.advance(ANSWER_KEPT_MS_MAX)
  assert.equal(slow.outcome, 'PROTOCOL_ANSWER_LOST')
  assert.ok(attachment.releases > 0)
})
