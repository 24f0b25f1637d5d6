/** Models and real nodes for tests of what users do about weights: small files of chance that engines can run, and pulls. */
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { systemClock, toHex } from '#base'
import { createLocalClient, type LocalClient } from '#cli'
import { type ModelCore, modelId, parseCore, readGguf, type Torrent, torrentOf } from '#formats'
import { openFileSource } from '#storage'
import type { PullEnd, PullRequest, TransferProgress } from '#wire'
import { type NodeSpec, type SwarmNode, until } from '../../tools/swarm.ts'
import { temporaryDir, type UpProcess } from './command.ts'
import { writeRandomGguf } from './random-gguf.ts'

/** A node that keeps weights and serves none of them: what it computes is the built-in model. */
export const KEEPER: NodeSpec = { layers: 'none' }

export const LAYERS = 8

export type WeightsModel = {
  readonly file: string
  readonly bytes: Uint8Array<ArrayBuffer>
  readonly id: string
  readonly coreBytes: Uint8Array<ArrayBuffer>
  readonly core: ModelCore & { readonly id: string }
  readonly torrent: Torrent
}

/** A llama of 8 layers, 26 MB: `seed` makes others of the same size. */
export async function writeWeightsModel(t: TestContext, seed = 1): Promise<WeightsModel> {
  const directory = join(temporaryDir(t), 'models')
  mkdirSync(directory)
  const file = join(directory, 'model.gguf')
  await writeRandomGguf(file, { architecture: 'llama', layers: LAYERS, width: 256, feedForward: 768, seed })
  return readWeightsModel(file)
}

export async function readWeightsModel(file: string): Promise<WeightsModel> {
  const source = await openFileSource(file)
  try {
    const { core: coreBytes, id } = await modelId(source, await readGguf(source))
    const core = new Uint8Array(coreBytes)
    return {
      file,
      bytes: new Uint8Array(readFileSync(file)),
      id,
      coreBytes: core,
      core: { ...parseCore(core), id },
      torrent: torrentOf(core),
    }
  } finally {
    await source.close()
  }
}

type Client = { readonly client: LocalClient }

/** A node is ready before it has met anybody: where a pull is not about that, it begins later. */
export async function untilMet({ client }: Client, other: Pick<SwarmNode, 'ready'> | undefined): Promise<void> {
  const peer = other?.ready.peer
  await until(async () => ((await client.peers()).some(({ peer: id }) => id === peer) ? true : undefined), {
    what: `a connection with ${peer}`,
    timeoutMs: 60_000,
  })
}

export type PullWatch = {
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: TransferProgress) => void
}

/** Pulls to the end. @throws CliError with the node's own code in `fault.remote` */
export async function pull({ client }: Client, request: PullRequest, watch: PullWatch = {}): Promise<PullEnd> {
  const signal = watch.signal ?? new AbortController().signal
  for await (const event of client.weights.pull(request, { signal })) {
    if (event.kind === 'progress') watch.onProgress?.(event.progress)
    if (event.kind === 'pulled') return event.end
  }
  throw new Error('the pull ended without a word')
}

export async function addModel({ client }: Client, file: string, previous?: string): Promise<void> {
  const asked = { file, ...(previous === undefined ? {} : { previous }) }
  for await (const event of client.weights.add(asked, { signal: new AbortController().signal })) void event
}

/** Everything that is here is read again. @returns bytes that are as they should be; throws where any are not */
export async function verified({ client }: Client, model: string): Promise<number> {
  for await (const event of client.weights.verify(model, { signal: new AbortController().signal })) {
    if (event.kind !== 'verified') continue
    assert.deepEqual(event.badPieces, [])
    return event.goodBytes
  }
  throw new Error('the check ended without a word')
}

/** What is told of an error that the node refused with this code. */
export function refusedWith(remote: string): object {
  return { fault: { code: 'CLI_NODE_REFUSED', remote } }
}

/** Where a node's store has the model's file. */
export function blobPath(dataDir: string, { core }: Pick<WeightsModel, 'core'>): string {
  return join(dataDir, 'blobs', toHex(core.files[0]?.root ?? new Uint8Array()), 'data')
}

/** The store has all of the model, byte for byte. */
export function assertHasAll(dataDir: string, model: WeightsModel): void {
  assert.ok(readFileSync(blobPath(dataDir, model)).equals(model.bytes), 'the file in the store is the model')
}

/** The store has nothing of the model. */
export async function assertHasNothing(
  node: Client & { readonly ready: { readonly dataDir: string } },
  model: WeightsModel,
): Promise<void> {
  const held = (await node.client.weights.held()).find(({ id }) => id === model.id)
  assert.equal(held?.heldBytes ?? 0, 0)
  const found = await stat(blobPath(node.ready.dataDir, model)).catch(() => undefined)
  // Hashes and a length may be there; the file itself is one hole.
  if (process.platform === 'linux') assert.ok((found?.blocks ?? 0) * 512 <= 4096)
}

/** Talks with a node that was started by itself. */
export function clientOf({ ready }: Pick<UpProcess, 'ready'>): LocalClient {
  return createLocalClient({ clock: systemClock }, { socket: ready.socket, dataDir: ready.dataDir })
}
