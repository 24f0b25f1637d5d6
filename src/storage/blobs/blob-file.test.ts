import assert from 'node:assert/strict'
import {
  appendFileSync,
  cpSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { Bitfield, type Random, seededRandom } from '#base'
import { PIECE_BYTES, PieceHashes } from '#formats'
import { type BlobSample, blobSample } from '../../../test/support/blob-files.ts'
import { BlobFile, type BlobState } from './blob-file.ts'
import { BlockMap, maskOf } from './block-map.ts'
import { type BlobDisk, DISK } from './disk.ts'

const root = mkdtempSync(join(tmpdir(), 'koinon-blobs-'))
after(() => rmSync(root, { recursive: true, force: true }))

const BLOCK = 16 * 1024
const PIECES = 5
const random = seededRandom(1)
const sample = await blobSample(4 * PIECE_BYTES + 3 * BLOCK + 100, random)
const tag = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)
const laterTag = Uint8Array.of(8, 7, 6, 5, 4, 3, 2, 1)

let made = 0
const freshPath = (): string => join(root, `blob-${made++}`)
const openAt = (directory: string, bootTag = tag, disk: BlobDisk = DISK): BlobFile =>
  new BlobFile({ directory, name: sample.name, bootTag }, disk)

function layerOf({ name, hashed }: BlobSample): Parameters<BlobFile['putNodes']>[0] {
  const hashes = new PieceHashes(name.root, name.length)
  return hashes.put({ first: 0, hashes: hashed.tree.layer(0, hashed.tree.count), proof: new Uint8Array(0) }) ?? []
}
const runs = layerOf(sample)
const hashOf = (piece: number): Uint8Array => sample.hashed.tree.layer(piece, piece + 1)
const blocksIn = (piece: number): number => (piece === PIECES - 1 ? 4 : 64)

type Run = [piece: number, first: number, count: number]

function writeRun(file: BlobFile, ...[piece, first, count]: Run): ReturnType<BlobFile['write']> {
  const part = { firstBlock: first, bytes: sample.blocks(piece, first, count) }
  return file.write({ piece, parts: [part], pieceHash: undefined })
}

function writeWhole(file: BlobFile, piece: number): ReturnType<BlobFile['write']> {
  const part = { firstBlock: 0, bytes: sample.blocks(piece, 0, blocksIn(piece)) }
  return file.write({ piece, parts: [part], pieceHash: hashOf(piece) })
}

/** Everything that is claimed is really there. */
function assertTrue(directory: string, state: BlobState): void {
  const data = readFileSync(join(directory, 'data'))
  for (const [piece, mask] of state.blocks) {
    for (let block = 0; block < blocksIn(piece); block++) {
      if ((mask & (1n << BigInt(block))) === 0n) continue
      const start = piece * PIECE_BYTES + block * BLOCK
      const expected = sample.blocks(piece, block, 1)
      assert.ok(data.subarray(start, start + expected.byteLength).equals(expected), `block ${block} of piece ${piece}`)
    }
  }
}

const kept = (state: BlobState): Array<readonly [number, bigint]> => state.blocks.toSorted((a, b) => a[0] - b[0])

/** As a process that was killed leaves it: nothing is closed. */
function copyOf(directory: string): string {
  const copy = freshPath()
  cpSync(directory, copy, { recursive: true })
  return copy
}

test('a new blob takes no space, has the full length, and is private', () => {
  const directory = freshPath()
  openAt(directory).close()
  const stats = statSync(join(directory, 'data'))
  assert.equal(stats.size, sample.name.length)
  assert.ok(stats.blocks * 512 < PIECE_BYTES)
  if (process.platform !== 'win32') assert.equal(stats.mode & 0o777, 0o600)
})

