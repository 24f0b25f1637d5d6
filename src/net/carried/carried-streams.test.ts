/** Streams over carriers that are cut anywhere: nothing is lost, nothing comes twice, and every end is said. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type ByteStream, concatBytes, type Random, seededRandom, StreamError, systemRandom } from '#base'
import { CarriedWorld } from '../../../test/support/carried-world.ts'
import { resting } from '../errors.ts'
import { CARRIED_WINDOW_BYTES_MAX, CARRIED_WINDOW_MS } from '../limits.ts'
import { refusalError } from '../refusals.ts'

/** Dials and carriers in a row that come to nothing, of a stream that must survive. */
const BAD_LUCK_MAX = 5
/** A carrier that has carried so much has resumed its stream. */
const RESUMPTION_BYTES = 100

type Outcome = { bytes: Uint8Array[]; error?: unknown; isDone: boolean }

/** Reads to the end. */
function reading(stream: ByteStream): Outcome {
  const outcome: Outcome = { bytes: [], isDone: false }
  const read = async (): Promise<void> => {
    for await (const piece of stream.received) outcome.bytes.push(piece.slice())
  }
  read()
    .catch((error: unknown) => {
      outcome.error = error
    })
    .finally(() => {
      outcome.isDone = true
    })
  return outcome
}

function settled(promise: Promise<unknown>): { error?: unknown; isDone: boolean } {
  const state: { error?: unknown; isDone: boolean } = { isDone: false }
  promise
    .catch((error: unknown) => {
      state.error = error
    })
    .finally(() => {
      state.isDone = true
    })
  return state
}

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

/** Sends in pieces as a user does who keeps to what the stream says of room. */
async function sendAll(stream: ByteStream, bytes: Uint8Array, random: Random): Promise<void> {
  for (let at = 0; at < bytes.byteLength; ) {
    const size = 1 + (random.uint32() % (random.uint32() % 3 === 0 ? 900 : 30))
    const half = Math.floor(size / 2)
    const parts = [bytes.subarray(at, at + half), bytes.subarray(at + half, at + size)]
    if (!(random.uint32() % 2 === 0 ? stream.sendParts(parts) : stream.send(concatBytes(parts)))) await stream.drained()
    at += size
    if (random.uint32() % 4 === 0) await Promise.resolve()
  }
  await stream.close()
}

/** Both sides send and close; says whether all of it has come, in order and once. */
async function exchange(world: CarriedWorld, random: Random, bytesMax: number): Promise<void> {
  const [forth, back] = [random.bytes(random.uint32() % bytesMax), random.bytes(random.uint32() % bytesMax)]
  const near = await world.open()
  const ends = [reading(near), settled(sendAll(near, forth, random))]
  await world.run(() => world.accepted.length > 0)
  const far = world.accepted[0] as ByteStream
  ends.push(reading(far), settled(sendAll(far, back, random)))
  await world.run(() => ends.every(({ isDone }) => isDone))
  assert.deepEqual(
    ends.map(({ error }) => error),
    [undefined, undefined, undefined, undefined],
  )
  assert.ok(same(concatBytes((ends[2] as Outcome).bytes), forth), 'what the opener sent')
  assert.ok(same(concatBytes((ends[0] as Outcome).bytes), back), 'what the listener sent')
  assert.equal(world.accepted.length, 1, 'one stream')
  assert.deepEqual(world.faults, [])
}

