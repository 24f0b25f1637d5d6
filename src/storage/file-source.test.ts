import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtemp, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { hashSource, memorySource, PIECE_BYTES } from '#formats'
import { type FileStamp, openFileSource } from './file-source.ts'

const root = await mkdtemp(join(tmpdir(), 'koinon-files-'))
after(() => rm(root, { recursive: true, force: true }))
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)

test('reads any range of a file, and less only where it ends', async () => {
  const path = join(root, 'a')
  await writeFile(path, '0123456789')
  await using cleanup = new AsyncDisposableStack()
  const source = await openFileSource(path)
  cleanup.defer(() => source.close())
  assert.equal(source.size, 10)
  assert.equal(text(await source.read(0, 10)), '0123456789')
  assert.equal(text(await source.read(3, 4)), '3456')
  assert.equal(text(await source.read(8, 100)), '89')
  assert.equal(text(await source.read(20, 5)), '')
  await truncate(path, 5)
  assert.equal(text(await source.read(3, 4)), '34', 'a file that became shorter')
})

test('the stamp changes with the time of the last change, and when that was put back', async () => {
  const path = join(root, 'b')
  await writeFile(path, 'x')
  const stampAfter = async (seconds: number): Promise<FileStamp> => {
    await utimes(path, seconds, seconds)
    const source = await openFileSource(path)
    await source.close()
    await source.close()
    return source.stamp
  }
  const first = await stampAfter(1000)
  const second = await stampAfter(1001)
  assert.deepEqual([first.modifiedNs, second.modifiedNs], [1_000_000_000_000n, 1_001_000_000_000n])
  // Kernels count these times in ticks of some milliseconds: the next one has begun when another file's time is later.
  const other = join(root, 'tick')
  await writeFile(other, '')
  do await utimes(other, 1000, 1000)
  while ((await stat(other, { bigint: true })).ctimeNs <= first.changedNs)
  const back = await stampAfter(1000)
  assert.deepEqual({ ...back, changedNs: first.changedNs }, first)
  assert.ok(back.changedNs > first.changedNs, 'an edit whose time was put back is noticed')
})

test('what is no readable file is a clear error', async () => {
  await assert.rejects(openFileSource(join(root, 'missing')), { code: 'STORAGE_FILE', message: /no such file/ })
  await assert.rejects(openFileSource(root), { code: 'STORAGE_FILE' })
})

test('a named pipe is refused at once', { skip: process.platform === 'win32' }, async () => {
  const path = join(root, 'pipe')
  execFileSync('sh', ['-c', 'mkfifo "$0"', path])
  await assert.rejects(openFileSource(path), { code: 'STORAGE_FILE', message: /not a regular file/ })
})

test('a read after close is an error, not a crash', async () => {
  const path = join(root, 'c')
  await writeFile(path, 'x')
  const source = await openFileSource(path)
  await source.close()
  await assert.rejects(source.read(0, 1), { code: 'STORAGE_READ' })
})

test('hashing in threads finds what hashing in memory does, tells how far it is, and can be ended', async () => {
  const path = join(root, 'large')
  await using cleanup = new AsyncDisposableStack()
  for (const size of [1, 16_385, PIECE_BYTES, PIECE_BYTES + 1, 19 * PIECE_BYTES + 16_384 * 5 + 7]) {
    const bytes = Uint8Array.from({ length: size }, (_, at) => (at * 31 + (at >> 8)) & 0xff)
    await writeFile(path, bytes)
    const source = await openFileSource(path)
    cleanup.defer(() => source.close())
    const expected = await hashSource(memorySource(bytes))
    for (const threads of [1, 3]) {
      const seen: number[] = []
      const onProgress = (done: number, total: number): void => void seen.push(done, total)
      const { tree, leaves } = await source.hash({ threads, onProgress })
      assert.deepEqual(tree.layer(0, tree.count), expected.tree.layer(0, tree.count))
      assert.deepEqual([tree.root, tree.size, leaves], [expected.tree.root, size, expected.leaves])
      assert.deepEqual(seen.slice(-2), [size, size])
    }
  }
  const source = await openFileSource(path)
  cleanup.defer(() => source.close())
  const controller = new AbortController()
  const reason = new Error('enough')
  const onProgress = (): void => controller.abort(reason)
  await assert.rejects(source.hash({ signal: controller.signal, onProgress, threads: 1 }), reason)
  await assert.rejects(source.hash({ signal: AbortSignal.abort(reason) }), reason)
  await truncate(path, PIECE_BYTES)
  await assert.rejects(source.hash(), { code: 'FORMAT_GGUF_TRUNCATED' })
})
