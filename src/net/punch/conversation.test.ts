import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type ByteStream, createStreamPair, ManualClock, silentLogger } from '#base'
import { encodePunchMessage, type PunchMessage, type PunchMethod, withLengthPrefix } from '#wire'
import { PUNCH_ATTEMPTS_MAX, PUNCH_MESSAGE_MS_MAX } from '../limits.ts'
import { converse } from './conversation.ts'
import { PunchTalk } from './talk.ts'
import type { PunchConnect, PunchContext, PunchWay } from './types.ts'

type Joins = (attempt: number) => boolean

type Side = {
  readonly talk: PunchTalk
  readonly ways: PunchWay[]
  readonly connect: PunchConnect
  readonly contexts: PunchContext[]
  /** When each attempt began, by the clock. */
  readonly startedAt: number[]
  readonly released: string[]
}

const signal = new AbortController().signal

/** A way whose attempts come to what the test says, at once. */
function wayOf(
  side: Omit<Side, 'ways'>,
  clock: ManualClock,
  { method, joins }: { readonly method: PunchMethod; readonly joins: Joins },
): PunchWay {
  return {
    method,
    attemptsMax: method === 'tcp' ? PUNCH_ATTEMPTS_MAX : 1,
    joinMsMax: 1_000,
    prepare: async context => {
      side.contexts.push(context)
      return {
        offer: { type: 'offer' },
        can: () => true,
        join: async (_theirs, { attempt }) => {
          side.startedAt.push(clock.monotonic())
          if (!joins(attempt)) throw new Error('nobody there')
        },
        release: () => void side.released.push(method),
      }
    },
  }
}

function sideOf(clock: ManualClock, stream: ByteStream, joins: Partial<Record<PunchMethod, Joins>>): Side {
  const methods = Object.keys(joins) as PunchMethod[]
  const common = {
    talk: new PunchTalk({ clock }, stream),
    connect: { type: 'connect', methods, nat: 'unknown', listensQuic: true } as PunchConnect,
    contexts: [],
    startedAt: [],
    released: [],
  }
  const ways = methods.map(method => wayOf(common, clock, { method, joins: joins[method] ?? (() => false) }))
  return { ...common, ways }
}

type Pair = { readonly clock: ManualClock; readonly caller: Side; readonly callee: Side }

function pairOf(joins: Partial<Record<PunchMethod, Joins>>, theirs = joins, delayMs = 0): Pair {
  const clock = new ManualClock()
  const [a, b] = createStreamPair('test', { a: 'caller', b: 'callee' })
  const [nearA, nearB] = delayMs === 0 ? [a, b] : [delayed(clock, a, delayMs), delayed(clock, b, delayMs)]
  return { clock, caller: sideOf(clock, nearA, joins), callee: sideOf(clock, nearB, theirs) }
}

/** A stream whose bytes take their time, one way. */
function delayed(clock: ManualClock, stream: ByteStream, delayMs: number): ByteStream {
  return {
    ...stream,
    send: bytes => {
      clock.after(delayMs, () => void stream.send(bytes))
      return true
    },
  }
}

function run({ clock, caller, callee }: Pair): Promise<PromiseSettledResult<PunchMethod>[]> {
  const talk = (side: Side, role: 'caller' | 'callee', self: string): Promise<PunchMethod> =>
    converse({ clock, log: silentLogger, self, ways: side.ways, connect: side.connect }, side.talk, { role, signal })
  return Promise.allSettled([talk(caller, 'caller', 'caller'), talk(callee, 'callee', 'callee')])
}

const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

/** Lets time pass until it is over, a millisecond a turn. */
async function through<T>(clock: ManualClock, promise: Promise<T>): Promise<T> {
  let isOver = false
  const settle = (): void => void (isOver = true)
  promise.then(settle, settle)
  while (!isOver) {
    await turn()
    clock.advance(1)
  }
  return promise
}

const values = (results: PromiseSettledResult<PunchMethod>[]): unknown[] =>
  results.map(result => (result.status === 'fulfilled' ? result.value : (result.reason as { fault: unknown }).fault))

