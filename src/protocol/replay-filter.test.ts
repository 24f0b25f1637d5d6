/** The replay filter: what was taken is never taken again, whatever happens to the process, its clock or its disk. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock, type Random, seededRandom, silentLogger, toHex } from '#base'
import { memoryReplayStore } from '../../test/support/session-pair.ts'
import { FRAME_AGE_MS_MAX, REPLAY_LEASE_MS } from './limits.ts'
import { ReplayFilter, replayKey } from './replay-filter.ts'

const START = 1_800_000_000_000
type Store = ReturnType<typeof memoryReplayStore>

function filterOf(clock: ManualClock, store: Store = memoryReplayStore(), framesMax?: number): ReplayFilter {
  const deps = { clock, random: seededRandom(1), store, log: silentLogger }
  return new ReplayFilter(deps, framesMax === undefined ? {} : { framesMax })
}

const keyOf = (number: number): Uint8Array =>
  replayKey({ sender: new Uint8Array(32).fill(1), session: new Uint8Array(16).fill(2), epoch: 3, sequence: number })

test('a replay key holds sender, session, epoch and sequence', () => {
  const key = replayKey({
    sender: new Uint8Array(32).fill(0xaa),
    session: new Uint8Array(16).fill(0xbb),
    epoch: 0x0102_0304,
    sequence: 0x05_0607_0809,
  })
  assert.equal(toHex(key), `${'aa'.repeat(32)}${'bb'.repeat(16)}010203040000000506070809`)
})

test('a frame is fresh once', () => {
  const clock = new ManualClock(START)
  const filter = filterOf(clock)
  assert.equal(filter.check(keyOf(1), START), 'fresh')
  assert.equal(filter.check(keyOf(1), START), 'seen')
  assert.equal(filter.check(keyOf(2), START), 'fresh')
})

test('a frame whose time is 30 s off is stale and is not remembered', () => {
  const clock = new ManualClock(START)
  const filter = filterOf(clock)
  for (const off of [-FRAME_AGE_MS_MAX, FRAME_AGE_MS_MAX]) {
    assert.equal(filter.check(keyOf(off), START + off + Math.sign(off)), 'stale')
    assert.equal(filter.check(keyOf(off), START + off), 'fresh')
  }
})

/** Frames at random times, replayed at random times, until the end of the run: none is ever taken twice. */
function attack(random: Random, clock: ManualClock, step: () => ReplayFilter): number {
  const taken: { readonly key: Uint8Array; readonly timeMs: number }[] = []
  for (let i = 0; i < 400; i++) {
    clock.advance(random.uint32() % 3000)
    const filter = step()
    const timeMs = clock.now() + (random.uint32() % (2 * FRAME_AGE_MS_MAX)) - FRAME_AGE_MS_MAX
    const key = keyOf(i)
    if (filter.check(key, timeMs) === 'fresh') taken.push({ key, timeMs })
    const replayed = taken[random.uint32() % (taken.length + 1)]
    if (replayed !== undefined) assert.notEqual(filter.check(replayed.key, replayed.timeMs), 'fresh')
  }
  for (const { key, timeMs } of taken) assert.notEqual(step().check(key, timeMs), 'fresh')
  return taken.length
}

test('nothing that was taken is taken again, however small the generations are', () => {
  for (let seed = 0; seed < 15; seed++) {
    const random = seededRandom(seed)
    const clock = new ManualClock(START)
    const filter = filterOf(clock, memoryReplayStore(), [1, 3, 10, 100, 1000][seed % 5])
    attack(random, clock, () => filter)
  }
})

test('generations that turn by time refuse no frame of the last thirty seconds', () => {
  const random = seededRandom(4)
  const clock = new ManualClock(START)
  const filter = filterOf(clock)
  for (let i = 0; i < 3000; i++) {
    clock.advance(random.uint32() % 1000)
    const lateMs = random.uint32() % FRAME_AGE_MS_MAX
    assert.equal(filter.check(keyOf(i), clock.now() - lateMs), 'fresh', `frame ${i}`)
  }
})

test('a full generation turns early, and takes only what is later than all that was forgotten', () => {
  const clock = new ManualClock(START)
  const filter = filterOf(clock, memoryReplayStore(), 10)
  for (let i = 0; i < 30; i++) {
    clock.advance(100)
    assert.equal(filter.check(keyOf(i), clock.now()), 'fresh')
  }
  // The first ten are forgotten, those behind them are known.
  assert.equal(filter.check(keyOf(5), START + 600), 'stale')
  assert.equal(filter.check(keyOf(99), START + 1000), 'stale')
  assert.equal(filter.check(keyOf(15), START + 1600), 'seen')
  assert.equal(filter.check(keyOf(99), START + 1001), 'fresh')
})

test('a process that ended in order is followed by one that knows everything', () => {
  const clock = new ManualClock(START)
  const store = memoryReplayStore()
  const before = filterOf(clock, store)
  for (let i = 0; i < 500; i++) before.check(keyOf(i), START + i)
  before.flush()
  const after = filterOf(clock, store)
  for (let i = 0; i < 500; i++) assert.equal(after.check(keyOf(i), START + i), 'seen')
  // A frame that was on its way over the restart.
  assert.equal(after.check(keyOf(1000), START - 100), 'fresh')
})

