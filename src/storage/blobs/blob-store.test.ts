import assert from 'node:assert/strict'
import {
  appendFile,
  chmod,
  link,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test, type TestContext } from 'node:test'
import { Bitfield, type Logger, ManualClock, seededRandom, silentLogger, toHex } from '#base'
import { PIECE_BYTES } from '#formats'
import { type BlobSample, blobSample, putAllHashes, writePiece } from '../../../test/support/blob-files.ts'
import { BLOB_HELD_BYTES_MAX } from '../limits.ts'
import { type BlobStoreOptions, openBlobStore } from './blob-store.ts'
import type { Blob, BlobStore } from './types.ts'

const root = await mkdtemp(join(tmpdir(), 'koinon-blob-store-'))
after(() => rm(root, { recursive: true, force: true }))

const BLOCK = 16 * 1024
const random = seededRandom(2)
const sample = await blobSample(4 * PIECE_BYTES + 3 * BLOCK + 100, random)
const other = await blobSample(2 * PIECE_BYTES, random)
const clock = new ManualClock()
let made = 0
const freshPath = (): string => join(root, `store-${made++}`)

async function storeAt(t: TestContext, options: Partial<BlobStoreOptions> = {}): Promise<BlobStore> {
  const store = await openBlobStore({ clock, random }, { directory: freshPath(), ...options })
  t.after(() => store.close())
  return store
}

async function openKnown(store: BlobStore, of: BlobSample = sample): Promise<Blob> {
  const blob = await store.open(of.name)
  putAllHashes(blob, of)
  return blob
}

type Run = [piece: number, first: number, count: number]
const writeBlocks = (blob: Blob, ...[piece, firstBlock, blockCount]: Run): ReturnType<Blob['write']> =>
  blob.write({ piece, firstBlock, blockCount }, sample.blocks(piece, firstBlock, blockCount))
const expected = (piece: number, offset: number, length: number): Uint8Array =>
  sample.bytes.slice(piece * PIECE_BYTES + offset, piece * PIECE_BYTES + offset + length)

test('blocks whose hashes are known are verified alone, read again, and make whole pieces', async t => {
  const store = await storeAt(t)
  const blob = await openKnown(store)
  assert.equal(await store.open(sample.name), blob)
  assert.equal(blob.putLeaves(0, sample.leaves(1)), false)
  assert.equal(blob.putLeaves(0, sample.leaves(0)), true)
  assert.deepEqual(await writeBlocks(blob, 0, 2, 3), { kind: 'kept', isPieceDone: false })
  assert.deepEqual([...(blob.blocksOf(0)?.numbers() ?? [])], [2, 3, 4])
  assert.deepEqual(await blob.read(0, 2 * BLOCK + 7, 2 * BLOCK), expected(0, 2 * BLOCK + 7, 2 * BLOCK))
  await assert.rejects(blob.read(0, BLOCK, 2 * BLOCK), { code: 'STORAGE_BLOB_MISSING' })
  await assert.rejects(blob.read(4, 0, PIECE_BYTES), { code: 'STORAGE_BLOB_MISSING' })
  const spoilt = sample.blocks(0, 10, 2)
  spoilt[BLOCK] = (spoilt[BLOCK] ?? 0) ^ 1
  const bad = await blob.write({ piece: 0, firstBlock: 10, blockCount: 2 }, spoilt)
  assert.deepEqual(bad, { kind: 'bad', blocks: [11] })
  const rest = await Promise.all([writeBlocks(blob, 0, 0, 2), writeBlocks(blob, 0, 5, 59)])
  assert.deepEqual(
    rest.map(r => r.kind === 'kept' && r.isPieceDone),
    [false, true],
  )
  assert.deepEqual([...blob.has.numbers()], [0])
  assert.deepEqual(await blob.leavesOf(0), sample.leaves(0))
  assert.equal(await blob.leavesOf(1), undefined)
  assert.equal(store.usage().bytes, PIECE_BYTES)
})

