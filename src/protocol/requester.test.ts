import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { type Random, seededRandom, systemRandom } from '#base'
import { createDispatcher, settled, TestAttachment, testCommand } from '../../test/support/command-fixture.ts'
import { defineCommand } from './command.ts'
import type { Dispatcher } from './dispatcher.ts'
import { ProtocolError } from './errors.ts'
import { EVENTS_UNREAD_MAX, RECONNECT_MS_MAX } from './limits.ts'
import {
  type IncomingAnswer,
  type OutgoingCancel,
  type OutgoingRequest,
  type RequestConnection,
  Requester,
} from './requester.ts'
import { SessionError } from './session-errors.ts'

const COUNT = defineCommand({
  ...testCommand({ type: 32, name: 'COUNT' }),
  request: z.object({ to: z.number() }),
  response: z.object({ to: z.number() }),
  event: z.object({ n: z.number() }),
  attachmentBytesMax: 100,
  handle: async ({ to }, { emit }) => {
    for (let n = 0; n < to; n++) await emit({ n })
    return { body: { to } }
  },
})
const ASKED = { command: COUNT, body: { to: 3 } }

/** A requester whose peer is the test. */
function createRequester(options: { readonly pendingMax?: number } = {}) {
  const { clock, penalties } = createDispatcher([])
  const requester = new Requester({ clock, random: seededRandom(7), penalties }, options)
  const sent: Array<OutgoingRequest | OutgoingCancel> = []
  const connection: RequestConnection = { peer: 'bob', send: message => void sent.push(message) }
  return { clock, penalties, requester, sent, connection }
}

const failsWith =
  (code: string, facts: object = {}) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof ProtocolError, String(error))
    assert.equal(error.code, code)
    for (const [key, value] of Object.entries(facts)) assert.equal(Reflect.get(error.fault, key), value)
    return true
  }

test('a request carries what it asks, and its answer what the schema has', async () => {
  const { requester, sent, connection } = createRequester()
  const seen: number[] = []
  const attachment = new TestAttachment(5)
  const answer = requester.request(connection, ASKED, {
    deadlineMs: 400,
    attachment,
    onEvent: ({ n }) => void seen.push(n),
  })
  const [request] = sent
  assert.ok(request?.kind === 'request')
  const { id, ...rest } = request
  assert.deepEqual(rest, { kind: 'request', type: 32, name: 'COUNT', body: { to: 3 }, deadlineMs: 400, attachment })
  assert.equal((id[6] ?? 0) >> 4, 4, 'a UUID of version 4')
  assert.equal((id[8] ?? 0) >> 6, 2)
  for (const n of [0, 1]) await requester.receive('bob', { kind: 'event', id, index: n, body: { n } })
  const came = new TestAttachment(1)
  void requester.receive('bob', { kind: 'response', id, body: { to: 3, more: true }, attachment: came })
  assert.deepEqual(await answer, { body: { to: 3 }, attachment: came })
  assert.deepEqual(seen, [0, 1])
  assert.equal(requester.pending, 0)
  assert.equal(came.releases, 0, "it is the caller's now")
})

