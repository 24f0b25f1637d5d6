/** A store of blobs in memory, which can be full: for tests of what is above the disk. */
import { assert, Bitfield } from '#base'
import { equalInConstantTime } from '#crypto'
import { HASH_BYTES, LEAF_BYTES, leafHashes, PIECE_BYTES, pieceBytes, PieceHashes, pieceHashOfLeaves } from '#formats'
import type { Blob, BlobStore } from '#storage'
import type { TestModel } from './swarm-models.ts'

type WriteOutcome = Awaited<ReturnType<Blob['write']>>

export type MemoryBlob = Blob & {
  readonly bytes: Uint8Array
  /** Bytes that it takes before it is full. */
  roomBytes: number
  /** Blocks that were written, those that were there already among them. */
  writtenBlocks: number
}

export function memoryBlob(file: { readonly root: Uint8Array; readonly length: number }): MemoryBlob {
  const { root, length } = file
  const hashes = new PieceHashes(root, length)
  const pieces = hashes.count
  const data = new Uint8Array(length)
  const has = new Bitfield(pieces)
  const leavesKnown = new Map<number, Uint8Array>()
  const stored = new Map<number, Bitfield>()
  const held = new Map<number, Map<number, Uint8Array>>()
  const blocksIn = (piece: number): number => Math.ceil(pieceBytes(length, piece) / LEAF_BYTES)

  const store = (piece: number, block: number, bytes: Uint8Array): void => {
    data.set(bytes, piece * PIECE_BYTES + block * LEAF_BYTES)
    const blocks = stored.get(piece) ?? new Bitfield(blocksIn(piece))
    stored.set(piece, blocks)
    blocks.set(block)
    blob.writtenBlocks++
    blob.roomBytes -= bytes.byteLength
  }
  const settle = (piece: number): boolean => {
    if (stored.get(piece)?.isFull !== true) return has.has(piece)
    stored.delete(piece)
    has.set(piece)
    return true
  }
  /** Blocks whose hashes are not known, once all of the piece are here. */
  const settleHeld = (piece: number): WriteOutcome => {
    const blocks = held.get(piece) ?? new Map<number, Uint8Array>()
    const before = stored.get(piece)
    const all = new Uint8Array(pieceBytes(length, piece))
    for (let block = 0; block < blocksIn(piece); block++) {
      const from = piece * PIECE_BYTES + block * LEAF_BYTES
      const bytes = blocks.get(block) ?? (before?.has(block) === true ? data.slice(from, from + LEAF_BYTES) : undefined)
      if (bytes === undefined) return { kind: 'kept', isPieceDone: false }
      all.set(bytes.subarray(0, all.byteLength - block * LEAF_BYTES), block * LEAF_BYTES)
    }
    held.delete(piece)
    const leaves = leafHashes(all)
    if (!blob.putLeaves(piece, leaves)) return { kind: 'bad', blocks: [...blocks.keys()] }
    for (const [block, bytes] of blocks) store(piece, block, bytes)
    return { kind: 'kept', isPieceDone: settle(piece) }
  }

  const blob: MemoryBlob = {
    root,
    length,
    pieceCount: pieces,
    path: '/nowhere',
    has,
    bytes: data,
    roomBytes: Number.POSITIVE_INFINITY,
    writtenBlocks: 0,
    onHeldLost: undefined,
    forgetHeld: piece => void held.delete(piece),
    blocksOf: piece => stored.get(piece),
    knowsHashes: wanted => hashes.knows(wanted),
    putHashes: given => hashes.put(given) !== undefined,
    hashesOf: range => hashes.get(range),
    putLeaves: (piece, leaves) => {
      const known = hashes.piece(piece)
      if (known === undefined || leaves.byteLength !== blocksIn(piece) * HASH_BYTES) return false
      if (!equalInConstantTime(pieceHashOfLeaves(leaves, length), known)) return false
      leavesKnown.set(piece, leaves.slice())
      const before = [...(held.get(piece) ?? [])]
      held.delete(piece)
      for (const [block, bytes] of before) {
        const leaf = leaves.subarray(block * HASH_BYTES, (block + 1) * HASH_BYTES)
        if (equalInConstantTime(leafHashes(bytes), leaf)) store(piece, block, bytes)
        else queueMicrotask(() => blob.onHeldLost?.(piece, [block], 'bad'))
      }
      return true
    },
    leavesOf: async piece => leavesKnown.get(piece),
    write: async ({ piece, firstBlock, blockCount }, bytes) => {
      await Promise.resolve()
      assert(bytes.byteLength > (blockCount - 1) * LEAF_BYTES, 'bytes of all blocks')
      if (blob.roomBytes < bytes.byteLength) return { kind: 'full' }
      if (has.has(piece)) return { kind: 'kept', isPieceDone: true }
      const leaves = leavesKnown.get(piece)
      const parts = Array.from({ length: blockCount }, (_, at) => bytes.slice(at * LEAF_BYTES, (at + 1) * LEAF_BYTES))
      if (leaves === undefined) {
        const blocks = held.get(piece) ?? new Map<number, Uint8Array>()
        held.set(piece, blocks)
        for (const [at, part] of parts.entries()) blocks.set(firstBlock + at, part)
        return settleHeld(piece)
      }
      const isGood = (part: Uint8Array, at: number): boolean => {
        const block = firstBlock + at
        return equalInConstantTime(leafHashes(part), leaves.subarray(block * HASH_BYTES, (block + 1) * HASH_BYTES))
      }
      const bad = parts.flatMap((part, at) => (isGood(part, at) ? [] : [firstBlock + at]))
      if (bad.length > 0) return { kind: 'bad', blocks: bad }
      for (const [at, part] of parts.entries()) store(piece, firstBlock + at, part)
      return { kind: 'kept', isPieceDone: settle(piece) }
    },
    read: async (piece, offset, count) => {
      const from = piece * PIECE_BYTES + offset
      return data.slice(from, from + count)
    },
    pin: () => () => undefined,
    drop: () => Promise.resolve(0),
    verify: () => Promise.resolve({ goodBytes: 0, badPieces: [] }),
  }
  return blob
}

