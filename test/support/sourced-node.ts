/** A real node with sources of weights, and somebody who tells it of a model and has no piece of it: the sources have to give it. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { systemClock } from '#base'
import { hashSource, memorySource } from '#formats'
import { startSwarm, type Swarm, type SwarmNode } from '../../tools/swarm.ts'
import { temporaryDir } from './command.ts'
import { fullBlob } from './memory-blobs.ts'
import { startHost, within } from './net-hosts.ts'
import { startSwarm as serve } from './swarm-hosts.ts'
import { KEEPER, type WeightsModel } from './weights-nodes.ts'

/** The file of sources, and more arguments of the node. */
export type SourcesOptions = {
  readonly allow?: readonly string[]
  readonly sources: readonly object[]
  readonly args?: readonly string[]
}

export type SourcedNode = {
  readonly swarm: Swarm
  readonly node: SwarmNode
  /** One more node with the same sources. */
  readonly add: (args: readonly string[]) => Promise<SwarmNode>
}

export async function nodeWith(
  t: TestContext,
  model: WeightsModel,
  { args = [], ...config }: SourcesOptions,
): Promise<SourcedNode> {
  const path = join(temporaryDir(t), 'sources.json')
  writeFileSync(path, JSON.stringify(config), { mode: 0o600 })
  const spec = { ...KEEPER, args: ['--sources', path, ...args] }
  const swarm = await startSwarm({ nodes: [spec], whole: false })
  t.after(() => swarm.stop())
  const [node] = swarm.nodes
  const [address] = node?.ready.addresses ?? []
  assert.ok(node && address)
  const hashed = await hashSource(memorySource(model.bytes))
  const described = { id: model.id, core: model.coreBytes, bytes: model.bytes, root: hashed.tree.root, hashed }
  const host = await startHost(t)
  serve(t, { host: Object.assign(host, { clock: systemClock }), seed: 1 }).swarm.share({
    core: model.coreBytes,
    blob: fullBlob(described, []),
  })
  await within('a connection', host.connect(address))
  return { swarm, node, add: more => swarm.add({ ...spec, args: [...spec.args, ...more] }) }
}
