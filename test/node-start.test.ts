/** Nodes that cannot start say why, end by themselves with a code, and leave nothing behind. */
import assert from 'node:assert/strict'
import { copyFile, mkdtemp, open, rm, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { startSwarm, STORYTELLER, type SwarmOptions } from '../tools/swarm.ts'

let directory: string

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'koinon-start-'))
})
after(() => rm(directory, { recursive: true, force: true }))

/** A copy of the built-in model with some bytes replaced. */
async function damaged(name: string, find: string, replace: string): Promise<string> {
  const file = join(directory, name)
  await copyFile(STORYTELLER, file)
  const handle = await open(file, 'r+')
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(65_536), 0, 65_536, 0)
  const at = buffer.subarray(0, bytesRead).indexOf(find)
  assert.ok(at > 0)
  await handle.write(Buffer.from(replace), 0, replace.length, at)
  await handle.close()
  return file
}

/** @returns everything that the node said */
async function failure(options: Partial<SwarmOptions>): Promise<string> {
  const error = await startSwarm({ nodes: [{ layers: 'auto' }], startMsMax: 20_000, ...options }).then(
    async swarm => {
      await swarm.stop()
      return new Error('it started')
    },
    (error: unknown) => error,
  )
  assert.ok(error instanceof Error)
  return error.message
}

test('a truncated model file is refused', async () => {
  const model = join(directory, 'short.gguf')
  await copyFile(STORYTELLER, model)
  await truncate(model, 1_000_000)
  assert.match(await failure({ model }), /FORMAT_GGUF_TRUNCATED/)
})

test('an unknown architecture is refused by name', async () => {
  // The same length, so that nothing else in the file moves.
  const model = await damaged('unknown.gguf', 'llama', 'zebra')
  assert.match(await failure({ model }), /"zebra" is not supported.*FORMAT_ARCHITECTURE_UNKNOWN/)
})

test('a file that is missing or no model is refused', async () => {
  assert.match(await failure({ model: join(directory, 'nowhere.gguf') }), /there is no file/)
  assert.match(await failure({ model: import.meta.filename }), /FORMAT_/)
})

test('a model that does not fit is refused with what is missing', async () => {
  const nodes = [{ layers: '0-8', args: ['--memory', '3MB'] }]
  assert.match(await failure({ nodes }), /need .* more memory.*NODE_DOES_NOT_FIT/)
})

test('layers that the model does not have are refused', async () => {
  assert.match(await failure({ nodes: [{ layers: '4-9' }] }), /the model has layers 0-8.*NODE_LAYERS_UNKNOWN/)
})

test('an address that is no address is refused', async () => {
  const nodes = [{ layers: '0-8', args: ['--peer', '/ip4/127.0.0.1/tcp/1/p2p/nonsense'] }]
  assert.doesNotMatch(await failure({ nodes }), /it started/)
})