/** The blob of a model of which all is here, or these pieces of its file. */
export function fullBlob(model: TestModel, pieces?: Iterable<number>): MemoryBlob {
  const blob = memoryBlob({ root: model.root, length: model.bytes.byteLength })
  const { tree, leaves } = model.hashed
  blob.putHashes({ first: 0, hashes: tree.layer(0, tree.count), proof: new Uint8Array(0) })
  for (const piece of pieces ?? Array.from({ length: tree.count }, (_, at) => at)) {
    const from = (piece * PIECE_BYTES * HASH_BYTES) / LEAF_BYTES
    const count = Math.ceil(pieceBytes(model.bytes.byteLength, piece) / LEAF_BYTES)
    blob.putLeaves(piece, leaves.slice(from, from + count * HASH_BYTES))
    const bytes = model.bytes.subarray(piece * PIECE_BYTES, (piece + 1) * PIECE_BYTES)
    blob.bytes.set(bytes, piece * PIECE_BYTES)
    blob.has.set(piece)
  }
  return blob
}

export function memoryBlobs(): Pick<BlobStore, 'open' | 'makeRoom' | 'takeBuffer'> & {
  readonly all: Map<string, MemoryBlob>
} {
  const all = new Map<string, MemoryBlob>()
  return {
    all,
    open: async file => {
      const key = Buffer.from(file.root).toString('hex')
      const blob = all.get(key) ?? memoryBlob(file)
      all.set(key, blob)
      return blob
    },
    makeRoom: () => Promise.resolve(false),
    takeBuffer: length => new Uint8Array(length),
  }
}