test('an error of the peer comes with its code, and cannot steer a terminal', async () => {
  const { requester, sent, connection } = createRequester()
  const answer = requester.request(connection, ASKED)
  const { id } = sent[0] ?? assert.fail()
  void requester.receive('bob', { kind: 'error', id, code: 'NODE_BUSY', message: 'later\u001b[2J', retryAfterMs: 7 })
  await assert.rejects(answer, error => {
    failsWith('PROTOCOL_REMOTE', { remoteCode: 'NODE_BUSY', peer: 'bob', retryAfterMs: 7 })(error)
    assert.match((error as Error).message, /NODE_BUSY: later\ufffd\[2J/)
    return true
  })
})

test('a bad body is refused before it is sent, and so are too many requests', async () => {
  const { requester, sent, connection } = createRequester({ pendingMax: 2 })
  const bad = requester.request(connection, { command: COUNT, body: { to: 'x' as unknown as number } })
  await assert.rejects(bad, failsWith('PROTOCOL_BAD_REQUEST', { path: 'to' }))
  assert.equal(sent.length, 0)
  const open = [requester.request(connection, ASKED), requester.request(connection, ASKED)]
  await assert.rejects(requester.request(connection, ASKED), failsWith('PROTOCOL_REQUESTS_FULL', { pending: 2 }))
  requester.gone('bob')
  for (const request of open) await assert.rejects(request, failsWith('PROTOCOL_CONNECTION_LOST'))
  assert.equal(requester.pending, 0)
})

test('a deadline and an abort end a request here and at the peer', async () => {
  const { requester, sent, connection, clock } = createRequester()
  const late = requester.request(connection, ASKED)
  clock.advance(1_000)
  await assert.rejects(late, failsWith('PROTOCOL_DEADLINE', { deadlineMs: 1_000 }))
  const controller = new AbortController()
  const aborted = requester.request(connection, ASKED, { signal: controller.signal })
  controller.abort(new Error('no longer wanted'))
  await assert.rejects(aborted, /no longer wanted/)
  assert.deepEqual(
    sent.map(({ kind }) => kind),
    ['request', 'cancel', 'request', 'cancel'],
  )
  assert.deepEqual(sent[0]?.id, sent[1]?.id)
  await assert.rejects(requester.request(connection, ASKED, { signal: controller.signal }), /no longer wanted/)
  assert.equal(sent.length, 4, 'nothing is sent for a request that was aborted before')
})

test('answers to nothing are counted and dropped; nobody answers for another peer', async () => {
  const { requester, sent, connection } = createRequester()
  const answer = requester.request(connection, ASKED)
  const { id } = sent[0] ?? assert.fail()
  const attachment = new TestAttachment(1)
  void requester.receive('mallory', { kind: 'response', id, body: { to: 666 }, attachment })
  void requester.receive('bob', { kind: 'response', id: new Uint8Array(16), body: { to: 666 } })
  assert.equal(requester.unknownAnswers, 2)
  assert.equal(attachment.releases, 1)
  void requester.receive('bob', { kind: 'response', id, body: { to: 3 } })
  void requester.receive('bob', { kind: 'response', id, body: { to: 4 } })
  assert.deepEqual(await answer, { body: { to: 3 } })
  assert.equal(requester.unknownAnswers, 3)
})

test('a peer that answers what the schema does not allow is caught and pays for it', async () => {
  const lies: ReadonlyArray<(id: Uint8Array, attachment: TestAttachment) => IncomingAnswer> = [
    (id, attachment) => ({ kind: 'response', id, body: { to: 'x' }, attachment }),
    id => ({ kind: 'event', id, index: 0, body: { n: 'x' } }),
    id => ({ kind: 'event', id, index: 1, body: { n: 1 } }),
  ]
  for (const lie of lies) {
    const { requester, sent, connection, penalties } = createRequester()
    const answer = requester.request(connection, ASKED)
    const attachment = new TestAttachment(1)
    void requester.receive('bob', lie(sent[0]?.id ?? assert.fail(), attachment))
    await assert.rejects(answer, failsWith('PROTOCOL_BAD_RESPONSE', { peer: 'bob' }))
    assert.ok(penalties.scoreOf('bob') > 0)
    assert.equal(sent[1]?.kind, 'cancel')
  }
})

test('the answer waits until its caller is done with the events; an event that fails ends the request', async () => {
  const { requester, sent, connection } = createRequester()
  const turn = Promise.withResolvers<void>()
  let isAnswered = false
  const answer = requester.request(connection, ASKED, { onEvent: () => turn.promise }).then(() => {
    isAnswered = true
  })
  const { id } = sent[0] ?? assert.fail()
  void requester.receive('bob', { kind: 'event', id, index: 0, body: { n: 0 } })
  void requester.receive('bob', { kind: 'response', id, body: { to: 3 } })
  requester.lost('bob')
  requester.gone('bob')
  await settled()
  assert.ok(!isAnswered)
  turn.resolve()
  await answer
  const failing = requester.request(connection, ASKED, {
    onEvent: () => {
      throw new Error('cannot take it')
    },
  })
  void requester.receive('bob', { kind: 'event', id: sent[1]?.id ?? assert.fail(), index: 0, body: { n: 0 } })
  await assert.rejects(failing, /cannot take it/)
  assert.equal(sent[2]?.kind, 'cancel')
})

test('a deadline holds while the caller is busy with events, and the attachment that came is released', async () => {
  const { requester, sent, connection, clock } = createRequester()
  const turn = Promise.withResolvers<void>()
  const answer = requester.request(connection, ASKED, { onEvent: () => turn.promise })
  const { id } = sent[0] ?? assert.fail()
  const attachment = new TestAttachment(1)
  void requester.receive('bob', { kind: 'event', id, index: 0, body: { n: 0 } })
  void requester.receive('bob', { kind: 'response', id, body: { to: 3 }, attachment })
  clock.advance(1_000)
  await assert.rejects(answer, failsWith('PROTOCOL_DEADLINE'))
  turn.resolve()
  await settled()
  assert.equal(attachment.releases, 1)
})

test('a caller that takes no events is waited for, and given up beyond a bound', async () => {
  const { requester, sent, connection } = createRequester()
  const answer = requester.request(connection, ASKED, { onEvent: () => Promise.withResolvers<void>().promise })
  const { id } = sent[0] ?? assert.fail()
  const waits = Array.from({ length: EVENTS_UNREAD_MAX }, (_, index) =>
    requester.receive('bob', { kind: 'event', id, index, body: { n: index } }),
  )
  assert.equal(waits[0], undefined)
  assert.ok(waits.at(-1) instanceof Promise)
  assert.equal(requester.pending, 1)
  void requester.receive('bob', { kind: 'event', id, index: EVENTS_UNREAD_MAX, body: { n: 1 } })
  await assert.rejects(answer, failsWith('PROTOCOL_EVENTS_UNREAD'))
})

test('a lost connection is waited for; what is sent again says what has come and how much time is left', async () => {
  const { requester, sent, connection, clock } = createRequester()
  const seen: number[] = []
  const answer = requester.request(connection, ASKED, { onEvent: ({ n }) => void seen.push(n) })
  const { id } = sent[0] ?? assert.fail()
  await requester.receive('bob', { kind: 'event', id, index: 0, body: { n: 0 } })
  requester.lost('bob')
  clock.advance(300)
  const again: Array<OutgoingRequest | OutgoingCancel> = []
  requester.reconnected({ peer: 'bob', send: message => void again.push(message) })
  assert.deepEqual(again, [
    { kind: 'request', type: 32, name: 'COUNT', id, body: { to: 3 }, deadlineMs: 700, eventsFrom: 1 },
  ])
  for (const index of [0, 1]) await requester.receive('bob', { kind: 'event', id, index, body: { n: index } })
  void requester.receive('bob', { kind: 'response', id, body: { to: 3 } })
  assert.deepEqual(await answer, { body: { to: 3 } })
  assert.deepEqual(seen, [0, 1], 'an event that comes twice is taken once')
})

test('a connection that does not come back ends its requests, whether a send fails now or later', async () => {
  const { requester, clock } = createRequester()
  const patient = { command: { ...COUNT, deadlineMs: 60_000 }, body: { to: 3 } }
  const sends: ReadonlyArray<RequestConnection['send']> = [
    () => {
      throw new Error('closed')
    },
    () => Promise.reject(new Error('closed')),
  ]
  for (const send of sends) {
    let error: unknown
    const answer = requester.request({ peer: 'bob', send }, patient).catch((reason: unknown) => {
      error = reason
    })
    await settled()
    clock.advance(RECONNECT_MS_MAX - 1)
    await settled()
    assert.equal(error, undefined)
    clock.advance(1)
    await answer
    failsWith('PROTOCOL_CONNECTION_LOST', { peer: 'bob' })(error)
  }
})

test('a message that cannot be sent ends its request at once, whether that is found now or later', async () => {
  const fault = { code: 'PROTOCOL_MESSAGE_TOO_LONG', sizeBytes: 9, maxBytes: 8 } as const
  const tooLong = new SessionError(fault, 'a message of 9 bytes is longer than 8')
  const late = (): Promise<void> => Promise.reject(tooLong)
  const now = (): void => assert.fail(tooLong)
  for (const send of [late, now]) {
    const { requester } = createRequester()
    await assert.rejects(requester.request({ peer: 'bob', send }, ASKED), tooLong)
    assert.equal(requester.pending, 0)
  }
})

test('a send that fails late, when there is another connection already, costs nothing', async () => {
  const { requester, clock } = createRequester()
  const { promise, reject } = Promise.withResolvers<void>()
  const sent: Array<OutgoingRequest | OutgoingCancel> = []
  const patient = { command: { ...COUNT, deadlineMs: 60_000 }, body: { to: 3 } }
  const answer = requester.request({ peer: 'bob', send: () => promise }, patient)
  requester.lost('bob')
  requester.reconnected({ peer: 'bob', send: message => void sent.push(message) })
  reject(new Error('closed'))
  await settled()
  clock.advance(RECONNECT_MS_MAX)
  void requester.receive('bob', { kind: 'response', id: sent[0]?.id ?? assert.fail(), body: { to: 3 } })
  assert.deepEqual(await answer, { body: { to: 3 } })
})

/** A connection to a dispatcher that may break at any message; what is on its way then is lost. */
class LossyLink {
  readonly #random: Random
  readonly #dispatcher: Dispatcher
  readonly #requester: Requester
  #epoch = 0
  readonly #wire: Array<() => void> = []

  constructor(random: Random, ends: { readonly dispatcher: Dispatcher; readonly requester: Requester }) {
    this.#random = random
    this.#dispatcher = ends.dispatcher
    this.#requester = ends.requester
  }

  get isQuiet(): boolean {
    return this.#wire.length === 0
  }

  open(): RequestConnection {
    const epoch = this.#epoch
    return { peer: 'bob', send: message => this.#carry(epoch, () => this.#deliver(epoch, message)) }
  }

  /** Breaks the connection and makes another. */
  break(): void {
    this.#epoch++
    this.#wire.length = 0
    this.#requester.lost('bob')
    this.#requester.reconnected(this.open())
  }

  /** Lets the oldest message arrive. */
  step(): void {
    this.#wire.shift()?.()
  }

  #carry(epoch: number, arrive: () => void): void {
    if (epoch !== this.#epoch) throw new Error('the connection is lost')
    this.#wire.push(arrive)
  }

  #deliver(epoch: number, message: OutgoingRequest | OutgoingCancel): void {
    if (message.kind === 'cancel') {
      this.#dispatcher.cancel('alice', message.id)
      return
    }
    const { id, name, body, deadlineMs, eventsFrom } = message
    const answer = (incoming: IncomingAnswer): void =>
      this.#carry(epoch, () => void this.#requester.receive('bob', incoming))
    this.#dispatcher.receive(
      {
        id,
        command: { name },
        body,
        deadlineMs,
        caller: { peer: 'alice', right: 'member' },
        ...(eventsFrom === undefined ? {} : { eventsFrom }),
      },
      {
        event: (body, index) => {
          answer({ kind: 'event', id, index, body })
          return this.#random.uint32() % 2 === 0 ? undefined : Promise.resolve()
        },
        response: body => answer({ kind: 'response', id, body }),
        error: error => answer({ kind: 'error', id, ...error }),
      },
    )
  }
}