test('only what is the file’s is stored, block by block or as a whole piece', () => {
  const directory = freshPath()
  const file = openAt(directory)
  file.putNodes(runs)
  assert.equal(writeRun(file, 0, 0, 1).kind, 'failed', 'hashes of its blocks are not known')
  file.putLeaves(0, sample.leaves(0))
  const spoilt = sample.blocks(0, 4, 4)
  spoilt[2 * BLOCK + 5] = (spoilt[2 * BLOCK + 5] ?? 0) ^ 1
  const bad = file.write({ piece: 0, parts: [{ firstBlock: 4, bytes: spoilt }], pieceHash: undefined })
  assert.deepEqual(bad, { kind: 'bad', blocks: [6] })
  assert.deepEqual(writeRun(file, 0, 4, 4), { kind: 'kept', added: maskOf(4, 4) })
  assert.deepEqual(writeRun(file, 0, 6, 4), { kind: 'kept', added: maskOf(8, 2) }, 'some are here already')
  const whole = sample.blocks(4, 0, 4)
  whole[0] = (whole[0] ?? 0) ^ 1
  const badPiece = file.write({ piece: 4, parts: [{ firstBlock: 0, bytes: whole }], pieceHash: hashOf(4) })
  assert.deepEqual(badPiece, { kind: 'bad', blocks: [0, 1, 2, 3] })
  assert.deepEqual(writeWhole(file, 4), { kind: 'kept', added: 15n })
  assert.deepEqual(file.leavesOf(4, hashOf(4)), sample.leaves(4))
  assert.ok(statSync(join(directory, 'data')).blocks * 512 < 2 * PIECE_BYTES, 'no more space than it needs')
  file.close()
})

test('what was stored is there after a kill, and nothing is hashed again', () => {
  const directory = freshPath()
  const file = openAt(directory)
  file.putNodes(runs)
  for (const piece of [1, 4]) assert.equal(writeWhole(file, piece).kind, 'kept')
  file.putLeaves(2, sample.leaves(2))
  writeRun(file, 2, 10, 20)
  const copy = copyOf(directory)
  const again = openAt(copy)
  assert.deepEqual(kept(again.state), [
    [1, maskOf(0, 64)],
    [2, maskOf(10, 20)],
    [4, 15n],
  ])
  assert.equal(again.state.rehashedBytes, 0)
  assertTrue(copy, again.state)
  assert.equal(writeRun(again, 2, 0, 10).kind, 'kept', 'the hashes of its blocks are known still')
  again.close()
  file.close()
})

test('after a loss of power only what was synced is trusted; the rest is hashed again, and dropped where it is gone', async () => {
  const directory = freshPath()
  const file = openAt(directory)
  file.putNodes(runs)
  writeWhole(file, 0)
  await file.sync()
  writeWhole(file, 1)
  writeWhole(file, 3)
  file.putLeaves(2, sample.leaves(2))
  writeRun(file, 2, 0, 2)
  const copy = copyOf(directory)
  // What was on its way to the disk did not all come there.
  const data = readFileSync(join(copy, 'data'))
  data.fill(0, 3 * PIECE_BYTES + 1000, 3 * PIECE_BYTES + 5000)
  data.fill(0, 2 * PIECE_BYTES, 2 * PIECE_BYTES + 10)
  writeFileSync(join(copy, 'data'), data)
  const again = openAt(copy, laterTag)
  assert.deepEqual(kept(again.state), [
    [0, maskOf(0, 64)],
    [1, maskOf(0, 64)],
    [2, 2n],
    [3, maskOf(1, 63)],
  ])
  assert.equal(again.state.rehashedBytes, 2 * PIECE_BYTES + 2 * BLOCK, 'what was synced is not')
  assertTrue(copy, again.state)
  again.close()
  const third = openAt(copy, tag)
  assert.equal(third.state.rehashedBytes, 0, 'closing synced it')
  third.close()
  file.close()
})

