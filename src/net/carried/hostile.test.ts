/** What a peer may do wrong with carriers of its own making: each is refused, and costs it more than us. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type ByteStream, concatBytes, seededRandom, systemRandom } from '#base'
import { CarriedWorld, type WorldSession } from '../../../test/support/carried-world.ts'
import { CARRIED_STARTING_MAX, CARRIED_UNKNOWN_MAX, CARRIED_WINDOW_BYTES_MAX } from '../limits.ts'
import { type CarriedFrame, CarriedReader, dataHeader, encodeCarried, type OpenFrame } from './frames.ts'

const STRANGER: WorldSession = { peer: 'stranger', direction: 'inbound', number: 9, rank: 0 }
const ID = new Uint8Array(16).fill(7)
const open = (options: Partial<OpenFrame> = {}): Uint8Array =>
  encodeCarried({ kind: 'open', id: ID, number: 0, hasHeard: false, received: 0, consumed: 0, ...options })

/** The frames that come back until the carrier ends. */
async function answers(
  world: CarriedWorld,
  carrier: ByteStream,
  isEnough = (frames: CarriedFrame[]): boolean => frames.length < 0,
): Promise<CarriedFrame[]> {
  const frames: CarriedFrame[] = []
  let isOver = false
  const read = async (): Promise<void> => {
    const reader = new CarriedReader()
    const sink = { onData: () => undefined, onFrame: (frame: CarriedFrame) => void frames.push(frame) }
    for await (const piece of carrier.received) assert.equal(reader.push(piece, sink), undefined)
  }
  read()
    .catch(() => undefined)
    .finally(() => {
      isOver = true
    })
  await world.run(() => isOver || isEnough(frames))
  return frames
}

const isReady = (frames: CarriedFrame[]): boolean => frames.some(({ kind }) => kind === 'ready')
const FAULT: CarriedFrame = { kind: 'reset', reason: 'fault' }