test('blocks whose hashes are not known are held until the piece is whole, or until the hashes come', async t => {
  const store = await storeAt(t)
  const blob = await openKnown(store)
  for (let block = 0; block < 3; block++) {
    assert.deepEqual(await writeBlocks(blob, 4, block, 1), { kind: 'kept', isPieceDone: false })
  }
  assert.equal(blob.blocksOf(4), undefined, 'not verified, so not here')
  assert.deepEqual(await writeBlocks(blob, 4, 3, 1), { kind: 'kept', isPieceDone: true })
  assert.deepEqual(await blob.leavesOf(4), sample.leaves(4))
  assert.deepEqual(await writePiece(blob, sample, 1), { kind: 'kept', isPieceDone: true })

  const lost: unknown[] = []
  blob.onHeldLost = (piece, blocks, why) => lost.push([why, piece, ...blocks])
  await writeBlocks(blob, 2, 0, 2)
  await blob.write({ piece: 2, firstBlock: 5, blockCount: 1 }, random.bytes(BLOCK))
  assert.equal(blob.putLeaves(2, sample.leaves(2)), true)
  await writeBlocks(blob, 2, 9, 1)
  assert.deepEqual([...(blob.blocksOf(2)?.numbers() ?? [])], [0, 1, 9])
  assert.deepEqual(lost, [['bad', 2, 5]])

  await blob.write({ piece: 3, firstBlock: 0, blockCount: 1 }, random.bytes(BLOCK))
  const bad = await writeBlocks(blob, 3, 1, 63)
  assert.equal(bad.kind === 'bad' && bad.blocks.length, 64)
  assert.deepEqual(await writePiece(blob, sample, 3), { kind: 'kept', isPieceDone: true })
})

test('held blocks that are to be forgotten are not mixed with what comes next', async t => {
  const store = await storeAt(t)
  const blob = await openKnown(store)
  await blob.write({ piece: 3, firstBlock: 0, blockCount: 1 }, random.bytes(BLOCK))
  blob.forgetHeld(3)
  // All others from somebody else: the piece is not whole yet, and nobody is judged by what was forgotten.
  assert.deepEqual(await writeBlocks(blob, 3, 1, 63), { kind: 'kept', isPieceDone: false })
  assert.deepEqual(await writeBlocks(blob, 3, 0, 1), { kind: 'kept', isPieceDone: true })
  const lost: unknown[] = []
  blob.onHeldLost = (piece, blocks) => lost.push([piece, ...blocks])
  await blob.write({ piece: 2, firstBlock: 5, blockCount: 1 }, random.bytes(BLOCK))
  blob.forgetHeld(2)
  assert.equal(blob.putLeaves(2, sample.leaves(2)), true)
  await writeBlocks(blob, 2, 9, 1)
  assert.deepEqual(lost, [])
})

test('nonsense is refused before anything is done', async t => {
  const store = await storeAt(t)
  const blob = await store.open(sample.name)
  const kindOf = async (run: Parameters<Blob['write']>[0], size: number): Promise<string> =>
    (await blob.write(run, new Uint8Array(size))).kind
  assert.equal(await kindOf({ piece: 0, firstBlock: 0, blockCount: 1 }, BLOCK), 'failed', 'no hash is known')
  putAllHashes(blob, sample)
  assert.equal(await kindOf({ piece: 5, firstBlock: 0, blockCount: 1 }, BLOCK), 'failed')
  assert.equal(await kindOf({ piece: 0, firstBlock: 63, blockCount: 2 }, 2 * BLOCK), 'failed')
  assert.equal(await kindOf({ piece: 0, firstBlock: 0.5, blockCount: 1 }, BLOCK), 'failed')
  assert.equal(await kindOf({ piece: 0, firstBlock: 0, blockCount: 1 }, BLOCK - 1), 'failed')
  assert.equal(await kindOf({ piece: Number.NaN, firstBlock: 0, blockCount: 1 }, BLOCK), 'failed')
  assert.equal(blob.putHashes({ first: 0, hashes: random.bytes(160), proof: new Uint8Array(0) }), false)
  await assert.rejects(store.open({ root: sample.name.root, length: 2 ** 50 }), { code: 'STORAGE_BLOB_LIMIT' })
  await assert.rejects(store.open({ root: sample.name.root, length: 0 }), { code: 'STORAGE_BLOB_LIMIT' })
})

