import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom, systemRandom } from '#base'
import type { BlobCall } from './blob-calls.ts'
import { BlobOrder, isLarge } from './blob-order.ts'

const SEED = systemRandom.uint32()
const KIB = 1024

const writeOf = (piece: number): BlobCall => ({ kind: 'write', write: { piece, parts: [], pieceHash: undefined } })
const DROP: BlobCall = { kind: 'drop', pieces: [1] }
const CLOSE: BlobCall = { kind: 'close' }
const NODES: BlobCall = { kind: 'nodes', runs: [] }

const settled = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

/** Calls that end when the test says so; `log` has when each began and ended. */
function recorded() {
  const order = new BlobOrder()
  const log: string[] = []
  const ends = new Map<string, () => void>()
  const begin = (name: string, call: BlobCall, isAside: boolean): Promise<void> => {
    const action = (): Promise<void> | undefined => {
      log.push(`${name} begins`)
      if (!isAside) return undefined
      const { promise, resolve } = Promise.withResolvers<void>()
      ends.set(name, resolve)
      return promise.then(() => void log.push(`${name} ends`))
    }
    return Promise.resolve(order.run(call, action))
  }
  return { log, begin, end: (name: string) => ends.get(name)?.() }
}

test('small writes are done at once, large ones aside', () => {
  const sized = (...sizes: number[]) => ({
    piece: 0,
    parts: sizes.map(size => ({ firstBlock: 0, bytes: new Uint8Array(size) })),
    pieceHash: undefined,
  })
  assert.deepEqual(
    [sized(16 * KIB), sized(100 * KIB, 100 * KIB), sized(1024 * KIB), sized(128 * KIB, 128 * KIB)].map(isLarge),
    [false, false, true, true],
  )
})

test('pieces are written side by side, one piece by one at a time; what drops or closes waits, and all behind it', async () => {
  const { log, begin, end } = recorded()
  const calls = [
    begin('a', writeOf(1), true),
    begin('b', writeOf(2), true),
    begin('nodes', NODES, false),
    begin('a again', writeOf(1), true),
    begin('drop', DROP, false),
    begin('later', NODES, false),
    begin('c', writeOf(3), true),
    begin('close', CLOSE, false),
  ]
  await settled()
  assert.deepEqual(log.splice(0), ['a begins', 'b begins', 'nodes begins'])
  end('a')
  await settled()
  assert.deepEqual(log.splice(0), ['a ends', 'a again begins'])
  end('b')
  await settled()
  assert.deepEqual(log.splice(0), ['b ends'])
  end('a again')
  await settled()
  assert.deepEqual(log.splice(0), ['a again ends', 'drop begins', 'later begins', 'c begins'])
  end('c')
  await Promise.all(calls)
  assert.deepEqual(log, ['c ends', 'close begins'])
})

test('one that fails fails alone', async () => {
  const { begin, end, log } = recorded()
  const order = new BlobOrder()
  await assert.rejects(Promise.resolve(order.run(writeOf(1), () => Promise.reject(new Error('no')))), /no/)
  const first = order.run(writeOf(1), () => settled())
  const failing = order.run(DROP, () => {
    throw new Error('no either')
  })
  const behind = order.run(DROP, () => 'done')
  await assert.rejects(Promise.resolve(failing), /no either/)
  assert.equal(await behind, 'done')
  await first
  assert.equal(
    order.run(DROP, () => 'at once'),
    'at once',
  )
  void begin('x', NODES, false)
  end('x')
  assert.deepEqual(log, ['x begins'])
})

test(`calls in any order never get in each other's way (seed ${SEED})`, async () => {
  const random = seededRandom(SEED)
  const below = (bound: number): number => random.uint32() % bound
  for (let round = 0; round < 200; round++) {
    const order = new BlobOrder()
    const writing = new Set<number>()
    const begun: number[] = []
    const ends: (() => void)[] = []
    const calls: Promise<unknown>[] = []
    for (let index = 0; index < 40; index++) {
      const piece = below(4)
      const isWrite = below(4) > 0
      const action = (): Promise<void> | undefined => {
        begun.push(index)
        if (!isWrite) {
          assert.equal(writing.size, 0)
          return undefined
        }
        assert.ok(!writing.has(piece))
        writing.add(piece)
        const { promise, resolve } = Promise.withResolvers<void>()
        ends.push(resolve)
        return promise.then(() => void writing.delete(piece))
      }
      calls.push(Promise.resolve(order.run(isWrite ? writeOf(piece) : DROP, action)))
      if (below(3) === 0) ends.splice(below(ends.length + 1), 1)[0]?.()
      if (below(5) === 0) await settled()
    }
    while (begun.length < calls.length || ends.length > 0) {
      ends.shift()?.()
      await settled()
    }
    await Promise.all(calls)
    assert.deepEqual(
      begun,
      begun.toSorted((a, b) => a - b),
    )
  }
})