test('after a kill, what is under keys that were agreed on since is taken at once, and once', () => {
  const clock = new ManualClock(START)
  const store = memoryReplayStore()
  // Somebody whose clock is ahead has moved the horizon far beyond now.
  assert.equal(filterOf(clock, store).check(keyOf(1), START + 29_000), 'fresh')
  clock.advance(100)
  const after = filterOf(clock, store)
  const keysSinceMs = START + 100
  assert.equal(after.check(keyOf(2), START + 101), 'stale')
  assert.equal(after.check(keyOf(2), START + 99, keysSinceMs), 'stale')
  assert.equal(after.check(keyOf(2), START + 101, keysSinceMs), 'fresh')
  assert.equal(after.check(keyOf(2), START + 101, keysSinceMs), 'seen')
  after.flush()
  assert.equal(filterOf(clock, store).check(keyOf(2), START + 101), 'stale')
})

test('a process that was killed is followed by one that refuses what it may have taken', () => {
  const clock = new ManualClock(START)
  const store = memoryReplayStore()
  const killed = filterOf(clock, store)
  // From a peer whose clock is ahead: its time is in the future here.
  assert.equal(killed.check(keyOf(1), START + 20_000), 'fresh')
  clock.advance(1)
  const after = filterOf(clock, store)
  assert.equal(after.check(keyOf(1), START + 20_000), 'stale')
  assert.equal(after.check(keyOf(2), START + 20_000 + REPLAY_LEASE_MS), 'stale')
  assert.equal(after.check(keyOf(2), START + 20_000 + REPLAY_LEASE_MS + 1), 'fresh')
})

test('a kill at any moment opens no hole, flushed before or not', () => {
  for (let seed = 0; seed < 8; seed++) {
    const random = seededRandom(seed)
    const clock = new ManualClock(START)
    const store = memoryReplayStore()
    let filter = filterOf(clock, store, 50)
    const count = attack(random, clock, () => {
      const event = random.uint32() % 40
      if (event < 2) filter.flush()
      if (event === 1 || event === 2) filter = filterOf(clock, store, 50)
      return filter
    })
    assert.ok(count > 50, `seed ${seed}: only ${count} were taken`)
  }
})

test('a usual minute costs few writes, and little is written', () => {
  const clock = new ManualClock(START)
  const store = memoryReplayStore()
  const filter = filterOf(clock, store)
  for (let i = 0; i < 600; i++) {
    filter.check(keyOf(i), clock.now())
    clock.advance(100)
  }
  assert.ok(store.saves <= 1 + 60_000 / REPLAY_LEASE_MS, `${store.saves} writes`)
  assert.equal(store.state?.byteLength, 42)
  filter.flush()
  assert.ok((store.state?.byteLength ?? 0) < 100_000)
})

test('damaged state refuses what is not later than now', () => {
  const clock = new ManualClock(START)
  const store = memoryReplayStore()
  const before = filterOf(clock, store)
  before.check(keyOf(1), START)
  before.flush()
  const whole = store.state
  assert.ok(whole !== undefined)
  const random = seededRandom(2)
  const damaged = [new Uint8Array(0), whole.subarray(0, whole.byteLength - 1), random.bytes(200)]
  for (let i = 0; i < 60; i++) {
    const changed = whole.slice()
    const at = random.uint32() % changed.byteLength
    changed[at] = (changed[at] ?? 0) ^ (1 << (i & 7))
    damaged.push(changed)
  }
  for (const state of damaged) {
    store.state = state
    const after = filterOf(clock, store)
    assert.equal(after.check(keyOf(1), START), 'stale')
    assert.equal(after.check(keyOf(2), START), 'stale')
    assert.equal(after.check(keyOf(2), START + 1), 'fresh')
  }
})

test('a disk that cannot be written to is told, and frames are taken all the same', () => {
  const clock = new ManualClock(START)
  const warnings: string[] = []
  const log = { ...silentLogger, warn: (message: string) => void warnings.push(message) }
  const store = {
    load: () => undefined,
    save: () => {
      throw new Error('no space left')
    },
  }
  const filter = new ReplayFilter({ clock, random: seededRandom(1), store, log })
  assert.equal(filter.check(keyOf(1), START), 'fresh')
  assert.equal(filter.check(keyOf(2), START), 'fresh')
  assert.equal(filter.check(keyOf(1), START), 'seen')
  assert.equal(warnings.length, 1)
  assert.throws(() => filter.flush(), /no space left/)
})

test('a clock that was a year ahead deafens the node for half a minute, not for a year', () => {
  const store = memoryReplayStore()
  const ahead = new ManualClock(START + 365 * 24 * 3600 * 1000)
  filterOf(ahead, store).check(keyOf(1), ahead.now())
  const clock = new ManualClock(START)
  const filter = filterOf(clock, store)
  assert.equal(filter.check(keyOf(2), START), 'stale')
  assert.equal(filter.check(keyOf(2), START + FRAME_AGE_MS_MAX), 'stale')
  clock.advance(FRAME_AGE_MS_MAX + 1)
  assert.equal(filter.check(keyOf(2), clock.now()), 'fresh')
})

test('new frames are hardly ever taken for known ones', () => {
  const clock = new ManualClock(START)
  const filter = filterOf(clock)
  for (let i = 0; i < 40_000; i++) assert.equal(filter.check(keyOf(i), START), 'fresh', `frame ${i}`)
})