test('what is held in memory is bounded', async t => {
  const store = await storeAt(t)
  const blob = await openKnown(store)
  const big = await blobSample(40 * PIECE_BYTES, random)
  const held = await openKnown(store, big)
  let count = 0
  for (let piece = 0; piece < 40; piece++) {
    const result = await held.write({ piece, firstBlock: 0, blockCount: 63 }, big.blocks(piece, 0, 63))
    if (result.kind === 'kept') count++
  }
  assert.equal(count, Math.floor(BLOB_HELD_BYTES_MAX / (63 * BLOCK)))
  assert.equal((await writePiece(blob, sample, 0)).kind, 'kept', 'what can be verified needs no such room')
})

test('a part of a larger buffer is copied, and buffers come back', async t => {
  const store = await storeAt(t)
  const blob = await openKnown(store)
  const large = new Uint8Array(PIECE_BYTES + 100)
  large.set(sample.blocks(0, 0, 64), 100)
  await blob.write({ piece: 0, firstBlock: 0, blockCount: 64 }, large.subarray(100))
  assert.equal(large.byteLength, PIECE_BYTES + 100, 'still its owner’s')
  const bytes = sample.blocks(1, 0, 64)
  await blob.write({ piece: 1, firstBlock: 0, blockCount: 64 }, bytes)
  assert.equal(bytes.byteLength, 0, 'handed over')
  assert.deepEqual(store.takeBuffer(PIECE_BYTES), sample.blocks(1, 0, 64))
})

test('the quota holds, and room is made of what was used the longest time ago and is not pinned', async t => {
  const store = await storeAt(t, { quotaBytes: 4 * PIECE_BYTES + BLOCK, threads: 2 })
  const blob = await openKnown(store)
  const second = await openKnown(store, other)
  for (const piece of [0, 1, 2]) assert.equal((await writePiece(blob, sample, piece)).kind, 'kept')
  await writePiece(second, other, 0)
  assert.deepEqual(await writePiece(second, other, 1), { kind: 'full' })
  await blob.read(0, 0, 10)
  const unpin = blob.pin(Bitfield.of(5, [1]))
  assert.equal(await store.makeRoom(PIECE_BYTES), true)
  assert.deepEqual([...blob.has.numbers()], [0, 1], 'piece 1 is pinned, 2 was used before 0')
  assert.equal((await writePiece(second, other, 1)).kind, 'kept')
  await assert.rejects(store.remove(toHex(blob.root)), { code: 'STORAGE_BLOB_PINNED' })
  assert.equal(await blob.drop(Bitfield.of(5, [1])), 0)
  assert.deepEqual([store.usage().pinnedBytes, await store.makeRoom(4 * PIECE_BYTES)], [PIECE_BYTES, false])
  assert.equal(store.usage().bytes, 4 * PIECE_BYTES, 'nothing goes in vain')
  unpin()
  assert.equal(await store.makeRoom(4 * PIECE_BYTES), true)
  assert.deepEqual([store.usage().bytes, blob.has.count, second.has.count], [0, 0, 0])
  assert.ok((await stat(blob.path)).blocks * 512 < 65_536)
})

test('a store that is opened again has what was in it', async t => {
  const directory = freshPath()
  const store = await storeAt(t, { directory })
  const blob = await openKnown(store)
  await writePiece(blob, sample, 3)
  blob.putLeaves(1, sample.leaves(1))
  await writeBlocks(blob, 1, 0, 5)
  const facts = store.list()
  assert.deepEqual(
    facts.map(f => [f.root, f.length, f.heldBytes, f.path, f.isAdopted]),
    [[toHex(blob.root), blob.length, PIECE_BYTES + 5 * BLOCK, blob.path, false]],
  )
  await store.close()
  await assert.rejects(blob.read(3, 0, 1), { code: 'STORAGE_BLOB_MISSING' })
  assert.equal((await writePiece(blob, sample, 0)).kind, 'failed')
  const again = await storeAt(t, { directory })
  assert.deepEqual(again.list(), facts)
  assert.equal(again.usage().bytes, PIECE_BYTES + 5 * BLOCK)
  const same = await again.open(sample.name)
  assert.equal(again.usage().bytes, PIECE_BYTES + 5 * BLOCK)
  assert.ok(same.knowsHashes(Bitfield.full(5)))
  assert.deepEqual(await same.read(3, 5, 1000), expected(3, 5, 1000))
  assert.equal((await writeBlocks(same, 1, 5, 59)).kind, 'kept')
  assert.deepEqual([...same.has.numbers()], [1, 3])
  assert.ok((await again.remove(toHex(same.root))) >= PIECE_BYTES)
  assert.deepEqual([again.list(), again.usage().bytes, await readdir(directory)], [[], 0, []])
})

