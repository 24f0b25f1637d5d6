import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom, systemClock } from '#base'
import { publicKeyOfPeer } from '#crypto'
import { createNodeIdentity } from '#identity'
import { startKadNode } from '../../test/support/kad-nodes.ts'
import { createMemoryFabric } from '../../test/support/memory-libp2p.ts'
import { PUZZLE_BITS } from './limits.ts'
import { solvePuzzle, verifyPuzzle } from './puzzle.ts'

const BITS = 10

test('a solution holds for its key and its bits alone', async () => {
  const random = seededRandom(51)
  const key = random.bytes(32)
  const solution = await solvePuzzle({ clock: systemClock, random }, key, { bits: BITS })
  assert(verifyPuzzle(key, solution, { bits: BITS }))
  assert(verifyPuzzle(key, solution, { bits: 0 }))
  assert(!verifyPuzzle(random.bytes(32), solution, { bits: BITS }))
  assert(!verifyPuzzle(key, solution, { bits: PUZZLE_BITS + 10 }))
  assert(!verifyPuzzle(key, random.bytes(7), { bits: 0 }))
  assert(!verifyPuzzle(key, new Uint8Array(), { bits: 0 }))
})

test('a search ends with its signal', async () => {
  const controller = new AbortController()
  const random = seededRandom(52)
  const search = solvePuzzle({ clock: systemClock, random }, random.bytes(32), { bits: 40, signal: controller.signal })
  controller.abort(new Error('enough'))
  await assert.rejects(search, /enough/)
})

test('who has solved no puzzle does not enter the table', async t => {
  const fabric = createMemoryFabric()
  const random = seededRandom(53)
  const solutions = new Map<string, Uint8Array>()
  // The host takes solutions from offers; here they lie in a map.
  const mayRoute = (peer: string): boolean =>
    verifyPuzzle(publicKeyOfPeer(peer) ?? new Uint8Array(), solutions.get(peer) ?? new Uint8Array(), { bits: BITS })
  const start = async (
    host: string,
    identity = undefined as Awaited<ReturnType<typeof createNodeIdentity>> | undefined,
  ) => {
    const memory = { network: fabric, address: `/ip4/${host}/tcp/1` }
    const given = identity === undefined ? {} : { identity }
    const node = await startKadNode({ random, memory, gate: { mayRoute }, ...given })
    t.after(() => node.stop())
    return node
  }
  const [node, lazy] = [await start('198.51.1.1'), await start('198.51.2.1')]
  const identity = await createNodeIdentity(random)
  solutions.set(
    identity.peer,
    await solvePuzzle({ clock: systemClock, random }, identity.provider.publicKey, { bits: BITS }),
  )
  const diligent = await start('198.51.3.1', identity)
  await assert.rejects(node.kad.bootstrap(lazy.addresses, { rounds: 1 }), { code: 'KAD_BOOTSTRAP_FAILED' })
  assert.equal(await node.kad.bootstrap(diligent.addresses, { rounds: 1 }), 1)
})