test('dropped pieces are gone, and their space is back', () => {
  for (const disk of [DISK, { ...DISK, punch: () => false }]) {
    const directory = freshPath()
    const file = openAt(directory, tag, disk)
    file.putNodes(runs)
    for (let piece = 0; piece < PIECES; piece++) writeWhole(file, piece)
    const before = statSync(join(directory, 'data')).blocks * 512
    assert.ok(before >= sample.name.length)
    const { freedBytes, isReplaced } = file.drop([0, 2, 3])
    assert.equal(isReplaced, disk !== DISK || process.platform !== 'linux')
    const now = statSync(join(directory, 'data')).blocks * 512
    assert.ok(now < 2 * PIECE_BYTES && freedBytes >= 3 * PIECE_BYTES - 65_536, `${before} ${now} ${freedBytes}`)
    assert.equal(statSync(join(directory, 'data')).size, sample.name.length)
    writeWhole(file, 3)
    const again = openAt(copyOf(directory))
    assert.deepEqual(
      kept(again.state).map(([piece]) => piece),
      [1, 3, 4],
    )
    assertTrue(directory, again.state)
    again.close()
    file.close()
  }
})

test('a journal that was cut at any byte claims nothing that is not there', () => {
  const directory = freshPath()
  const file = openAt(directory)
  file.putNodes(runs)
  writeWhole(file, 0)
  file.drop([0])
  file.putLeaves(1, sample.leaves(1))
  for (let block = 0; block < 6; block++) writeRun(file, 1, block, 1)
  writeWhole(file, 4)
  const copy = copyOf(directory)
  file.close()
  const journal = readFileSync(join(copy, 'journal'))
  const data = readFileSync(join(copy, 'data'))
  let most = 0
  // Each byte is cut at in `journal.test.ts`; here with all that opening does.
  for (let cut = 0; cut <= journal.byteLength; cut += 5) {
    writeFileSync(join(copy, 'journal'), journal.subarray(0, cut))
    writeFileSync(join(copy, 'data'), data)
    for (const name of ['hashes', 'leaves']) cpSync(join(directory, name), join(copy, name))
    const again = openAt(copy)
    assertTrue(copy, again.state)
    assert.ok(kept(again.state).every(([piece]) => piece === 1 || piece === 4))
    most = Math.max(most, again.state.blocks.length)
    again.close()
  }
  assert.equal(most, 2)
})

test('damaged files count for nothing and break nothing', () => {
  const damages: ReadonlyArray<(directory: string, chance: Random) => void> = [
    directory => truncateSync(join(directory, 'data'), PIECE_BYTES + 5),
    directory => appendFileSync(join(directory, 'data'), 'more'),
    directory => rmSync(join(directory, 'data')),
    directory => rmSync(join(directory, 'leaves')),
    directory => rmSync(join(directory, 'hashes')),
    directory => rmSync(join(directory, 'journal')),
    (directory, chance) => writeFileSync(join(directory, 'hashes'), chance.bytes(100)),
    (directory, chance) => writeFileSync(join(directory, 'leaves'), chance.bytes(9000)),
    (directory, chance) => appendFileSync(join(directory, 'journal'), chance.bytes(320)),
    (directory, chance) => writeFileSync(join(directory, 'journal'), chance.bytes(3200)),
    directory => writeFileSync(join(directory, 'journal.new'), 'left'),
  ]
  for (const [at, damage] of damages.entries()) {
    const directory = freshPath()
    const file = openAt(directory)
    file.putNodes(runs)
    for (const piece of [0, 1]) writeWhole(file, piece)
    file.putLeaves(2, sample.leaves(2))
    writeRun(file, 2, 0, 3)
    const copy = copyOf(directory)
    file.close()
    damage(copy, seededRandom(at))
    const again = openAt(copy)
    assertTrue(copy, again.state)
    again.putNodes(runs)
    assert.equal(writeWhole(again, 3).kind, 'kept')
    again.close()
    assertTrue(copy, openAt(copy).state)
  }
})

test('a file that somebody wrote to while it was closed is hashed again', () => {
  const directory = freshPath()
  const file = openAt(directory)
  file.putNodes(runs)
  for (const piece of [0, 1]) writeWhole(file, piece)
  file.close()
  const data = readFileSync(join(directory, 'data'))
  const { atime, mtime } = statSync(join(directory, 'data'))
  data[5] = (data[5] ?? 0) ^ 1
  writeFileSync(join(directory, 'data'), data)
  utimesSync(join(directory, 'data'), atime, mtime)
  const again = openAt(directory)
  assert.deepEqual(kept(again.state), [
    [0, maskOf(1, 63)],
    [1, maskOf(0, 64)],
  ])
  again.close()
})

