import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { abortError, ManualClock, seededRandom, silentLogger } from '#base'
import { turns } from '../../../test/support/turns.ts'
import { type Candidate, RelayKeeper, type RelayKeeperOptions } from './keeper.ts'
import { RELAY_MOVE_REVIEWS, RELAY_RETRY_MS_MAX, RELAY_STEADY_MS } from './limits.ts'
import { PathQuality, scoreOf } from './quality.ts'
import { relayRefused } from './refusals.ts'

/** Relays that a test owns: who is there, how far, and what becomes of requests. */
class Bench {
  readonly clock = new ManualClock()
  readonly relays = new Map<string, Omit<Candidate, 'peer'>>()
  readonly rtts = new Map<string, readonly (number | undefined)[]>()
  readonly refusing = new Map<string, Error>()
  /** How to end a reservation that is held. */
  readonly ends = new Map<string, (error: Error) => void>()
  readonly asked: string[] = []
  isWanted = true
  changes = 0
  readonly keeper: RelayKeeper

  constructor(options: Partial<RelayKeeperOptions> = {}) {
    this.keeper = new RelayKeeper(
      {
        clock: this.clock,
        random: seededRandom(5),
        log: silentLogger,
        self: 'self',
        isWanted: () => this.isWanted,
        candidates: () => [...this.relays].map(([peer, facts]) => ({ peer, ...facts })),
        hold: async ({ relay, signal, onGranted }) => {
          this.asked.push(relay)
          const refusal = this.refusing.get(relay)
          if (refusal !== undefined) throw refusal
          onGranted({ session: new Uint8Array(16), addresses: [`/at/${relay}`] })
          return new Promise<never>((_, reject) => {
            this.ends.set(relay, reject)
            signal.addEventListener('abort', () => reject(abortError(signal)))
          })
        },
        probe: relay => Promise.resolve(this.rtts.get(relay) ?? []),
        onAddresses: () => this.changes++,
      },
      { count: 2, ...options },
    )
  }

  add(relay: string, rttMs: number, facts: Partial<Candidate> = {}): void {
    this.relays.set(relay, { slots: 128, slotsFree: 128, rttMs, ...facts })
    this.rtts.set(relay, [rttMs])
  }

  get held(): string[] {
    return this.keeper
      .held()
      .map(({ relay }) => relay)
      .sort()
  }

  async poke(): Promise<void> {
    this.keeper.poke()
    await turns()
  }

  async review(): Promise<void> {
    await this.keeper.review()
    await turns()
  }
}