describe('net / carried streams / hostile', () => {
  it('a first frame that opens nothing, garbage, and lengths that cannot be are refused before memory is spent', async () => {
    const bad: Uint8Array[] = [
      encodeCarried({ kind: 'ack', consumed: 0 }),
      encodeCarried({ kind: 'fin-ack' }),
      concatBytes([dataHeader(5), new Uint8Array(5)]),
      Uint8Array.of(0, 0, 0, 0),
      Uint8Array.of(0, 0xff, 0xff, 0xff),
      Uint8Array.of(5, 0, 0, 36),
      Uint8Array.of(9, 0, 0, 0),
      Uint8Array.of(4, 0, 0, 1, 99),
      open({ received: 3, consumed: 4 }),
      open({ received: 3, consumed: 0 }),
      open().with(24, 2),
      concatBytes([open().subarray(0, 25), new Uint8Array(16).fill(255)]),
    ]
    for (const bytes of bad) {
      const world = new CarriedWorld(seededRandom(1))
      const carrier = world.rawCarrier()
      carrier.send(bytes)
      assert.deepEqual(await answers(world, carrier), [FAULT])
      assert.equal(world.faults.length, 1)
      assert.equal(world.accepted.length, 0)
    }
  })

  it('frames out of turn and offsets that cannot be end the stream', async () => {
    const opening = [open(), open(), open({ number: 5 })]
    const bad: Uint8Array[] = [
      encodeCarried({ kind: 'ack', consumed: 1 }),
      encodeCarried({ kind: 'fin', length: 1 }),
      encodeCarried({ kind: 'fin-ack' }),
      encodeCarried({ kind: 'ready', received: 0, consumed: 0 }),
      open({ number: 1 }),
      concatBytes([encodeCarried({ kind: 'fin', length: 0 }), dataHeader(1), new Uint8Array(1)]),
    ]
    for (const [i, bytes] of bad.entries()) {
      const world = new CarriedWorld(seededRandom(1))
      const carrier = world.rawCarrier()
      carrier.send(opening[i % opening.length] as Uint8Array)
      carrier.send(bytes)
      const frames = await answers(world, carrier)
      assert.deepEqual(frames.at(-1), FAULT, `frame ${i}`)
      assert.equal(world.faults.length, 1)
    }
  })

  it('more than the window takes ends the stream', async () => {
    const world = new CarriedWorld(seededRandom(1))
    const carrier = world.rawCarrier()
    carrier.send(open())
    for (let sent = 0; sent <= CARRIED_WINDOW_BYTES_MAX; sent += 2 ** 19) {
      carrier.sendParts([dataHeader(2 ** 19), new Uint8Array(2 ** 19)])
    }
    assert.deepEqual((await answers(world, carrier)).at(-1), FAULT)
    assert.deepEqual(world.faults, ['b: more data than the window takes'])
  })

  it('a resumption with offsets beyond what was sent, or below what was taken, ends the stream', async () => {
    for (const offsets of [{ received: 11 }, { received: 2 ** 50 }, { received: 5, consumed: 5, first: 9 }]) {
      const { first = 0, ...said } = offsets
      const world = new CarriedWorld(seededRandom(1))
      const carrier = world.rawCarrier()
      carrier.send(open())
      await world.run(() => world.accepted.length > 0)
      world.accepted[0]?.send(new Uint8Array(10))
      if (first > 0) carrier.send(encodeCarried({ kind: 'ack', consumed: first }))
      await answers(world, carrier, isReady)
      await world.run(() => world.carriers.every(({ there, back }) => !there.isDue && !back.isDue))
      await new Promise(resolve => setImmediate(resolve))
      const other = world.rawCarrier()
      other.send(open({ number: 1, hasHeard: true, ...said }))
      assert.deepEqual(await answers(world, other), [FAULT])
      assert.equal(world.faults.length, 1)
    }
  })

  it('the id of another peer’s stream is refused, and that stream goes on', async () => {
    const world = new CarriedWorld(seededRandom(1))
    const carrier = world.rawCarrier()
    carrier.send(open())
    await answers(world, carrier, isReady)
    for (const hasHeard of [true, false]) {
      const guess = world.rawCarrier(STRANGER)
      guess.send(open({ number: 1, hasHeard }))
      assert.deepEqual(await answers(world, guess), [FAULT])
    }
    assert.equal(world.faults.length, 2)
    const [stream] = world.accepted
    carrier.send(concatBytes([dataHeader(1), Uint8Array.of(1)]))
    const next = stream?.received[Symbol.asyncIterator]().next()
    let value: unknown
    void next?.then(taken => {
      value = taken.value
    })
    await world.run(() => value !== undefined)
    assert.deepEqual(value, Uint8Array.of(1))
  })

  it('a carrier that was given up and comes late changes nothing', async () => {
    const world = new CarriedWorld(seededRandom(1))
    for (const number of [0, 4]) {
      const carrier = world.rawCarrier()
      carrier.send(open({ number, hasHeard: number > 0 }))
      await answers(world, carrier, isReady)
    }
    const late = world.rawCarrier()
    late.send(open({ number: 3, hasHeard: true, received: 2 ** 40 }))
    assert.deepEqual(await answers(world, late), [])
    assert.deepEqual([world.faults, world.accepted.length], [[], 1])
    assert.ok(!world.carriers[1]?.isCut)
  })

  it('ids that nobody knows are refused, and too many are a fault', async () => {
    const world = new CarriedWorld(seededRandom(1))
    const session: WorldSession = { peer: 'a', direction: 'inbound', number: 3, rank: 0 }
    for (let i = 0; i <= CARRIED_UNKNOWN_MAX; i++) {
      const carrier = world.rawCarrier(session)
      carrier.send(open({ id: systemRandom.bytes(16), number: 1, hasHeard: true }))
      const reason = i < CARRIED_UNKNOWN_MAX ? 'unknown' : 'fault'
      assert.deepEqual(await answers(world, carrier, frames => frames.length > 0), [{ kind: 'reset', reason }])
    }
    assert.equal(world.faults.length, 1)
  })

  it('carriers that say nothing are few, and not for long', async () => {
    const world = new CarriedWorld(seededRandom(1))
    const session: WorldSession = { peer: 'a', direction: 'inbound', number: 3, rank: 0 }
    for (let i = 0; i < CARRIED_STARTING_MAX; i++) world.rawCarrier(session).send(Uint8Array.of(5))
    for (let i = 0; i < CARRIED_STARTING_MAX; i++) world.rawCarrier(session)
    assert.equal(world.carriers.filter(({ isCut }) => !isCut).length, CARRIED_STARTING_MAX)
    await world.run(() => world.carriers.every(({ isCut }) => isCut))
    assert.deepEqual([world.faults, world.accepted], [[], []])
  })

  it('an opener takes nothing from a listener that has not said what it has', async () => {
    for (const bytes of [
      concatBytes([dataHeader(1), new Uint8Array(1)]),
      encodeCarried({ kind: 'ready', received: 1, consumed: 0 }),
    ]) {
      const world = new CarriedWorld(seededRandom(1))
      const carriers: ByteStream[] = []
      world.onRaw = carrier => void carriers.push(carrier)
      await world.open()
      const [carrier] = carriers
      assert.ok(carrier !== undefined)
      carrier.send(bytes)
      assert.deepEqual((await answers(world, carrier)).at(-1), FAULT)
      assert.equal(world.faults.length, 1)
    }
  })

  it('random frames never do more than end their stream', async t => {
    const seed = systemRandom.uint32()
    t.diagnostic(`seed ${seed}`)
    const random = seededRandom(seed)
    const any = (): CarriedFrame => {
      const offset = random.uint32() % 3 === 0 ? 0 : random.uint32() % 50
      const frames: CarriedFrame[] = [
        { kind: 'ack', consumed: offset },
        { kind: 'fin', length: offset },
        { kind: 'fin-ack' },
        { kind: 'ready', received: offset, consumed: 0 },
        { kind: 'open', id: ID, number: random.uint32() % 4, hasHeard: offset > 9, received: offset, consumed: 0 },
      ]
      return frames[random.uint32() % frames.length] as CarriedFrame
    }
    for (let round = 0; round < 400; round++) {
      const world = new CarriedWorld(random)
      for (let i = random.uint32() % 5; i >= 0; i--) {
        const carrier = world.rawCarrier()
        if (random.uint32() % 5 > 0) carrier.send(open({ number: i }))
        for (let j = random.uint32() % 8; j > 0; j--) {
          const bytes = random.uint32() % 9 === 0 ? random.bytes(9) : encodeCarried(any())
          carrier.send(random.uint32() % 4 === 0 ? concatBytes([dataHeader(5), random.bytes(5)]) : bytes)
        }
      }
      await world.run(() => world.carriers.every(({ there }) => !there.isDue))
      for (const stream of world.accepted) stream.abort(new Error('enough'))
    }
  })
})
