import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Bitfield, concatBytes, type Random, seededRandom } from '#base'
import { sha256 } from '#crypto'
import { PieceHashes } from './piece-hashes.ts'
import { HASH_BYTES, PIECE_BYTES, PieceTree } from './pieces.ts'

const SEED = 20261122

/** A file of so many pieces, by the hashes of its pieces alone. */
function treeOf(count: number, random: Random): PieceTree {
  return new PieceTree(concatBytes(Array.from({ length: count }, () => sha256(random.bytes(8)))), count * PIECE_BYTES)
}

const upTo = (random: Random, max: number): number => random.uint32() % max

test(`hashes of pieces are taken with their proofs, given on, and kept (seed ${SEED})`, () => {
  const random = seededRandom(SEED)
  for (const count of [1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 33, 64, 100]) {
    const tree = treeOf(count, random)
    const giver = new PieceHashes(tree.root, tree.size)
    assert.ok(giver.put({ first: 0, hashes: tree.layer(0, count), proof: new Uint8Array(0) }))
    assert.ok(giver.knows(Bitfield.full(count)))
    const layers = Math.ceil(Math.log2(count))
    const taker = new PieceHashes(tree.root, tree.size)
    for (let step = 0; step < 40; step++) {
      const width = 2 ** upTo(random, layers + 1)
      const first = width * upTo(random, Math.ceil(count / width))
      const got = giver.get({ first, count: width, proofLayers: layers })
      assert.ok(got, `${count} pieces, ${width} from ${first}`)
      assert.equal(got.hashes.byteLength, width * HASH_BYTES)
      assert.equal(got.proof.byteLength, (layers - Math.log2(width)) * HASH_BYTES)
      const spoilt = { first, hashes: got.hashes.slice(), proof: got.proof.slice() }
      const target = random.uint32() % 2 === 0 && spoilt.proof.byteLength > 0 ? spoilt.proof : spoilt.hashes
      const at = upTo(random, target.byteLength)
      const isUsed = target === spoilt.hashes || taker.put({ first, ...got }) === undefined
      target[at] = (target[at] ?? 0) ^ (1 << upTo(random, 8))
      if (isUsed) assert.equal(taker.put(spoilt), undefined, 'a bit was turned')
      assert.ok(taker.put({ first, ...got }))
      const last = Math.min(count, first + width)
      for (let piece = first; piece < last; piece++) assert.deepEqual(taker.piece(piece), tree.layer(piece, piece + 1))
    }
    const kept = PieceHashes.decode({ root: tree.root, size: tree.size }, taker.encode())
    assert.deepEqual(kept.encode(), taker.encode())
    assert.equal(taker.encode().byteLength, PieceHashes.bytesFor(tree.size))
  }
})

test('what cannot be a part of the tree is refused', () => {
  const tree = treeOf(5, seededRandom(SEED))
  const hashes = new PieceHashes(tree.root, tree.size)
  const nothing = new Uint8Array(0)
  const layer = tree.layer(0, 5)
  assert.equal(hashes.put({ first: 0, hashes: nothing, proof: nothing }), undefined)
  assert.equal(hashes.put({ first: 0, hashes: layer.subarray(1), proof: nothing }), undefined)
  assert.equal(hashes.put({ first: 0, hashes: layer, proof: new Uint8Array(31) }), undefined)
  assert.equal(hashes.put({ first: 1, hashes: layer.subarray(32, 96), proof: nothing }), undefined)
  assert.equal(hashes.put({ first: 0, hashes: layer.subarray(0, 96), proof: nothing }), undefined)
  assert.equal(hashes.put({ first: -1, hashes: layer, proof: nothing }), undefined)
  assert.equal(hashes.put({ first: 8, hashes: layer, proof: nothing }), undefined)
  assert.equal(hashes.put({ first: 0, hashes: new Uint8Array(16 * HASH_BYTES), proof: nothing }), undefined)
  assert.equal(hashes.put({ first: 0, hashes: layer.subarray(0, 64), proof: nothing }), undefined, 'not proven')
  assert.equal(hashes.get({ first: 0, count: 1, proofLayers: 2 }), undefined, 'not known')
  assert.ok(hashes.put({ first: 0, hashes: layer, proof: nothing }))
  for (const range of [
    { first: 1, count: 2, proofLayers: 0 },
    { first: 0, count: 3, proofLayers: 0 },
    { first: 0, count: 0, proofLayers: 0 },
    { first: 0, count: 16, proofLayers: 0 },
    { first: Number.NaN, count: 2, proofLayers: 0 },
    { first: 0, count: 1e300, proofLayers: 0 },
    { first: 8, count: 1, proofLayers: 0 },
  ]) {
    assert.equal(hashes.get(range), undefined, JSON.stringify(range))
  }
  assert.deepEqual(hashes.get({ first: 0, count: 5, proofLayers: 9 }), { hashes: layer, proof: nothing })
})

test(`any bytes may lie where a tree was kept: nothing wrong is read from them (seed ${SEED})`, () => {
  const random = seededRandom(SEED)
  const tree = treeOf(21, random)
  const whole = new PieceHashes(tree.root, tree.size)
  whole.put({ first: 0, hashes: tree.layer(0, 21), proof: new Uint8Array(0) })
  const file = { root: tree.root, size: tree.size }
  for (let run = 0; run < 300; run++) {
    const bytes = whole.encode().subarray(0, upTo(random, PieceHashes.bytesFor(tree.size) + 1))
    for (let turns = upTo(random, 4); turns > 0 && bytes.byteLength > 0; turns--) {
      bytes[upTo(random, bytes.byteLength)] = random.uint32() & 0xff
    }
    const read = PieceHashes.decode(file, bytes)
    for (let piece = 0; piece < 21; piece++) {
      const hash = read.piece(piece)
      if (hash !== undefined) assert.deepEqual(hash, tree.layer(piece, piece + 1))
    }
  }
})
