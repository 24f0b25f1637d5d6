import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { assert as check, nat, property, record } from 'fast-check'
import { memorySource } from './byte-source.ts'
import { hashSource } from './model-id.ts'
import { isPieceOf, PIECE_BYTES, pieceCount } from './pieces.ts'

const LEAF = 16 * 1024

/** The tree written down once more, whole and naive, with Node's own hash: every leaf of the power of two is there. */
class PlainTree {
  readonly #levels: Buffer[][]

  constructor(bytes: Uint8Array) {
    const leaves: Buffer[] = []
    for (let at = 0; at < bytes.length; at += LEAF) leaves.push(hash(bytes.subarray(at, at + LEAF)))
    while (!Number.isInteger(Math.log2(leaves.length))) leaves.push(Buffer.alloc(32))
    this.#levels = [leaves]
    for (let level = leaves; level.length > 1; this.#levels.push(level)) {
      level = Array.from({ length: level.length / 2 }, (_, i) => hash(level[2 * i], level[2 * i + 1]))
    }
  }

  get root(): Buffer | undefined {
    return this.#levels.at(-1)?.[0]
  }

  piece(index: number): Buffer | undefined {
    return this.#levels.at(Math.min(6, this.#levels.length - 1))?.[index]
  }
}

const hash = (...parts: readonly (Uint8Array | undefined)[]): Buffer => {
  const sum = createHash('sha256')
  for (const part of parts) sum.update(part ?? new Uint8Array(0))
  return sum.digest()
}

const bytesOf = (size: number): Uint8Array =>
  Uint8Array.from({ length: size }, (_, i) => Math.imul(i + 1, 2_654_435_761) >>> 24)
const pieceOf = (bytes: Uint8Array, piece: number): Uint8Array =>
  bytes.subarray(piece * PIECE_BYTES, (piece + 1) * PIECE_BYTES)

for (const size of [1, LEAF + 1, 5 * LEAF, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES - 7, 5 * PIECE_BYTES + LEAF]) {
  test(`root, piece hashes and proofs of ${size} bytes are those of the whole tree`, async () => {
    const bytes = bytesOf(size)
    const plain = new PlainTree(bytes)
    const { tree } = await hashSource(memorySource(bytes))
    assert.deepEqual(Buffer.from(tree.root), plain.root)
    assert.equal(tree.count, pieceCount(size))
    for (let piece = 0; piece < tree.count; piece++) {
      assert.deepEqual(Buffer.from(tree.layer(piece, piece + 1)), plain.piece(piece))
      const claim = { piece, bytes: pieceOf(bytes, piece), proof: tree.proof(piece) }
      assert.ok(isPieceOf({ root: tree.root, size }, claim), `piece ${piece}`)
    }
  })
}

test('a piece that was changed, moved, cut or proved in another way is refused', async () => {
  const size = 5 * PIECE_BYTES + 100
  const bytes = bytesOf(size)
  const { tree } = await hashSource(memorySource(bytes))
  const file = { root: tree.root, size }
  const where = record({ piece: nat(5), at: nat(99), step: nat(2), hashByte: nat(31) })
  check(
    property(where, ({ piece, at, step, hashByte }) => {
      const claim = { piece, bytes: pieceOf(bytes, piece), proof: tree.proof(piece) }
      const changed = claim.bytes.slice()
      changed[at] = (changed[at] ?? 0) ^ 1
      assert.ok(!isPieceOf(file, { ...claim, bytes: changed }))
      assert.ok(!isPieceOf(file, { ...claim, piece: piece ^ 1 }))
      assert.ok(!isPieceOf(file, { ...claim, bytes: claim.bytes.subarray(1) }))
      assert.ok(!isPieceOf(file, { ...claim, proof: claim.proof.slice(1) }))
      const proof = claim.proof.map((hash, i) =>
        hash.map((byte, j) => (i === step && j === hashByte ? byte ^ 1 : byte)),
      )
      assert.ok(!isPieceOf(file, { ...claim, proof }))
    }),
    { numRuns: 20 },
  )
  for (const piece of [-1, 6, 0.5, Number.NaN]) {
    assert.ok(!isPieceOf(file, { piece, bytes: pieceOf(bytes, 0), proof: tree.proof(0) }))
  }
})