test('dropping while blocks are on their way leaves neither bits nor bytes that are not there', async t => {
  const store = await storeAt(t)
  const blob = await openKnown(store)
  const writes = [0, 1, 2].map(piece => writePiece(blob, sample, piece))
  await writes[0]
  const dropping = blob.drop(Bitfield.of(5, [0]))
  const after = writePiece(blob, sample, 0)
  await Promise.all([...writes, dropping, after])
  assert.deepEqual([...blob.has.numbers()], [0, 1, 2])
  assert.deepEqual(await blob.read(0, 0, PIECE_BYTES), expected(0, 0, PIECE_BYTES))
  assert.equal(store.usage().bytes, 3 * PIECE_BYTES)
})

test('verifying finds what was changed on the disk, drops it, and can be ended', async t => {
  const store = await storeAt(t)
  const blob = await openKnown(store)
  for (const piece of [0, 1, 4]) await writePiece(blob, sample, piece)
  const data = await readFile(blob.path)
  data[PIECE_BYTES + 77] = (data[PIECE_BYTES + 77] ?? 0) ^ 1
  await writeFile(blob.path, data)
  const reason = new Error('enough')
  await assert.rejects(blob.verify({ signal: AbortSignal.abort(reason) }), reason)
  const seen: number[] = []
  const total = 2 * PIECE_BYTES + 3 * BLOCK + 100
  assert.deepEqual(await blob.verify({ onProgress: done => seen.push(done) }), {
    goodBytes: total - PIECE_BYTES,
    badPieces: [1],
  })
  assert.deepEqual(seen, [PIECE_BYTES, 2 * PIECE_BYTES, total])
  assert.deepEqual([...blob.has.numbers()], [0, 4])
  assert.equal((await writePiece(blob, sample, 1)).kind, 'kept')
})

test('a file of the user’s is served from its place, never written, and remembered', async t => {
  const directory = freshPath()
  const path = join(root, 'model-a.gguf')
  await writeFile(path, sample.bytes)
  const store = await storeAt(t, { directory })
  await writePiece(await openKnown(store), sample, 2)
  const blob = await store.adopt(path, sample.name, sample.hashed)
  assert.equal(blob.path, path)
  assert.ok(blob.has.isFull)
  assert.deepEqual(await blob.read(4, BLOCK, 100), expected(4, BLOCK, 100))
  assert.deepEqual(await blob.leavesOf(4), sample.leaves(4))
  assert.deepEqual(blob.hashesOf({ first: 0, count: 5, proofLayers: 3 })?.hashes, sample.hashed.tree.layer(0, 5))
  assert.deepEqual(await blob.drop(Bitfield.full(5)), 0)
  assert.deepEqual(await blob.verify({}), { goodBytes: blob.length, badPieces: [] })
  assert.equal(store.usage().bytes, 0, 'its bytes are not the store’s')
  assert.equal(await store.open(sample.name), blob)
  await store.close()
  const again = await storeAt(t, { directory })
  assert.deepEqual(
    again.list().map(f => [f.path, f.isAdopted]),
    [[path, true]],
  )
  const same = await again.open(sample.name)
  assert.deepEqual(await same.read(0, 3, 50), expected(0, 3, 50))
  assert.equal((await again.adopt(path, sample.name)).path, path, 'without hashing it again')
  await again.remove(toHex(same.root))
  assert.deepEqual(new Uint8Array(await readFile(path)), sample.bytes)
})

