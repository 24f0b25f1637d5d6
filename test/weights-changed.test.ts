/** A model file that is not what it says, or is not what it was (PROOF-1): refused when it is added, loaded and asked for. */
import assert from 'node:assert/strict'
import { closeSync, openSync, readFileSync, statSync, utimesSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { systemRandom, systemClock } from '#base'
import { hashSource, memorySource } from '#formats'
import { createNodeIdentity } from '#identity'
import { signManifest } from '#protocol'
import { GREEDY } from '#wire'
import { startSwarm, type SwarmNode, until } from '../tools/swarm.ts'
import { temporaryDir } from './support/command.ts'
import { fullBlob } from './support/memory-blobs.ts'
import { manifestOf } from './support/model-manifest.ts'
import { startHost, within } from './support/net-hosts.ts'
import { startSwarm as serve } from './support/swarm-hosts.ts'
import type { TestModel } from './support/swarm-models.ts'
import {
  addModel,
  assertHasNothing,
  KEEPER,
  LAYERS,
  pull,
  refusedWith,
  untilMet,
  writeWeightsModel,
} from './support/weights-nodes.ts'

const { signal } = new AbortController()

/** Changes one byte, and puts the time of the last change back. */
function edit(file: string, at: number): void {
  const { atime, mtime } = statSync(file)
  const handle = openSync(file, 'r+')
  writeSync(handle, Buffer.from([(readFileSync(file)[at] ?? 0) ^ 1]), 0, 1, at)
  closeSync(handle)
  utimesSync(file, atime, mtime)
}

async function ask(node: SwarmNode, model: string): Promise<number> {
  const request = {
    model,
    prompt: { kind: 'tokens', tokens: [1, 2, 3] },
    sampling: GREEDY,
    tokensMax: 2,
    stop: [],
  } as const
  let tokens = 0
  for await (const event of node.client.complete(request, { signal })) {
    if (event.kind === 'delta') tokens += event.tokens.length
  }
  return tokens
}

test('a file whose header lies is refused when it is added, and nothing is known of it', async t => {
  const model = await writeWeightsModel(t)
  const directory = temporaryDir(t)
  await using swarm = await startSwarm({ nodes: [KEEPER], whole: false })
  const [node] = swarm.nodes
  assert.ok(node)
  const before = (await node.client.weights.held()).length
  // The offset of the second tensor becomes that of the first.
  const header = Buffer.from(model.bytes)
  const [first, second] = model.core.tensors
  assert.ok(first && second)
  const name = header.indexOf(Buffer.from(second.name))
  const offsetAt = name + Buffer.byteLength(second.name) + 4 + 8 * second.dims.length + 4
  assert.equal(Number(header.readBigUInt64LE(offsetAt)) + first.offset, second.offset)
  const lies: Readonly<Record<string, bigint>> = { overlap: 0n, beyond: 2n ** 40n, overflow: 2n ** 63n, odd: 7n }
  for (const [lie, offset] of Object.entries(lies)) {
    header.writeBigUInt64LE(offset, offsetAt)
    const file = join(directory, `${lie}.gguf`)
    writeFileSync(file, header)
    await assert.rejects(addModel(node, file), /FORMAT|tensor|overlap|offset/i, lie)
  }
  writeFileSync(join(directory, 'cut.gguf'), model.bytes.subarray(0, model.bytes.byteLength - 1000))
  await assert.rejects(addModel(node, join(directory, 'cut.gguf')))
  assert.equal((await node.client.weights.held()).length, before)
})

test('a file that was edited is not loaded, not sent, and another model when the node starts again', async t => {
  const model = await writeWeightsModel(t)
  await using swarm = await startSwarm({ nodes: [KEEPER], whole: false })
  const [puller] = swarm.nodes
  assert.ok(puller)
  const node = await swarm.add({ layers: '0-4', args: ['--model', model.file, '--trust', puller.ready.peer] })
  assert.equal(node.ready.modelId, model.id)
  await untilMet(puller, node)
  edit(model.file, model.bytes.byteLength - 5000)

  // Other layers: the file is looked at before it is read.
  const asked = {
    peer: node.ready.peer,
    command: 'LOAD_SHARD',
    body: { model: model.id, layers: { first: 4, last: 8 } },
    wantsAttachment: false,
  }
  await assert.rejects(async () => {
    for await (const event of puller.client.ask(asked, { signal })) void event
  }, /NODE_MODEL_CHANGED/)

  // Pieces of it: none is sent.
  const ending = new AbortController()
  const pulling = pull(puller, { model: model.id }, { signal: ending.signal })
  const refused = assert.rejects(pulling)
  await until(async () => (/could not be read for a peer/.test(node.log()) ? true : undefined), {
    what: 'a piece that is refused',
    timeoutMs: 60_000,
  })
  ending.abort(new Error('it was refused'))
  await refused
  assert.equal((await node.client.weights.details(model.id)).uploadedBytes, 0)
  await assertHasNothing(puller, model)

  // After a start it is read again, and goes by another id.
  assert.equal(await node.stop(), 0)
  const again = await swarm.add({ layers: 'none', args: ['--model', model.file, '--data-dir', node.ready.dataDir] })
  assert.match(again.ready.modelId ?? '', /^[0-9a-f]{64}$/)
  assert.notEqual(again.ready.modelId, model.id)
  assert.equal((await again.client.weights.details(model.id)).heldBytes, 0)
})

test('a request names the model: another id is refused', async t => {
  const model = await writeWeightsModel(t)
  await using swarm = await startSwarm({ nodes: [{ layers: '0-8', args: ['--model', model.file] }] })
  const [node] = swarm.nodes
  assert.ok(node)
  assert.equal(await ask(node, model.id), 2)
  const other = `${model.id.slice(0, 60)}0000`
  await assert.rejects(ask(node, other), refusedWith('NODE_MODEL_UNKNOWN'))
})

test('a model that does not answer as its card says is not kept, and nothing of it is served', async t => {
  const file = await writeWeightsModel(t)
  const hashed = await hashSource(memorySource(file.bytes))
  const model: TestModel = { id: file.id, core: file.coreBytes, bytes: file.bytes, root: hashed.tree.root, hashed }
  await using swarm = await startSwarm({ nodes: [KEEPER], whole: false })
  const [puller] = swarm.nodes
  const [address] = puller?.ready.addresses ?? []
  assert.ok(puller && address)
  const { provider } = await createNodeIdentity(systemRandom)
  const parts = ['embed', 'head', ...Array.from({ length: LAYERS }, (_, layer) => layer)] as const
  const probes = parts.map(part => ({ part, values: new Uint8Array(32).fill(1), norm: 1 }))
  const testVector = { version: 1, profile: 'cpu', seed: 1, probes } as const
  const said = manifestOf(model, { layerCount: LAYERS, card: { benchmarks: [], sources: [], testVector } })
  const manifest = await signManifest(provider, said)
  const host = await startHost(t)
  serve(t, { host: Object.assign(host, { clock: systemClock }), seed: 1 }).swarm.share({
    core: model.core,
    manifest,
    blob: fullBlob(model),
  })
  await within('a connection', host.connect(address))
  await assert.rejects(
    pull(puller, { model: model.id, layers: { first: 2, last: 5 } }),
    refusedWith('ENGINE_TRIAL_MISMATCH'),
  )
  await assertHasNothing(puller, file)
  assert.deepEqual((await puller.client.weights.details(model.id)).heldLayers, [])
})
