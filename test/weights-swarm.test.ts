/**
 * One node has a model; three others serve some of its layers each, and fetch those layers' bytes from whoever has them. Real
 * processes. `KOINON_WEIGHTS_MIB=1100` makes the model as large as that.
 */
import assert from 'node:assert/strict'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { formatBytes, silentLogger, systemClock } from '#base'
import { createReference } from '#engine'
import { bytesInRanges, modelId, parseCore, readGguf, wantedRanges } from '#formats'
import { openFileSource } from '#storage'
import { GREEDY } from '#wire'
import { writeBigGguf } from '../bench/lib/big-gguf.ts'
import { startSwarm, type SwarmNode, until } from '../tools/swarm.ts'

const MIB = 1024 * 1024
const SIZE_MIB = Number(process.env['KOINON_WEIGHTS_MIB'] ?? 192)
const PROMPT = [1, 5, 9, 77, 1200, 33]
const TOKENS = 12

async function coreOf(file: string) {
  const source = await openFileSource(file)
  try {
    return parseCore((await modelId(source, await readGguf(source))).core)
  } finally {
    await source.close()
  }
}

async function answer(node: SwarmNode, model: string): Promise<readonly number[]> {
  const tokens: number[] = []
  const request = {
    model,
    prompt: { kind: 'tokens', tokens: PROMPT },
    sampling: GREEDY,
    tokensMax: TOKENS,
    stop: [],
    ignoreEnd: true,
  } as const
  for await (const event of node.client.complete(request, { signal: new AbortController().signal })) {
    if (event.kind === 'delta') tokens.push(...event.tokens.map(({ token }) => token))
  }
  return tokens
}

async function libllama(file: string): Promise<readonly number[]> {
  const reference = await createReference(
    { clock: systemClock, log: silentLogger },
    { file, threads: 1, contextMax: 256 },
  )
  try {
    return [...(await reference.generate(Int32Array.from(PROMPT), TOKENS)).tokens]
  } finally {
    await reference.stop()
  }
}

test('three nodes fetch the layers that they serve, and no more; together they answer as libllama does', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'koinon-weights-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  const file = join(directory, 'model.gguf')
  const layers = await writeBigGguf(file, SIZE_MIB * MIB)
  const core = await coreOf(file)
  const third = Math.max(1, Math.round(layers / 3))
  // Two that are apart, and one that lies over both.
  const ranges = [
    { first: 0, last: third },
    { first: third, last: layers },
    { first: Math.max(0, third - 1), last: Math.min(layers, third + 1) },
  ]
  await using swarm = await startSwarm({
    nodes: [{ layers: 'none' }],
    model: file,
    ctx: 256,
    whole: false,
    startMsMax: 300_000,
  })
  const [seeder] = swarm.nodes
  assert.ok(seeder)
  const stages = await Promise.all(
    ranges.map(({ first, last }) =>
      swarm.add({ layers: `${first}-${last}`, args: ['--model', core.id, '--stage-only'] }),
    ),
  )
  for (const [i, node] of stages.entries()) {
    const needed = bytesInRanges(wantedRanges(core, { layers: ranges[i] ?? { first: 0, last: 0 } }))
    const [held] = await node.client.weights.held()
    assert.ok(held)
    const facts = `${formatBytes(held.downloadedBytes)} came, ${formatBytes(held.heldBytes)} are held, ${formatBytes(needed)} were needed`
    t.diagnostic(`layers ${ranges[i]?.first}-${ranges[i]?.last}: ${facts}`)
    assert.deepEqual(held.heldLayers, [ranges[i]])
    assert.equal(held.hasEdges, false)
    assert.ok(held.downloadedBytes <= held.heldBytes * 1.02, facts)
    // Pieces have 1 MiB: a few at the borders of what is needed are fetched whole.
    assert.ok(held.heldBytes <= needed * 1.02 + 4 * MIB, facts)
    const onDisk = await stat(
      join(node.ready.dataDir, 'blobs', Buffer.from(core.files[0]?.root ?? []).toString('hex'), 'data'),
    )
    if (process.platform === 'linux') assert.ok(onDisk.blocks * 512 <= held.heldBytes + MIB, 'the rest is a hole')
  }
  await until(async () => ((await seeder.client.models())[0]?.isComplete === true ? true : undefined), {
    what: 'a route through all layers',
    timeoutMs: 20_000,
  })
  assert.deepEqual(await answer(seeder, core.id), await libllama(file))
})