test('checking finds a block that was changed on the disk', () => {
  const directory = freshPath()
  const file = openAt(directory)
  file.putNodes(runs)
  for (const piece of [0, 4]) writeWhole(file, piece)
  file.putLeaves(1, sample.leaves(1))
  writeRun(file, 1, 7, 1)
  assert.deepEqual(
    [0, 1, 4].map(piece => file.check(piece, hashOf(piece))),
    [PIECE_BYTES, BLOCK, 3 * BLOCK + 100],
  )
  const data = readFileSync(join(directory, 'data'))
  data[PIECE_BYTES + 7 * BLOCK] = (data[PIECE_BYTES + 7 * BLOCK] ?? 0) ^ 1
  writeFileSync(join(directory, 'data'), data)
  assert.deepEqual(
    [0, 1, 4].map(piece => file.check(piece, hashOf(piece))),
    [PIECE_BYTES, undefined, 3 * BLOCK + 100],
  )
  file.close()
})

test('on a full disk nothing half is kept, pieces can be dropped, and it goes on when there is space', () => {
  let left = Number.POSITIVE_INFINITY
  const write: BlobDisk['write'] = (handle, bytes, position) => {
    if (left <= 0) throw Object.assign(new Error('no space'), { code: 'ENOSPC' })
    const count = Math.min(bytes.byteLength, left)
    left -= count
    return writeSync(handle, bytes, 0, count, position)
  }
  for (const limit of [0, 1, 2047, 2048, 5000, 500_000, PIECE_BYTES + 2047, PIECE_BYTES + 2079, PIECE_BYTES + 2080]) {
    const directory = freshPath()
    left = Number.POSITIVE_INFINITY
    const file = openAt(directory, tag, { ...DISK, write })
    file.putNodes(runs)
    writeWhole(file, 0)
    left = limit
    const written = writeWhole(file, 1)
    assert.equal(written.kind, limit >= PIECE_BYTES + 2048 + 32 ? 'kept' : 'full', `${limit}`)
    const copy = openAt(copyOf(directory))
    assert.deepEqual(
      kept(copy.state).map(([piece]) => piece),
      written.kind === 'kept' ? [0, 1] : [0],
    )
    copy.close()
    left = 300
    file.drop([0])
    left = Number.POSITIVE_INFINITY
    assert.equal(writeWhole(file, 1).kind, 'kept')
    const copyAfter = openAt(copyOf(directory))
    assert.deepEqual(kept(copyAfter.state), [[1, maskOf(0, 64)]])
    copyAfter.close()
    file.close()
    rmSync(directory, { recursive: true })
  }
})

test('blocks whose hashes found no space are refused for want of space too', () => {
  let isFull = false
  const write: BlobDisk['write'] = (handle, bytes, position) => {
    if (isFull) throw Object.assign(new Error('no space'), { code: 'ENOSPC' })
    return writeSync(handle, bytes, 0, bytes.byteLength, position)
  }
  const file = openAt(freshPath(), tag, { ...DISK, write })
  isFull = true
  assert.deepEqual(file.putLeaves(0, sample.leaves(0)), { kind: 'full' })
  // Both were sent before either was answered.
  assert.deepEqual(writeRun(file, 0, 0, 1), { kind: 'full' })
  assert.equal(writeRun(file, 1, 0, 1).kind, 'failed', 'hashes that never came')
  isFull = false
  assert.equal(file.putLeaves(0, sample.leaves(0)), undefined)
  assert.equal(writeRun(file, 0, 0, 1).kind, 'kept')
  file.close()
})

