import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { ManualClock, systemClock } from '#base'
import { temporaryDir } from '../../../test/support/command.ts'
import { fetchAll, randomBytes } from '../../../test/support/origin-fetch.ts'
import type { Origin } from '../types.ts'
import { type FolderOriginOptions, openFolderOrigin } from './folder.ts'

const FILE = randomBytes(600_000)

/** A folder with the model, and a file outside that nobody is to read. */
function folders(t: TestContext): { inside: string; outside: string } {
  const directory = temporaryDir(t)
  const [inside, outside] = [join(directory, 'inside'), join(directory, 'outside')]
  for (const path of [inside, outside]) mkdirSync(path)
  writeFileSync(join(inside, 'm.gguf'), FILE)
  writeFileSync(join(outside, 'm.gguf'), FILE)
  return { inside, outside }
}

const openAt = (options: Omit<FolderOriginOptions, 'fileBytes'> & { fileBytes?: number }): Promise<Origin> =>
  openFolderOrigin({ clock: systemClock }, { fileBytes: FILE.byteLength, ...options })

test('a file is found by its name, by its length, and as itself', async t => {
  const { inside } = folders(t)
  for (const options of [
    { path: inside, files: ['none.gguf', 'm.gguf'] },
    { path: inside, bySize: true },
    { path: join(inside, 'm.gguf') },
  ]) {
    const origin = await openAt(options)
    assert.ok((await fetchAll(origin, { offset: 0, length: FILE.byteLength })).equals(FILE))
    assert.deepEqual(await fetchAll(origin, { offset: 599_999, length: 1 }), FILE.subarray(599_999))
    await origin.close()
    await assert.rejects(fetchAll(origin, { offset: 0, length: 1 }), { fault: { code: 'SWARM_ORIGIN_CLOSED' } })
  }
})

test('what is not there, or of another length, is told', async t => {
  const { inside } = folders(t)
  await assert.rejects(openAt({ path: inside, files: ['x'] }), { fault: { code: 'SWARM_ORIGIN_NOT_FOUND' } })
  await assert.rejects(openAt({ path: join(inside, 'none') }), { fault: { code: 'SWARM_ORIGIN_NOT_FOUND' } })
  await assert.rejects(openAt({ path: inside, files: ['m.gguf'], fileBytes: 5 }), {
    fault: { code: 'SWARM_ORIGIN_SIZE', bytes: FILE.byteLength, expectedBytes: 5 },
  })
})

test('no name and no link leads out of the folder; links inside are followed', async t => {
  const { inside, outside } = folders(t)
  symlinkSync(join(outside, 'm.gguf'), join(inside, 'link.gguf'))
  symlinkSync('../outside', join(inside, 'door'))
  symlinkSync('m.gguf', join(inside, 'alias.gguf'))
  for (const file of ['link.gguf', 'door/m.gguf', '../outside/m.gguf', 'x/../../outside/m.gguf']) {
    await assert.rejects(openAt({ path: inside, files: [file] }), /SwarmError: .*(?:leads out|has no file)/, file)
  }
  const origin = await openAt({ path: inside, files: ['alias.gguf'] })
  assert.equal((await fetchAll(origin, { offset: 0, length: 9 })).byteLength, 9)
})

test('what becomes a link, another file or shorter after it was found is not read', async t => {
  const { inside, outside } = folders(t)
  const path = join(inside, 'm.gguf')
  const changes: [string, () => void][] = [
    ['SWARM_ORIGIN_REFUSED', () => symlinkSync(join(outside, 'm.gguf'), path)],
    ['SWARM_ORIGIN_CHANGED', () => writeFileSync(path, FILE)],
    [
      'SWARM_ORIGIN_CHANGED',
      () => {
        writeFileSync(path, FILE)
        truncateSync(path, 10)
      },
    ],
    ['SWARM_ORIGIN_NOT_FOUND', () => undefined],
  ]
  for (const [code, change] of changes) {
    rmSync(path, { force: true })
    writeFileSync(path, FILE)
    const origin = await openAt({ path: inside, files: ['m.gguf'] })
    renameSync(path, join(inside, 'old'))
    change()
    await assert.rejects(fetchAll(origin, { offset: 0, length: 10 }), { fault: { code } })
  }
})

test('folders, pipes and devices are no files of models', {
  skip: process.platform === 'win32' && 'no named pipes',
}, async t => {
  const { inside } = folders(t)
  mkdirSync(join(inside, 'd.gguf'))
  execFileSync('mkfifo', [join(inside, 'p.gguf')])
  for (const file of ['d.gguf', 'p.gguf']) {
    await assert.rejects(openAt({ path: inside, files: [file] }), { fault: { code: 'SWARM_ORIGIN_REFUSED' } })
  }
  await assert.rejects(openAt({ path: '/dev/zero' }), { fault: { code: 'SWARM_ORIGIN_REFUSED' } })
})

test('a limit on bytes a second is kept', async t => {
  const { inside } = folders(t)
  const clock = new ManualClock()
  const options = { path: inside, files: ['m.gguf'], fileBytes: FILE.byteLength, bytesPerSecond: 100_000 }
  const origin = await openFolderOrigin({ clock }, options)
  let isReading = true
  const tick = (): void => {
    clock.advance(10)
    if (isReading) setImmediate(tick)
  }
  setImmediate(tick)
  await fetchAll(origin, { offset: 0, length: 300_000 })
  isReading = false
  assert.ok(clock.monotonic() >= 3_000)
})
