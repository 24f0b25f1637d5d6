import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ManualClock, seededRandom, silentLogger, systemClock, toHex } from '#base'
import { generateNodeKey, peerIdOf, publicKeyOfPeer } from '#crypto'
import { createMemoryStore, solvePuzzle, verifyPuzzle } from '#kad'
import type { NodeOffer } from '#wire'
import { mayRoute, ownPuzzle } from './kad-puzzle.ts'

const OFFER: NodeOffer = { agent: '', addresses: [], memoryBytes: 0, threads: 1, weightBytesPerSecond: 0, stages: [] }
const random = seededRandom(7)
const id = peerIdOf(await generateNodeKey(random))
const outside = { id, remoteAddress: '/ip4/192.0.2.1/tcp/1' }

describe('node / id puzzles', () => {
  it('let in whom the secret has let in, and who is on this machine', () => {
    assert.equal(mayRoute({ ...outside, offer: OFFER }, true), true)
    assert.equal(mayRoute({ id, remoteAddress: '/ip4/127.0.0.1/tcp/1', offer: OFFER }, false), true)
    assert.equal(mayRoute({ ...outside, offer: OFFER }, false), false)
    assert.equal(mayRoute({ id, offer: OFFER }, false), false)
  })

  it('let in who has paid, and nobody with the coin of another', async () => {
    const publicKey = publicKeyOfPeer(id)
    assert.ok(publicKey)
    const puzzle = toHex(await solvePuzzle({ clock: systemClock, random }, publicKey))
    assert.equal(mayRoute({ ...outside, offer: { ...OFFER, puzzle } }, false), true)
    const other = peerIdOf(await generateNodeKey(random))
    assert.equal(mayRoute({ ...outside, id: other, offer: { ...OFFER, puzzle } }, false), false)
  })

  it('are solved once, and kept; what is damaged is solved again', async () => {
    const store = createMemoryStore({ clock: new ManualClock() })
    const deps = { clock: systemClock, random, log: silentLogger, store }
    const { signal } = new AbortController()
    const first = await ownPuzzle(deps, id, { signal })
    assert.equal(await ownPuzzle(deps, id, { signal }), first)
    const [entry] = store.list('own/puzzle/', 1)
    assert.ok(entry)
    store.put({ ...entry, value: new Uint8Array(8) })
    const again = await ownPuzzle(deps, id, { signal })
    const publicKey = publicKeyOfPeer(id)
    assert.ok(again !== undefined && publicKey !== undefined)
    assert.ok(
      verifyPuzzle(
        publicKey,
        Uint8Array.from(again.match(/../g) ?? [], digits => Number.parseInt(digits, 16)),
      ),
    )
  })
})