test('over a connection that breaks again and again, every request runs once and has every event once', async t => {
  const seed = systemRandom.uint32()
  t.diagnostic(`seed ${seed}`)
  for (let round = 0; round < 300; round++) {
    const random = seededRandom(seed + round)
    const runs = new Map<number, number>()
    const handle: typeof COUNT.handle = async ({ to }, { emit }) => {
      runs.set(to, (runs.get(to) ?? 0) + 1)
      for (let n = 0; n < to; n++) await emit({ n })
      return { body: { to } }
    }
    const { dispatcher, clock, penalties } = createDispatcher([{ ...COUNT, handle }])
    const requester = new Requester({ clock, random, penalties })
    const link = new LossyLink(random, { dispatcher, requester })
    const events = new Map<number, number[]>()
    const answers = Array.from({ length: 8 }, async (_, to) => {
      const seen: number[] = []
      events.set(to, seen)
      const onEvent = async ({ n }: { readonly n: number }): Promise<void> => void seen.push(n)
      return (await requester.request(link.open(), { command: COUNT, body: { to } }, { onEvent })).body
    })
    const all = Promise.all(answers)
    let breaks = 0
    for (let step = 0; requester.pending > 0 || !link.isQuiet; step++) {
      assert.ok(step < 10_000, `seed ${seed + round}: a request has no end`)
      if (breaks < 10 && random.uint32() % 8 === 0) {
        breaks++
        link.break()
      } else link.step()
      if (random.uint32() % 3 === 0) await settled()
    }
    assert.deepEqual(
      await all,
      Array.from({ length: 8 }, (_, to) => ({ to })),
      `seed ${seed + round}`,
    )
    for (const [to, seen] of events) {
      assert.equal(runs.get(to), 1, `seed ${seed + round}`)
      assert.deepEqual(
        seen,
        Array.from({ length: to }, (_, n) => n),
        `seed ${seed + round}`,
      )
    }
  }
})
