import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ManualClock, seededRandom, silentLogger } from '#base'
import { parseAddress } from './address.ts'
import { NetError } from './errors.ts'
import { keepConnected } from './keeper.ts'
import { REDIAL_MS_MAX, REDIAL_MS_MIN } from './limits.ts'

/** Lets everything that waits for a promise run. */
function settle(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}

/** A keeper whose dials end as `outcome` says. */
function setUp(outcome: () => Promise<string>) {
  const clock = new ManualClock()
  const stop = new AbortController()
  const dialledAt: number[] = []
  let leave = (): void => undefined
  const deps = {
    clock,
    random: seededRandom(5),
    log: silentLogger,
    connect: () => {
      dialledAt.push(clock.monotonic())
      return outcome()
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
  return { kept, stop, dialledAt, pass, leave: () => leave() }
}

const refused = (): Promise<string> => Promise.reject(new NetError({ code: 'NET_DIAL_FAILED' }, 'nobody there'))

describe('net / keeper', () => {
  it('dials again with longer and longer waits, up to a bound', async () => {
    const { kept, stop, dialledAt, pass } = setUp(refused)
    await pass(4 * REDIAL_MS_MAX)
    const waits = dialledAt.slice(1).map((at, i) => at - (dialledAt[i] ?? 0))
    assert.ok(waits.length >= 7, `only ${waits.length} tries`)
    assert.ok((waits[0] ?? 0) <= 1.5 * REDIAL_MS_MIN + 50)
    for (const wait of waits) assert.ok(wait <= 1.5 * REDIAL_MS_MAX + 50)
    assert.ok((waits.at(-1) ?? 0) >= 0.5 * REDIAL_MS_MAX)
    stop.abort()
    await kept
  })

  it('dials soon again once a peer that was there is gone, and not before', async () => {
    const { kept, stop, dialledAt, pass, leave } = setUp(() => Promise.resolve('peer'))
    await pass(REDIAL_MS_MAX)
    assert.equal(dialledAt.length, 1)
    leave()
    await pass(2 * REDIAL_MS_MIN)
    assert.equal(dialledAt.length, 2)
    stop.abort()
    leave()
    await kept
  })

  it('does not hammer a peer that has refused it', async () => {
    const fault = { code: 'NET_NOT_ADMITTED', peer: 'p', reason: 'proof-wrong', by: 'peer' } as const
    const { kept, stop, dialledAt, pass } = setUp(() => Promise.reject(new NetError(fault, 'another secret')))
    await pass(0.4 * REDIAL_MS_MAX)
    assert.equal(dialledAt.length, 1)
    await pass(1.2 * REDIAL_MS_MAX)
    assert.equal(dialledAt.length, 2)
    stop.abort()
    await kept
  })
})
