/** Streams over carriers that are cut anywhere: nothing is lost, nothing comes twice, and every end is said. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type ByteStream, concatBytes, type Random, seededRandom, systemRandom } from '#base'
import { CarriedWorld } from '../../../test/support/carried-world.ts'
import { CARRIED_PER_PEER_MAX, CARRIED_WINDOW_BYTES_MAX, CARRIED_WINDOW_MS } from '../limits.ts'

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
      world.onDial = () => (random.uint32() % 3 === 0 ? new Error('not now') : undefined)
      world.onCarrier = (carrier, index) => {
        if (index >= lossesMax) return
        const side = random.uint32() % 2 === 0 ? 'there' : 'back'
        carrier.cutAfter[side] = random.uint32() % 4_000
        if (random.uint32() % 5 === 0) setImmediate(() => world.part())
      }
      await exchange(world, random, 40_000)
      cuts += Math.min(world.carriers.length, lossesMax)
    }
    assert.ok(cuts > 500, `${cuts} cuts`)
  })
})