describe('net / punch / conversation', () => {
  it('ends with the first attempt that both sides have joined over', async () => {
    const pair = pairOf({ tcp: attempt => attempt === 1, ice: () => true }, { tcp: () => true, ice: () => true })
    assert.deepEqual(values(await through(pair.clock, run(pair))), ['tcp', 'tcp'])
    assert.equal(pair.caller.startedAt.length, 2)
    assert.equal(pair.callee.startedAt.length, 2)
    assert.deepEqual(pair.caller.released, ['tcp', 'tcp'])
  })

  it('tries TCP three times, then ICE once', async () => {
    const pair = pairOf({ tcp: () => false, ice: () => true })
    assert.deepEqual(values(await through(pair.clock, run(pair))), ['ice', 'ice'])
    assert.deepEqual(pair.callee.released, ['tcp', 'tcp', 'tcp', 'ice'])
  })

  it('fails on both sides where nothing leads anywhere', async () => {
    const pair = pairOf({ tcp: () => false })
    const results = values(await through(pair.clock, run(pair)))
    assert.deepEqual(results, [
      { code: 'NET_PUNCH_FAILED', peer: 'callee', reason: 'no-way' },
      { code: 'NET_PUNCH_FAILED', peer: 'caller', reason: 'no-way' },
    ])
  })

  it('gives the two sides opposite parts', async () => {
    const pair = pairOf({ tcp: () => true })
    await through(pair.clock, run(pair))
    assert.deepEqual(
      [pair.caller, pair.callee].map(({ contexts }) => contexts[0]?.isOutbound),
      // 'callee' is the smaller of the two ids.
      [false, true],
    )
  })

  it('lets the side without a QUIC listener dial', async () => {
    const pair = pairOf({ ice: () => true })
    Object.assign(pair.callee.connect, { listensQuic: false })
    await through(pair.clock, run(pair))
    assert.equal(pair.callee.contexts[0]?.isOutbound, true)
    Object.assign(pair.caller.connect, { listensQuic: false })
    const none = pairOf({ ice: () => true })
    for (const side of [none.caller, none.callee]) Object.assign(side.connect, { listensQuic: false })
    await through(none.clock, run(none))
    assert.equal(none.caller.contexts.length, 0)
  })

  it('leaves ICE out where both NATs are symmetric, or UDP is blocked', async () => {
    for (const [a, b] of [
      ['symmetric', 'symmetric'],
      ['blocked', 'none'],
    ] as const) {
      const pair = pairOf({ ice: () => true })
      Object.assign(pair.caller.connect, { nat: a })
      Object.assign(pair.callee.connect, { nat: b })
      await through(pair.clock, run(pair))
      assert.equal(pair.caller.contexts.length, 0, `${a} ${b}`)
    }
  })

  it('makes both dial at the same moment, whatever the way between them takes', async () => {
    for (const delayMs of [10, 75]) {
      const pair = pairOf({ tcp: attempt => attempt === 2 }, undefined, delayMs)
      await through(pair.clock, run(pair))
      const { caller, callee } = pair
      assert.equal(caller.startedAt.length, 3)
      for (const [index, at] of caller.startedAt.entries()) {
        const apartMs = Math.abs(at - (callee.startedAt[index] ?? 0))
        // Turns of the event loop are milliseconds here.
        assert.ok(apartMs <= 4, `${apartMs} ms apart of ${delayMs}`)
      }
    }
  })

  it('gives up on a peer that says nothing, and releases what it prepared', async () => {
    const clock = new ManualClock()
    const [a, b] = createStreamPair('test', { a: 'caller', b: 'callee' })
    const caller = sideOf(clock, a, { tcp: () => true })
    b.send(withLengthPrefix(encodePunchMessage({ type: 'connect', methods: ['tcp'], nat: 'none', listensQuic: false })))
    const result = converse(
      { clock, log: silentLogger, self: 'caller', ways: caller.ways, connect: caller.connect },
      caller.talk,
      { role: 'caller', signal },
    )
    result.catch(() => undefined)
    await turn()
    clock.advance(PUNCH_MESSAGE_MS_MAX)
    await assert.rejects(result, { fault: { code: 'NET_PUNCH_FAILED', peer: 'callee', reason: 'silent' } })
    assert.deepEqual(caller.released, ['tcp'])
  })

  it('refuses what does not belong there', async () => {
    const port = 4001
    const offer = (ports: number[]): unknown => ({
      type: 'offer',
      tcp: {
        mapping: 'stable',
        outside: ports.map(each => ({ address: '62.1.1.1', port: each })),
        inside: [],
        token: new Uint8Array(16),
      },
    })
    const hostile: unknown[] = [
      { type: 'sync' },
      { type: 'nonsense' },
      { type: 'connect', methods: ['tcp', 'tcp', 'tcp'], nat: 'none', listensQuic: true },
      { type: 'connect', methods: ['smoke'], nat: 'none', listensQuic: true },
      offer([port, port, port, port, port]),
      offer([22]),
      offer([70_000]),
      7,
      null,
    ]
    for (const message of hostile) {
      const clock = new ManualClock()
      const [a, b] = createStreamPair('test', { a: 'caller', b: 'callee' })
      const caller = sideOf(clock, a, { tcp: () => true })
      b.send(withLengthPrefix(encodePunchMessage(message as PunchMessage)))
      const result = converse(
        { clock, log: silentLogger, self: 'caller', ways: caller.ways, connect: caller.connect },
        caller.talk,
        { role: 'caller', signal },
      )
      await assert.rejects(result, { fault: { code: 'NET_PUNCH_FAILED', peer: 'callee', reason: 'malformed' } })
    }
  })

  it('refuses bytes that are no message, and more than one may have', async () => {
    for (const bytes of [withLengthPrefix(Uint8Array.of(0xff, 0xff)), Uint8Array.of(0x7f, 0xff, 0xff, 0xff)]) {
      const [a, b] = createStreamPair('test', { a: 'caller', b: 'callee' })
      const talk = new PunchTalk({ clock: new ManualClock() }, a)
      b.send(bytes)
      await assert.rejects(talk.next(['connect']), {
        fault: { code: 'NET_PUNCH_FAILED', peer: 'callee', reason: 'malformed' },
      })
    }
  })
})
