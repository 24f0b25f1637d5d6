import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, test } from 'node:test'
import { ManualClock, seededRandom } from '#base'
import { defaultDataDir, openDataDir } from './data-dir.ts'
import { MODEL_ID_CACHE_MAX } from './limits.ts'
import { findSocket } from './socket-path.ts'

const isWindows = process.platform === 'win32'
const root = await mkdtemp(join(tmpdir(), 'koinon-storage-'))
after(() => rm(root, { recursive: true, force: true }))

let count = 0
const freshPath = (): string => join(root, `data-${count++}`)
const deps = { clock: new ManualClock(), random: seededRandom(1) }
const modeOf = async (path: string): Promise<number> => (await stat(path)).mode & 0o777

test('a new data directory and its key are private, and the key stays the same', { skip: isWindows }, async () => {
  const path = freshPath()
  const first = await openDataDir(path, deps)
  const { peer } = await first.keys.loadOrCreate()
  assert.equal(await modeOf(path), 0o700)
  assert.equal(await modeOf(join(path, 'keys')), 0o700)
  assert.equal(await modeOf(join(path, 'keys', 'node.key')), 0o600)
  await first.close()
  const second = await openDataDir(path, deps)
  assert.equal((await second.keys.loadOrCreate()).peer, peer)
  await second.close()
})

test('a second node on the same data directory is refused and told who holds it', async () => {
  const path = freshPath()
  const first = await openDataDir(path, deps)
  await assert.rejects(openDataDir(path, deps), (error: Error & { fault?: unknown }) => {
    assert.deepEqual(error.fault, { code: 'STORAGE_LOCKED', path: first.path, pid: process.pid })
    assert.match(error.message, new RegExp(String(process.pid)))
    return true
  })
  await first.close()
  await first.close()
  await (await openDataDir(path, deps)).close()
})

test('the lock of another process holds until it is killed, and not longer', async () => {
  const path = freshPath()
  const program = `
    import { seededRandom, systemClock } from '#base'
    import { openDataDir } from '#storage'
    await openDataDir(${JSON.stringify(path)}, { clock: systemClock, random: seededRandom(1) })
    process.stdout.write('ready')
    process.stdin.resume()`
  const holder = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['pipe', 'pipe', 'inherit'] })
  await once(holder.stdout, 'data')
  await assert.rejects(openDataDir(path, deps), {
    code: 'STORAGE_LOCKED',
    message: new RegExp(`process ${holder.pid}`),
  })
  holder.kill('SIGKILL')
  await once(holder, 'exit')
  assert.equal(await readFile(join(path, 'node.pid'), 'utf8'), `${holder.pid}\n`, 'what the killed process left')
  await (await openDataDir(path, deps)).close()
})

test('a key file that others can read is refused', { skip: isWindows }, async () => {
  const path = freshPath()
  const data = await openDataDir(path, deps)
  await data.keys.loadOrCreate()
  await chmod(join(path, 'keys', 'node.key'), 0o640)
  await assert.rejects(data.keys.loadOrCreate(), { code: 'STORAGE_PERMISSIONS', message: /chmod 600/ })
  await data.close()
})

test('a damaged key file is an error and stays as it is', async () => {
  const path = freshPath()
  const data = await openDataDir(path, deps)
  await mkdir(join(path, 'keys'))
  await writeFile(join(path, 'keys', 'node.key'), 'not a key', { mode: 0o600 })
  await assert.rejects(data.keys.loadOrCreate(), { code: 'IDENTITY_KEY_INVALID' })
  assert.equal(await readFile(join(path, 'keys', 'node.key'), 'utf8'), 'not a key')
  await data.close()
})

test('a key that was being written when its process was killed is written anew', async () => {
  const path = freshPath()
  const data = await openDataDir(path, deps)
  await mkdir(join(path, 'keys'))
  await writeFile(join(path, 'keys', 'node.key.new'), 'half a k', { mode: 0o644 })
  const { peer } = await data.keys.loadOrCreate()
  assert.equal((await data.keys.loadOrCreate()).peer, peer)
  await data.close()
})

test('a data directory that others can write to is refused', { skip: isWindows }, async () => {
  const path = freshPath()
  await mkdir(path)
  await chmod(path, 0o777)
  await assert.rejects(openDataDir(path, deps), { code: 'STORAGE_PERMISSIONS' })
})

test('a data directory that cannot be made is a clear error', async () => {
  const path = freshPath()
  await writeFile(path, 'a file')
  await assert.rejects(openDataDir(path, deps), { code: 'STORAGE_UNUSABLE' })
  await assert.rejects(openDataDir(join(path, 'below'), deps), { code: 'STORAGE_UNUSABLE' })
})

test('the control socket is in the data directory, and what a killed node left is removed', {
  skip: isWindows,
}, async () => {
  const path = freshPath()
  await mkdir(path, { mode: 0o700 })
  await writeFile(join(path, 'node.sock'), '')
  const data = await openDataDir(path, deps)
  assert.equal(data.socketPath, join(data.path, 'node.sock'))
  assert.equal(await findSocket(path), data.socketPath)
  await assert.rejects(stat(data.socketPath), { code: 'ENOENT' })
  await data.close()
})

