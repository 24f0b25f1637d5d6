import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ManualClock, seededRandom, silentLogger } from '#base'
import { parseAddress } from './address.ts'
import { NetError, resting } from './errors.ts'
import { keepConnected } from './keeper.ts'
import { REDIAL_MS, REDIAL_REFUSED_MS } from './limits.ts'

/** Lets everything that waits for a promise run. */
function settle(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}

/** A keeper whose dials end as `outcome` says. */
function setUp(outcome: () => Promise<string>) {
  const clock = new ManualClock()
  const stop = new AbortController()
  const dialledAt: number[] = []
  const held = new Set<string>()
  let leave = (): void => undefined
  const deps = {
    clock,
    random: seededRandom(5),
    log: silentLogger,
    connect: () => {
      dialledAt.push(clock.monotonic())
      return outcome()
    },
    hold: (peer: string) => {
      held.add(peer)
      return () => void held.delete(peer)
    },
    gone: () => new Promise<void>(resolve => (leave = resolve)),
  }
  const kept = keepConnected(deps, parseAddress('/ip4/192.0.2.1/tcp/1'), { signal: stop.signal })
  const pass = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 50) {
      clock.advance(50)
      await settle()
    }
  }
  return { kept, stop, dialledAt, held, pass, leave: () => leave() }
}

describe('net / keeper', () => {
  it('waits for as long as the circuit breaker says', async () => {
    const { kept, stop, dialledAt, pass } = setUp(() => Promise.reject(resting('peer', 20_000)))
    await pass(70_000)
    const waits = dialledAt.slice(1).map((at, i) => at - (dialledAt[i] ?? 0))
    assert.equal(waits.length, 3)
    for (const wait of waits) assert.ok(wait >= 20_000 - REDIAL_MS / 2 && wait <= 20_000 + REDIAL_MS, `${wait} ms`)
    stop.abort()
    await kept
  })

  it('holds the peer while it is there, and dials soon again once it is gone, and not before', async () => {
    const { kept, stop, dialledAt, held, pass, leave } = setUp(() => Promise.resolve('peer'))
    await pass(60_000)
    assert.equal(dialledAt.length, 1)
    assert.deepEqual([...held], ['peer'])
    leave()
    await settle()
    assert.equal(held.size, 0)
    await pass(2 * REDIAL_MS)
    assert.equal(dialledAt.length, 2)
    stop.abort()
    leave()
    await kept
  })

  it('does not hammer a peer that has refused it', async () => {
    const fault = { code: 'NET_NOT_ADMITTED', peer: 'p', reason: 'proof-wrong', by: 'peer' } as const
    const { kept, stop, dialledAt, pass } = setUp(() => Promise.reject(new NetError(fault, 'another secret')))
    await pass(0.9 * REDIAL_REFUSED_MS)
    assert.equal(dialledAt.length, 1)
    await pass(0.2 * REDIAL_REFUSED_MS)
    assert.equal(dialledAt.length, 2)
    stop.abort()
    await kept
  })
})