describe('net / relay / keeper', () => {
  it('holds the nearest relays that have room, and has addresses by them while it does', async () => {
    const bench = new Bench()
    bench.add('far', 200)
    bench.add('near', 10)
    bench.add('full', 1, { slotsFree: 0 })
    bench.add('middle', 50)
    await bench.poke()
    assert.deepEqual(bench.held, ['middle', 'near'])
    assert.deepEqual(bench.keeper.addresses().sort(), [
      '/at/middle/p2p-circuit/p2p/self',
      '/at/near/p2p-circuit/p2p/self',
    ])
    assert.equal(bench.changes, 2)
    bench.isWanted = false
    await bench.poke()
    assert.deepEqual([bench.held, bench.keeper.addresses()], [[], []])
    assert.equal(bench.changes, 4)
  })

  it('takes another at once when one dies, and has no address by the dead one', async () => {
    const bench = new Bench()
    for (const [relay, rttMs] of [
      ['a', 10],
      ['b', 20],
      ['c', 30],
    ] as const)
      bench.add(relay, rttMs)
    await bench.poke()
    bench.relays.delete('a')
    bench.ends.get('a')?.(new Error('gone'))
    await turns()
    assert.deepEqual(bench.held, ['b', 'c'])
    assert.ok(bench.keeper.addresses().every(address => !address.startsWith('/at/a/')))
  })

  it('asks again later and later where it is refused, and as late as the relay says', async () => {
    const bench = new Bench({ count: 1 })
    bench.add('a', 10)
    bench.refusing.set('a', relayRefused('a', 'full'))
    await bench.poke()
    const waits: number[] = []
    for (let round = 0; round < 12; round++) {
      const { length } = bench.asked
      const from = bench.clock.monotonic()
      while (bench.asked.length === length) {
        bench.clock.advance(250)
        await bench.poke()
      }
      waits.push(bench.clock.monotonic() - from)
    }
    assert.ok((waits[0] ?? 0) <= 1_750 && (waits[3] ?? 0) >= 4_000, String(waits))
    assert.ok(waits.every(wait => wait <= RELAY_RETRY_MS_MAX + 250))
    assert.ok((waits.at(-1) ?? 0) >= RELAY_RETRY_MS_MAX / 2)
    bench.refusing.set('a', relayRefused('a', 'rate', 200_000))
    bench.clock.advance(RELAY_RETRY_MS_MAX)
    await bench.poke()
    const { length } = bench.asked
    bench.clock.advance(199_000)
    await bench.poke()
    assert.equal(bench.asked.length, length)
    bench.refusing.clear()
    bench.clock.advance(RELAY_RETRY_MS_MAX)
    await bench.poke()
    assert.deepEqual(bench.held, ['a'])
    // One that was held for a while starts from the shortest wait again.
    bench.clock.advance(RELAY_STEADY_MS)
    bench.ends.get('a')?.(new Error('gone'))
    await turns()
    bench.clock.advance(1_500)
    await bench.poke()
    assert.deepEqual(bench.held, ['a'])
  })

  it('moves to a relay that has been clearly better for a while, the new one first, and not to one that is a bit better', async () => {
    const bench = new Bench()
    bench.add('a', 100)
    bench.add('b', 110)
    await bench.poke()
    bench.add('bit', 70)
    for (let round = 0; round < 10; round++) await bench.review()
    assert.deepEqual(bench.held, ['a', 'b'])
    bench.add('near', 20)
    for (let round = 1; round < RELAY_MOVE_REVIEWS; round++) {
      await bench.review()
      assert.deepEqual(bench.held, ['a', 'b'])
    }
    let least = 2
    const count = (): void => void (least = Math.min(least, bench.keeper.addresses().length))
    const reviewing = bench.review()
    count()
    await reviewing
    count()
    assert.deepEqual(bench.held, ['a', 'near'])
    assert.equal(least, 2)
  })

  it('does not move for one good look among bad ones', async () => {
    const bench = new Bench()
    bench.add('a', 100)
    bench.add('b', 100)
    await bench.poke()
    bench.add('odd', 20)
    for (let round = 0; round < 12; round++) {
      bench.rtts.set('odd', round % 3 === 2 ? [900, 900] : [20])
      await bench.review()
    }
    assert.deepEqual(bench.held, ['a', 'b'])
  })

  it('scores delay, jitter, loss and load; the region is a hint', () => {
    const quality = (...samples: (number | undefined)[]): PathQuality => {
      const made = new PathQuality()
      for (const sample of samples) made.add(sample)
      return made
    }
    const base = { quality: quality(50, 50, 50), rttMs: undefined, load: 0, isSameRegion: false }
    const score = scoreOf(base)
    assert.equal(score, 50)
    assert.ok(scoreOf({ ...base, quality: quality(30, 50, 70) }) > score)
    assert.ok(scoreOf({ ...base, quality: quality(50, undefined, 50) }) > score)
    assert.ok(scoreOf({ ...base, load: 0.9 }) > score)
    assert.ok(scoreOf({ ...base, isSameRegion: true }) < score)
    assert.ok(scoreOf({ ...base, quality: quality(45) }) < scoreOf({ ...base, isSameRegion: true }))
    assert.ok(Number.isFinite(scoreOf({ ...base, quality: quality(undefined, undefined) })))
    const many = quality(...Array.from({ length: 100 }, () => 1_000), ...Array.from({ length: 16 }, () => 5))
    assert.equal(many.rttMs, 5)
  })
})