test('a deep data directory gets a short socket path in a private place', { skip: isWindows }, async () => {
  const path = join(root, 'd'.repeat(60), 'e'.repeat(60))
  const data = await openDataDir(path, deps)
  assert.ok(Buffer.byteLength(data.socketPath) <= 100)
  assert.equal(await modeOf(dirname(data.socketPath)), 0o700)
  assert.equal(await findSocket(path), data.socketPath)
  const alias = freshPath()
  await symlink(path, alias)
  assert.equal(await findSocket(alias), data.socketPath, 'by whatever path the directory is named')
  await data.close()
})

test('model ids are remembered for one state of a file', async () => {
  const path = freshPath()
  const stamp = {
    path: '/models/a.gguf',
    size: 10,
    modifiedNs: 1_700_000_000_123_456_789n,
    changedNs: 1_700_000_000_123_456_790n,
    inode: 12n,
  }
  const first = await openDataDir(path, deps)
  assert.equal(first.modelIds.find(stamp), undefined)
  first.modelIds.remember(stamp, 'ab'.repeat(32))
  await first.close()
  const second = await openDataDir(path, deps)
  assert.equal(second.modelIds.find(stamp), 'ab'.repeat(32))
  assert.equal(second.modelIds.find({ ...stamp, size: 11 }), undefined)
  assert.equal(second.modelIds.find({ ...stamp, modifiedNs: stamp.modifiedNs + 1n }), undefined)
  assert.equal(
    second.modelIds.find({ ...stamp, changedNs: stamp.changedNs + 1n }),
    undefined,
    'a time that was put back',
  )
  assert.equal(second.modelIds.find({ ...stamp, inode: 13n }), undefined, 'another file in its place')
  await second.close()
})

test('the least recently used model ids are forgotten', async () => {
  const clock = new ManualClock()
  const data = await openDataDir(freshPath(), { clock, random: seededRandom(1) })
  const stampOf = (i: number) => ({ path: `/${i}`, size: 1, modifiedNs: 1n, changedNs: 1n, inode: 1n })
  for (let i = 0; i < MODEL_ID_CACHE_MAX; i++) {
    clock.advance(1)
    data.modelIds.remember(stampOf(i), 'id')
  }
  clock.advance(1)
  data.modelIds.find(stampOf(0))
  clock.advance(1)
  data.modelIds.remember(stampOf(MODEL_ID_CACHE_MAX), 'id')
  assert.equal(data.modelIds.find(stampOf(0)), 'id')
  assert.equal(data.modelIds.find(stampOf(1)), undefined)
  await data.close()
})

test('a database of a later version or a damaged one is a clear error, and the lock is given back', async () => {
  const path = freshPath()
  await (await openDataDir(path, deps)).close()
  const database = new DatabaseSync(join(path, 'node.db'))
  database.exec('PRAGMA user_version = 99')
  database.close()
  await assert.rejects(openDataDir(path, deps), { code: 'STORAGE_DATABASE', message: /version 99/ })
  await writeFile(
    join(path, 'node.db'),
    'this is no database, though it is long enough to have a header of one'.repeat(9),
  )
  await assert.rejects(openDataDir(path, deps), { code: 'STORAGE_DATABASE', message: /moved away/ })
  await rm(join(path, 'node.db'))
  await (await openDataDir(path, deps)).close()
})

test("each platform's default data directory is its own", () => {
  const on = (platform: NodeJS.Platform, env: Record<string, string> = {}) =>
    defaultDataDir({ platform, env, home: platform === 'win32' ? 'C:\\Users\\u' : '/home/u' })
  assert.equal(on('linux'), '/home/u/.local/share/koinon')
  assert.equal(on('linux', { XDG_DATA_HOME: '/data' }), '/data/koinon')
  assert.equal(on('linux', { XDG_DATA_HOME: 'data' }), '/home/u/.local/share/koinon')
  assert.equal(on('darwin'), '/home/u/Library/Application Support/koinon')
  assert.equal(on('win32'), 'C:\\Users\\u\\AppData\\Local\\koinon')
  assert.equal(on('win32', { LOCALAPPDATA: 'D:\\Local' }), 'D:\\Local\\koinon')
})

test('the blob store is opened when it is first needed, with the quota that was set', async () => {
  const path = freshPath()
  const data = await openDataDir(path, deps, { blobQuotaBytes: 5_000_000, blobThreads: 2 })
  await assert.rejects(stat(join(path, 'blobs')), { code: 'ENOENT' })
  const [store, same] = await Promise.all([data.blobs(), data.blobs()])
  assert.equal(store, same)
  assert.deepEqual(store.usage(), { bytes: 0, pinnedBytes: 0, quotaBytes: 5_000_000 })
  const blob = await store.open({ root: new Uint8Array(32), length: 10 })
  assert.equal(blob.path, join(data.path, 'blobs', '0'.repeat(64), 'data'))
  await data.close()
  await assert.rejects(store.open({ root: new Uint8Array(32), length: 10 }), { code: 'STORAGE_BLOB_MISSING' })
})