test('a blob can be opened, and its pieces dropped, while there is no space for a second journal', () => {
  const directory = freshPath()
  const file = openAt(directory)
  file.putNodes(runs)
  for (const piece of [0, 1]) writeWhole(file, piece)
  const copy = copyOf(directory)
  file.close()
  let failures = 0
  const write: BlobDisk['write'] = (handle, bytes, position) => {
    if (failures-- > 0) throw Object.assign(new Error('no space'), { code: 'EDQUOT' })
    return writeSync(handle, bytes, 0, bytes.byteLength, position)
  }
  failures = 1
  const again = openAt(copy, tag, { ...DISK, write })
  assert.deepEqual(
    kept(again.state).map(([piece]) => piece),
    [0, 1],
  )
  failures = 1
  again.drop([0])
  const third = openAt(copyOf(copy))
  assert.deepEqual(
    kept(third.state).map(([piece]) => piece),
    [1],
  )
  third.close()
  again.close()
})

test('random writes, drops, syncs, kills and losses of power agree with a plain model', async () => {
  for (let seed = 1; seed <= 10; seed++) {
    const chance = seededRandom(seed)
    const upTo = (max: number): number => chance.uint32() % max
    let directory = freshPath()
    let file = openAt(directory)
    file.putNodes(runs)
    let model = new BlockMap(sample.name.length)
    const leaves = new Set<number>()
    for (let step = 0; step < 60; step++) {
      const piece = upTo(PIECES)
      const where = `seed ${seed}, step ${step}`
      const what = upTo(10)
      if (what < 2 && !model.has(piece)) {
        file.putLeaves(piece, sample.leaves(piece))
        leaves.add(piece)
      } else if (what < 6) {
        const first = upTo(blocksIn(piece))
        const count = 1 + upTo(blocksIn(piece) - first)
        const bytes = sample.blocks(piece, first, count)
        const spoilt = upTo(4) === 0 ? upTo(count) : undefined
        if (spoilt !== undefined) bytes[spoilt * BLOCK] = (bytes[spoilt * BLOCK] ?? 0) ^ 1
        const result = file.write({ piece, parts: [{ firstBlock: first, bytes }], pieceHash: undefined })
        if (model.whole.has(piece)) assert.deepEqual(result, { kind: 'kept', added: 0n }, where)
        else if (!leaves.has(piece)) assert.equal(result.kind, 'failed', where)
        else if (spoilt !== undefined) assert.deepEqual(result, { kind: 'bad', blocks: [first + spoilt] }, where)
        else {
          assert.deepEqual(result, { kind: 'kept', added: maskOf(first, count) & ~model.mask(piece) }, where)
          model.add(piece, maskOf(first, count))
        }
      } else if (what === 6 && !model.has(piece)) {
        assert.equal(writeWhole(file, piece).kind, 'kept', where)
        model.add(piece, model.full(piece))
      } else if (what === 7 && upTo(2) === 0) {
        const dropped = [...Bitfield.full(PIECES).numbers()].filter(() => upTo(3) === 0)
        file.drop(dropped)
        for (const gone of dropped.filter(number => model.has(number))) {
          model.remove(gone)
          leaves.delete(gone)
        }
      } else if (what === 8) await file.sync()
      else if (what === 9) {
        const copy = upTo(2) === 0 ? copyOf(directory) : undefined
        file.close()
        directory = copy ?? directory
        file = openAt(directory, upTo(3) === 0 ? laterTag : tag)
        const found = new BlockMap(sample.name.length)
        for (const [number, mask] of file.state.blocks) found.add(number, mask)
        assert.deepEqual(kept(file.state), kept(stateOf(model)), where)
        model = found
        leaves.clear()
        for (const number of model.partial.keys()) leaves.add(number)
      }
    }
    assertTrue(directory, stateOf(model))
    file.close()
  }
})

function stateOf(blocks: BlockMap): BlobState {
  const pieces = [...blocks.whole.numbers(), ...blocks.partial.keys()]
  return { nodes: new Uint8Array(0), blocks: pieces.map(piece => [piece, blocks.mask(piece)]), rehashedBytes: 0 }
}
