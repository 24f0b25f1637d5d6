import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ManualClock, seededRandom } from '#base'
import { generateNodeKey, peerIdOf } from '#crypto'
import { Introductions } from './introductions.ts'
import { INTRODUCTION_DIALS_MAX, INTRODUCTION_WAIT_MS, INTRODUCTIONS_MAX } from './limits.ts'

const random = seededRandom(3)
const IDS: string[] = []
for (let i = 0; i < 2 * INTRODUCTIONS_MAX; i++) IDS.push(peerIdOf(await generateNodeKey(random)))

function known(...ids: (string | undefined)[]) {
  return ids.filter(id => id !== undefined).map(id => ({ id, addresses: [`/ip4/192.0.2.1/tcp/1/p2p/${id}`] }))
}

/** Introductions whose dials end when the test says so. */
function setUp() {
  const clock = new ManualClock()
  const here = new Set<string>()
  const resting = new Set<string>()
  const dials: { readonly id: string; readonly end: (isReached: boolean) => Promise<void> }[] = []
  const introductions = new Introductions({
    clock,
    random: seededRandom(1),
    isUnwanted: id => here.has(id) || resting.has(id),
    connect: id =>
      new Promise((resolve, reject) => {
        const end = (isReached: boolean): Promise<void> => {
          if (isReached) here.add(id)
          if (isReached) resolve(undefined)
          else reject(new Error('nobody there'))
          return new Promise(done => setImmediate(done))
        }
        dials.push({ id, end })
      }),
  })
  return { clock, here, resting, dials, introductions, dialled: () => dials.map(dial => dial.id) }
}

describe('net / introductions', () => {
  it('dials a few at a time, each once', async () => {
    const { dials, dialled, introductions } = setUp()
    const ids = IDS.slice(0, INTRODUCTION_DIALS_MAX + 1)
    introductions.add(known(...ids, ...ids), { isNews: false })
    introductions.add(known(...ids), { isNews: false })
    assert.deepEqual(dialled(), ids.slice(0, INTRODUCTION_DIALS_MAX))
    await dials[0]?.end(true)
    assert.deepEqual(dialled(), ids)
  })

  it('gives a newcomer the time to dial us, and then does not dial it', () => {
    const { clock, here, dialled, introductions } = setUp()
    const [first, second] = IDS
    assert.equal(introductions.hasWaiting, false)
    introductions.add(known(first, second), { isNews: true })
    assert.deepEqual(dialled(), [])
    assert.equal(introductions.hasWaiting, true)
    here.add(first ?? '')
    clock.advance(2 * INTRODUCTION_WAIT_MS)
    assert.deepEqual(dialled(), [second])
    assert.equal(introductions.hasWaiting, false)
  })

  it('leaves alone who rests, and dials it again when it is told of it later', async () => {
    const { resting, dials, dialled, introductions } = setUp()
    const [id] = IDS
    introductions.add(known(id), { isNews: false })
    resting.add(id ?? '')
    await dials[0]?.end(false)
    introductions.add(known(id), { isNews: false })
    assert.deepEqual(dialled(), [id])
    resting.clear()
    introductions.add(known(id), { isNews: false })
    assert.deepEqual(dialled(), [id, id])
  })

  it('remembers no more than its bound, and nobody without an address of its own', async () => {
    const { dials, dialled, introductions } = setUp()
    introductions.add([{ id: IDS[0] ?? '', addresses: [`/ip4/192.0.2.1/tcp/1/p2p/${IDS[1]}`, 'x'] }], { isNews: false })
    assert.deepEqual(dialled(), [])
    introductions.add(known(...IDS), { isNews: false })
    for (let i = 0; i < dials.length; i++) await dials[i]?.end(true)
    assert.equal(dials.length, INTRODUCTIONS_MAX)
  })

  it('dials addresses that have come up while it dials others, and those once', async () => {
    const { dials, dialled, introductions } = setUp()
    const [id = ''] = IDS
    const circuit = [{ id, addresses: [`/ip4/192.0.2.1/tcp/1/p2p/${id}`, `/ip4/192.0.2.2/tcp/2/p2p/${id}`] }]
    introductions.add(known(id), { isNews: false })
    introductions.add(known(id), { isNews: false })
    assert.deepEqual(dialled(), [id])
    introductions.add(circuit, { isNews: false })
    introductions.add(circuit, { isNews: false })
    assert.deepEqual(dialled(), [id, id])
    await dials[1]?.end(true)
    await dials[0]?.end(false)
    introductions.add(circuit, { isNews: false })
    assert.deepEqual(dialled(), [id, id])
  })
})