describe('net / carried streams', () => {
  it('carry both directions and both ends over one carrier', async () => {
    const random = seededRandom(7)
    const world = new CarriedWorld(random)
    await exchange(world, random, 20_000)
    assert.equal(world.carriers.length, 1)
  })

  it('survive a cut at every byte of either direction, and another at the resumption', async () => {
    let cuts = 0
    for (const side of ['there', 'back'] as const) {
      for (let at = 0; at < 160; at++) {
        for (const second of [Number.POSITIVE_INFINITY, 0, 3, 15, 20, 21, 40, 41, 42, 60]) {
          const random = seededRandom(at)
          const world = new CarriedWorld(random)
          world.onCarrier = (carrier, index) => {
            if (index === 0) carrier.cutAfter[side] = at
            if (index === 1) carrier.cutAfter[side === 'there' ? 'back' : 'there'] = second
          }
          await exchange(world, random, 60)
          cuts += world.carriers.filter(({ isCut }) => isCut).length
        }
      }
    }
    assert.ok(cuts > 2_000, `${cuts} cuts`)
  })

  it('survive cuts at random again and again, with sessions that end and dials that fail', async t => {
    const seed = systemRandom.uint32()
    t.diagnostic(`seed ${seed}`)
    let cuts = 0
    for (let round = 0; round < 150; round++) {
      const random = seededRandom(seed + round)
      const world = new CarriedWorld(random)
      const lossesMax = random.uint32() % 20
      // Bad luck again and again would last longer than a stream waits, which is no fault of its own.
      let badLuck = 0
      const isUnlucky = (oneIn: number): boolean => {
        badLuck = random.uint32() % oneIn === 0 && badLuck < BAD_LUCK_MAX ? badLuck + 1 : 0
        return badLuck > 0
      }
      world.onDial = () => (isUnlucky(3) ? new Error('not now') : undefined)
      world.onCarrier = (carrier, index) => {
        if (index >= lossesMax) return
        const side = random.uint32() % 2 === 0 ? 'there' : 'back'
        const isAtOnce = isUnlucky(5)
        carrier.cutAfter[side] = (isAtOnce ? 0 : RESUMPTION_BYTES) + (random.uint32() % 4_000)
        if (isAtOnce) setImmediate(() => world.part())
      }
      await exchange(world, random, 40_000)
      cuts += Math.min(world.carriers.length, lossesMax)
    }
    assert.ok(cuts > 500, `${cuts} cuts`)
  })

  it('are told how they ended, although the session was lost with the last word', async () => {
    for (const seed of [3898, 3899, 3900, 3901]) {
      for (let at = 0; at < 60; at++) {
        const random = seededRandom(seed)
        const world = new CarriedWorld(random)
        const near = await world.open()
        const ends = [settled(near.close()), reading(near)]
        const carrier = world.carriers[0]
        if (carrier !== undefined) carrier.cutAfter.back = at
        await world.run(() => world.accepted.length > 0)
        const far = world.accepted[0] as ByteStream
        ends.push(settled(far.close()), reading(far))
        await world.run(() => carrier?.isCut === true || ends.every(({ isDone }) => isDone))
        world.part()
        await world.run(() => ends.every(({ isDone }) => isDone))
        assert.deepEqual(
          ends.map(({ error }) => error),
          [undefined, undefined, undefined, undefined],
          `cut after ${at} bytes`,
        )
      }
    }
  })

  it('move to a better path in the middle, and what was on its way comes once', async () => {
    for (let seed = 0; seed < 40; seed++) {
      const random = seededRandom(seed)
      const world = new CarriedWorld(random, { rank: 1 })
      const bytes = random.bytes(30_000)
      const near = await world.open()
      const ends = [settled(sendAll(near, bytes, random)), reading(near)]
      await world.run(() => world.accepted.length > 0 && (world.carriers[0]?.there.deliveredBytes ?? 0) > seed * 700)
      const far = world.accepted[0] as ByteStream
      ends.push(settled(sendAll(far, bytes, random)), reading(far))
      world.join(0)
      await world.run(() => ends.every(({ isDone }) => isDone))
      assert.ok(
        same(concatBytes((ends[1] as Outcome).bytes), bytes) && same(concatBytes((ends[3] as Outcome).bytes), bytes),
      )
      assert.equal(world.carriers.length, 2)
      assert.ok(world.carriers[0]?.isCut)
    }
  })

  it('stop their writer where nobody reads, and hold no more than the window', async () => {
    const random = seededRandom(1)
    const world = new CarriedWorld(random)
    const near = await world.open()
    const piece = new Uint8Array(64 * 1024)
    let sent = 0
    let drained = settled(near.drained())
    // Until it stays full, although everything that was sent has crossed the carrier.
    while (drained.isDone || world.carriers.some(({ there }) => there.isDue)) {
      await world.run(() => drained.isDone || world.carriers.every(({ there }) => !there.isDue))
      await new Promise(resolve => setImmediate(resolve))
      if (!drained.isDone) continue
      near.send(piece)
      sent += piece.byteLength
      drained = settled(near.drained())
      await new Promise(resolve => setImmediate(resolve))
    }
    assert.equal(sent, CARRIED_WINDOW_BYTES_MAX)
    assert.ok(!drained.isDone, 'nobody has read')
    // A reader that comes late finds all of it, also over another carrier.
    world.carriers[0]?.cut()
    const far = world.accepted[0] as ByteStream
    const pieces = far.received[Symbol.asyncIterator]()
    for (let taken = 0; taken < sent; ) {
      const next = settled(pieces.next().then(({ value }) => (taken += value?.byteLength ?? 0)))
      await world.run(() => next.isDone)
    }
    await world.run(() => drained.isDone)
    assert.equal(drained.error, undefined)
    assert.throws(() => {
      for (let i = 0; i < 1_000; i++) near.send(piece)
    }, /reset/)
  })

  it('hold many small pieces as few', async () => {
    const random = seededRandom(1)
    const world = new CarriedWorld(random)
    const near = await world.open()
    for (let i = 0; i < 20_000; i++) near.send(Uint8Array.of(i, i >> 8))
    const closed = settled(near.close())
    await world.run(() => closed.isDone)
    const far = reading(world.accepted[0] as ByteStream)
    await world.run(() => far.isDone)
    assert.ok(far.bytes.length < 3_000, `${far.bytes.length} pieces`)
    const whole = concatBytes(far.bytes)
    assert.ok(Array.from({ length: 20_000 }, (_, i) => whole[2 * i] === (i & 255)).every(Boolean))
  })

  it('end at once where one side aborts, whenever that is, and the other side hears of it', async () => {
    for (const side of ['near', 'far'] as const) {
      for (let seed = 0; seed < 60; seed++) {
        const random = seededRandom(seed)
        const world = new CarriedWorld(random)
        const near = await world.open()
        const ends = [settled(sendAll(near, random.bytes(3_000), random)), reading(near)]
        await world.run(() => world.accepted.length > 0)
        const far = world.accepted[0] as ByteStream
        ends.push(reading(far))
        let steps = seed
        await world.run(() => steps-- <= 0 || ends.every(({ isDone }) => isDone))
        if (seed % 3 === 0) world.carriers[0]?.cut()
        const [one, other] = side === 'near' ? [near, far] : [far, near]
        one.abort(new Error('enough'))
        assert.throws(() => one.send(Uint8Array.of(1)))
        const heard = settled(
          other.received[Symbol.asyncIterator]()
            .next()
            .catch(() => other.drained()),
        )
        await world.run(() => ends.every(({ isDone }) => isDone))
        assert.deepEqual(world.faults, [])
        assert.ok(ends.every(({ error }) => error === undefined || error instanceof StreamError))
        await world.run(() => heard.isDone)
      }
    }
  })

  it('are lost for both where no carrier comes in time, and then the peer is gone', async () => {
    const world = new CarriedWorld(seededRandom(1))
    const near = await world.open()
    await world.run(() => world.accepted.length > 0)
    const ends = [reading(near), reading(world.accepted[0] as ByteStream)]
    world.onDial = () => new Error('no way')
    const before = world.clock.monotonic()
    world.part()
    assert.deepEqual(world.gone, [])
    await world.run(() => ends.every(({ isDone }) => isDone))
    assert.deepEqual(
      ends.map(({ error }) => (error as { code?: string }).code),
      ['STREAM_LOST', 'STREAM_LOST'],
    )
    assert.ok(world.clock.monotonic() - before >= CARRIED_WINDOW_MS)
    assert.deepEqual(new Set(world.gone), new Set(['a: b', 'b: a']))
  })

  it('are lost sooner where every dial is refused, and at once where one side has parted', async () => {
    const refused = Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })
    for (const isFinal of [false, true]) {
      const world = new CarriedWorld(seededRandom(1))
      const near = await world.open()
      await world.run(() => world.accepted.length > 0)
      const end = reading(near)
      world.onDial = () => new Error('a dial failed', { cause: refused })
      const before = world.clock.monotonic()
      world.part({ isFinal })
      await world.run(() => end.isDone)
      const passedMs = world.clock.monotonic() - before
      assert.ok(isFinal ? passedMs === 0 : passedMs < CARRIED_WINDOW_MS / 2, `${passedMs} ms`)
      assert.equal((end.error as { code?: string }).code, isFinal ? 'STREAM_RESET' : 'STREAM_LOST')
      await world.run(() => world.gone.length === 2)
    }
  })

  it('are lost as soon where the peer is left alone after some dials that were refused', async () => {
    const refused = Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })
    for (const isRefused of [true, false]) {
      const world = new CarriedWorld(seededRandom(1))
      const near = await world.open()
      await world.run(() => world.accepted.length > 0)
      const end = reading(near)
      // What the circuit breaker of the peer makes of it: one side dials, the other waits its turn.
      const failure = new Error('a dial failed', isRefused ? { cause: refused } : {})
      world.onDial = () => (world.dials <= 5 ? failure : resting('b', 30_000))
      const before = world.clock.monotonic()
      world.part()
      await world.run(() => end.isDone)
      const passedMs = world.clock.monotonic() - before
      assert.equal(passedMs < CARRIED_WINDOW_MS / 2, isRefused, `${passedMs} ms`)
      assert.equal((end.error as { code?: string }).code, 'STREAM_LOST')
    }
  })

  it('end at once where the peer wants no other connection, and go on after one that came to nothing in time', async () => {
    for (const reason of ['banned', 'slow'] as const) {
      const world = new CarriedWorld(seededRandom(1))
      const near = await world.open()
      await world.run(() => world.accepted.length > 0)
      const end = settled((world.accepted[0] as ByteStream).received[Symbol.asyncIterator]().next())
      world.onDial = () => (world.dials === 1 ? refusalError('b', { reason, by: 'us' }) : undefined)
      const sent = settled(near.drained())
      world.part()
      near.send(Uint8Array.of(1))
      await world.run(() => end.isDone && sent.isDone)
      assert.equal(end.error === undefined, reason === 'slow', reason)
    }
  })

  it('end at once where the peer has started again and knows nothing of them', async () => {
    const world = new CarriedWorld(seededRandom(1))
    const near = await world.open()
    const end = reading(near)
    await world.run(() => world.accepted.length > 0 && world.carriers.every(({ back }) => !back.isDue))
    await new Promise(resolve => setImmediate(resolve))
    world.restartB()
    await world.run(() => end.isDone)
    assert.equal((end.error as { code?: string }).code, 'STREAM_LOST')
    assert.deepEqual([world.faults, world.accepted.length], [[], 1])
    assert.ok(world.clock.monotonic() < 1_000 + CARRIED_WINDOW_MS / 2)
  })

  it('go on where one side alone has noticed that the connection is dead, and dials again', async () => {
    const world = new CarriedWorld(seededRandom(1))
    const near = await world.open()
    await world.run(() => world.accepted.length > 0 && world.carriers.every(({ back }) => !back.isDue))
    await new Promise(resolve => setImmediate(resolve))
    const [carrier] = world.carriers
    assert.ok(carrier !== undefined)
    for (const pipe of [carrier.there, carrier.back]) pipe.isSilent = true
    near.send(Uint8Array.of(1, 2))
    const next = (world.accepted[0] as ByteStream).received[Symbol.asyncIterator]().next()
    const taken = settled(next)
    world.b.sessions = []
    world.b.streams.peerLeft('a', { isFinal: false, direction: 'inbound' })
    await world.run(() => taken.isDone)
    assert.deepEqual((await next).value, Uint8Array.of(1, 2))
    assert.deepEqual([world.gone, world.carriers.length], [[], 2])
  })
})
