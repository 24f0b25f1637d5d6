import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type ByteStream, codeOf, createStreamPair, ManualClock, silentLogger, systemRandom } from '#base'
import { PUNCH_INTERVAL_MS_MIN, PUNCHES_MAX, PUNCHES_SERVED_MAX } from '../limits.ts'
import { Observer } from './observer.ts'
import { Puncher } from './puncher.ts'
import type { PunchWay } from './types.ts'

const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve))
const signal = new AbortController().signal

/** A way that joins when the test says so. */
function heldWay(): { readonly way: PunchWay; readonly joins: () => void } {
  const held = Promise.withResolvers<void>()
  return {
    joins: () => held.resolve(),
    way: {
      method: 'tcp',
      attemptsMax: 1,
      joinMsMax: 10_000,
      prepare: async () => ({
        offer: { type: 'offer' },
        can: () => true,
        join: () => held.promise,
        release: () => undefined,
      }),
    },
  }
}

function network() {
  const clock = new ManualClock()
  const stopping = new AbortController()
  const punchers = new Map<string, Puncher>()
  const served: Promise<unknown>[] = []
  const { way, joins } = heldWay()
  const add = (self: string): Puncher => {
    const puncher = new Puncher({
      clock,
      log: silentLogger,
      self,
      open: async peer => {
        const [near, far] = createStreamPair('test', { a: self, b: peer })
        served.push(serve(peer, far))
        return near
      },
      ways: [way],
      observer: new Observer({ clock, random: systemRandom, log: silentLogger }, { hosts: [], ports: [] }),
      facts: () => ({ nat: 'unknown', listensQuic: false }),
      pathTo: () => 'relayed',
      stopping: stopping.signal,
    })
    punchers.set(self, puncher)
    return puncher
  }
  const serve = async (peer: string, stream: ByteStream): Promise<unknown> => {
    try {
      return await punchers.get(peer)?.serve(stream)
    } catch (error) {
      stream.abort(error instanceof Error ? error : new Error('failed'))
      return codeOf(error)
    }
  }
  const start = (puncher: Puncher, peer: string): Promise<unknown> => {
    const punch = puncher.punch(peer, { signal }).catch((error: unknown) => codeOf(error))
    return punch
  }
  /** Half a round trip of no time is a timer, too. */
  const pass = async (): Promise<void> => {
    for (let turns = 0; turns < 50; turns++) {
      clock.advance(1)
      await turn()
    }
  }
  return { clock, add, start, joins, stopping, served, pass }
}

const BUSY = 'NET_PUNCH_FAILED'

describe('net / punch / puncher', () => {
  it('has one punch with a peer at a time, and a few in all', async () => {
    const { add, start, joins, pass } = network()
    const a = add('a')
    const peers = Array.from({ length: PUNCHES_MAX + 1 }, (_, index) => `p${index}`)
    for (const peer of peers) add(peer)
    const punches = peers.slice(0, PUNCHES_MAX).map(peer => start(a, peer))
    assert.equal(a.hasRoom, false)
    assert.equal(a.isBusyWith('p0'), true)
    assert.equal(await start(a, 'p0'), BUSY)
    assert.equal(await start(a, peers.at(-1) ?? ''), BUSY)
    joins()
    await pass()
    assert.deepEqual(await Promise.all(punches), Array(PUNCHES_MAX).fill('tcp'))
    assert.equal(a.hasRoom, true)
  })

  it('serves so many at once, and a peer not again too soon', async () => {
    const { clock, add, start, joins, pass } = network()
    add('z')
    const callers = Array.from({ length: PUNCHES_SERVED_MAX + 1 }, (_, index) => add(`c${index}`))
    const punches = callers.slice(0, -1).map(caller => start(caller, 'z'))
    await pass()
    const [first] = callers
    assert(first !== undefined)
    assert.notEqual(await start(callers.at(-1) ?? first, 'z'), 'tcp')
    joins()
    await pass()
    assert.deepEqual(await Promise.all(punches), Array(PUNCHES_SERVED_MAX).fill('tcp'))
    assert.notEqual(await start(first, 'z'), 'tcp')
    clock.advance(PUNCH_INTERVAL_MS_MIN)
    const again = start(first, 'z')
    await pass()
    assert.equal(await again, 'tcp')
  })

  it("goes on with the smaller id's punch where both start at once", async () => {
    const { add, start, joins, pass } = network()
    const [a, b] = [add('a'), add('b')]
    const both = [start(a, 'b'), start(b, 'a')]
    joins()
    await pass()
    const [atA, atB] = await Promise.all(both)
    assert.equal(atA, 'tcp')
    assert.notEqual(atB, 'tcp')
  })

  it('ends with the host', async () => {
    const { add, start, stopping, served, pass } = network()
    const a = add('a')
    add('b')
    const punch = start(a, 'b')
    await pass()
    stopping.abort(new Error('stopped'))
    assert.notEqual(await punch, 'tcp')
    await Promise.all(served)
    assert.equal(a.isBusyWith('b'), false)
  })
})
