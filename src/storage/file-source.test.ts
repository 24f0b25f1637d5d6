import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtemp, rm, truncate, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { openFileSource } from './file-source.ts'

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

test('the stamp changes with the time of the last change', async () => {
  const path = join(root, 'b')
  await writeFile(path, 'x')
  const stampAfter = async (seconds: number): Promise<unknown> => {
    await utimes(path, seconds, seconds)
    const source = await openFileSource(path)
    await source.close()
    await source.close()
    return source.stamp
  }
  assert.deepEqual(await stampAfter(1000), { path, size: 1, modifiedNs: 1_000_000_000_000n })
  assert.deepEqual(await stampAfter(1001), { path, size: 1, modifiedNs: 1_001_000_000_000n })
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
