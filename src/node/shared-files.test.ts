import assert from 'node:assert/strict'
import { copyFile, mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { sha256 } from '#crypto'
import { readAll } from '#protocol'
import { type LocalModel, openModel } from './model-library.ts'
import { SharedFiles } from './shared-files.ts'

const STORYTELLER = fileURLToPath(new URL('../../models/storyteller-2m-q8_0.gguf', import.meta.url))
const signal = new AbortController().signal

/** A copy of the model, its hashes known or not, as after a start with an id from the cache. */
async function modelOf(t: TestContext, { isHashed }: { readonly isHashed: boolean }): Promise<LocalModel> {
  const directory = await mkdtemp(join(tmpdir(), 'koinon-shared-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  const file = join(directory, 'model.gguf')
  await copyFile(STORYTELLER, file)
  const modelIds = { find: () => undefined, remember: () => undefined }
  const { hashed, ...model } = await openModel({ modelIds, onProgress: () => undefined }, file, { signal })
  return isHashed && hashed !== undefined ? { ...model, hashed } : model
}

async function change(file: string, offset: number): Promise<void> {
  const handle = await open(file, 'r+')
  await handle.write(Uint8Array.of(1, 2, 3, 4, 5), 0, 5, offset)
  await handle.close()
}

test('hashes that were computed at the start and those computed at the first question are the same', async t => {
  const shares = async (isHashed: boolean) =>
    new SharedFiles({ model: await modelOf(t, { isHashed }), stopping: signal }, { isShared: true })
  const [early] = await (await shares(true)).list({ signal })
  const [late] = await (await shares(false)).list({ signal })
  assert.match(early?.root ?? '', /^[0-9a-f]{64}$/)
  assert.equal(late?.root, early?.root)
})

test('a piece that changed on disk is not given out, the others are', async t => {
  const model = await modelOf(t, { isHashed: true })
  const files = new SharedFiles({ model, stopping: signal }, { isShared: true })
  const [file] = await files.list({ signal })
  assert.ok(file !== undefined)
  await change(model.file, 1024 * 1024 + 5)
  await assert.rejects(files.read(file, 1), { code: 'NODE_FILE_CHANGED' })
  const { attachment } = await files.read(file, 0)
  const bytes = await readAll(attachment, { maxBytes: 1024 * 1024, signal })
  assert.deepEqual([bytes.byteLength, sha256(bytes)], [1024 * 1024, attachment.sha256])
})

test('a file that is not the one that the id was computed for is not shared; one that comes back is', async t => {
  const model = await modelOf(t, { isHashed: false })
  const files = new SharedFiles({ model, stopping: signal }, { isShared: true })
  await change(model.file, 2 * 1024 * 1024)
  await assert.rejects(files.list({ signal }), { code: 'NODE_FILE_CHANGED' })
  await copyFile(STORYTELLER, model.file)
  assert.equal((await files.list({ signal })).length, 1)
})

test('a node that shares nothing lists nothing and has nothing to give', async t => {
  const model = await modelOf(t, { isHashed: true })
  const files = new SharedFiles({ model, stopping: signal }, { isShared: false })
  assert.deepEqual(await files.list({ signal }), [])
  await assert.rejects(files.find('ab'.repeat(32), { signal }), { code: 'NODE_FILE_UNKNOWN' })
})

test('a caller that leaves does not end the hashing for the others; a node that stops does', async t => {
  const model = await modelOf(t, { isHashed: false })
  const files = new SharedFiles({ model, stopping: signal }, { isShared: true })
  const caller = new AbortController()
  const left = files.list({ signal: caller.signal })
  const stays = files.list({ signal })
  caller.abort(new Error('left'))
  await assert.rejects(left, { message: 'left' })
  assert.equal((await stays).length, 1)

  const node = new AbortController()
  const stopped = new SharedFiles({ model, stopping: node.signal }, { isShared: true })
  const asked = stopped.list({ signal })
  node.abort(new Error('stopping'))
  await assert.rejects(asked, { message: 'stopping' })
})