test('a file of the user’s that was edited or swapped is refused, whatever its times say', async t => {
  const edit = async (path: string): Promise<void> => {
    const { atime, mtime } = await stat(path)
    const bytes = await readFile(path)
    bytes[9] = (bytes[9] ?? 0) ^ 1
    await writeFile(path, bytes)
    await utimes(path, atime, mtime)
  }
  const swap = async (path: string): Promise<void> => {
    const { atime, mtime } = await stat(path)
    await writeFile(`${path}.new`, other.bytes)
    await utimes(`${path}.new`, atime, mtime)
    await rename(`${path}.new`, path)
  }
  for (const change of [edit, swap, (path: string) => appendFile(path, 'x')]) {
    const directory = freshPath()
    const store = await storeAt(t, { directory })
    const path = join(root, `model-${made++}.gguf`)
    await writeFile(path, sample.bytes)
    const blob = await store.adopt(path, sample.name)
    await change(path)
    await assert.rejects(blob.read(0, 0, 10), { code: 'STORAGE_FILE_CHANGED' })
    assert.ok(blob.has.isEmpty)
    await assert.rejects(store.adopt(path, sample.name), { code: 'STORAGE_FILE_CHANGED' })
    const fresh = await store.open(sample.name)
    assert.notEqual(fresh.path, path, 'it is fetched instead')
    assert.ok(fresh.has.isEmpty)
  }
  const store = await storeAt(t)
  const path = join(root, 'model-b.gguf')
  await writeFile(path, other.bytes)
  await assert.rejects(store.adopt(path, { ...sample.name, length: other.bytes.byteLength }), {
    code: 'STORAGE_FILE_CHANGED',
  })
  await assert.rejects(store.adopt(join(root, 'nowhere'), sample.name), { code: 'STORAGE_FILE' })
})

test('a file of the user’s of which only a link, its name or its rights have changed is read again, and given again', async t => {
  const said: string[] = []
  const say = (what: string): void => void said.push(what)
  const log: Logger = { ...silentLogger, warn: say, info: say }
  const directory = freshPath()
  const store = await openBlobStore({ clock, random, log }, { directory })
  t.after(() => store.close())
  const path = join(root, 'model-linked.gguf')
  await writeFile(path, sample.bytes)
  await utimes(path, 1_700_000_000, 1_700_000_000)
  const blob = await store.adopt(path, sample.name)
  const touches = [
    () => link(path, `${path}.linked`),
    () => chmod(path, 0o400),
    () => rename(path, `${path}.moved`).then(() => rename(`${path}.moved`, path)),
    () => chmod(path, 0o600),
  ]
  for (const touch of touches) {
    said.length = 0
    await touch()
    await assert.rejects(blob.read(0, 0, 10), { code: 'STORAGE_FILE_CHANGED' })
    assert.ok(blob.has.isEmpty, 'nothing is given before it was read')
    while (!blob.has.isFull) await new Promise(resolve => void setImmediate(resolve))
    assert.deepEqual(await blob.read(0, 0, 10), expected(0, 0, 10))
    assert.equal(said.length, 2, said.join('; '))
  }
  await chmod(path, 0o640)
  assert.equal(await store.open(sample.name), blob)
  assert.deepEqual(await blob.verify({}), { goodBytes: blob.length, badPieces: [] })
  assert.equal(await store.adopt(path, sample.name), blob)
  await store.close()
  const again = await storeAt(t, { directory })
  assert.ok((await again.open(sample.name)).has.isFull, 'the note says how the file is now')
  await again.close()
  // Whoever edits it and puts its time back moves the same.
  const edited = await storeAt(t, { directory })
  const last = await edited.adopt(path, sample.name)
  const bytes = await readFile(path)
  bytes[9] = (bytes[9] ?? 0) ^ 1
  await writeFile(path, bytes)
  await utimes(path, 1_700_000_000, 1_700_000_000)
  await assert.rejects(last.read(1, 0, 10), { code: 'STORAGE_FILE_CHANGED' })
  await assert.rejects(edited.adopt(path, sample.name), { code: 'STORAGE_FILE_CHANGED' })
  assert.ok(last.has.isEmpty)
})

test('a disk that cannot be used is a clear error', async t => {
  const path = join(root, 'a-file')
  await writeFile(path, '')
  await assert.rejects(openBlobStore({ clock, random }, { directory: path }), { code: 'STORAGE_BLOB_DISK' })
  const directory = freshPath()
  const store = await storeAt(t, { directory })
  await writeFile(join(directory, toHex(sample.name.root)), '')
  await assert.rejects(store.open(sample.name), { code: 'STORAGE_BLOB_DISK' })
  assert.equal((await store.open(other.name)).pieceCount, 2)
})
