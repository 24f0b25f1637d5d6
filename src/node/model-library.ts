/** The model file that this node was started with: what it is, what its parts weigh, and by which names it goes. */
import { basename } from 'node:path'
import {
  describeModel,
  edgeWeightBytes,
  type GgufFile,
  kvBytesPerPosition,
  layerWeightBytes,
  type HashedFile,
  type ModelConfig,
  type ModelCore,
  modelId,
  readGguf,
} from '#formats'
import type { PlanModel } from '#planner'
import { type FileSource, type FileStamp, type ModelIdCache, openFileSource } from '#storage'
import { NodeError } from './errors.ts'
import { CONTEXT_DEFAULT_MAX, MODEL_ID_PREFIX_MIN } from './limits.ts'
import type { NodeProgress } from './types.ts'
import { nameOf, type ShelvedModel } from './weights/shelf.ts'

export type LocalModel = {
  /** Model id, 64 hexadecimal digits. */
  readonly id: string
  readonly name: string
  /** Absolute path. */
  readonly file: string
  readonly fileBytes: number
  /** Seconds since the epoch. */
  readonly createdAt: number
  readonly config: ModelConfig
  readonly plan: PlanModel
  /** Bytes that the edges load. */
  readonly edgeBytes: number
  /** Bytes of the output head: read whole for every token. */
  readonly headBytes: number
  /** Positions of one generation on this node. */
  readonly contextMax: number
  /** The canonical core, where it is known. */
  readonly core?: Uint8Array
  /** The hashes of the file, where the id had to be computed and they came with it. */
  readonly hashed?: HashedFile
  /** What the user's file looked like when its id was told; undefined: it lies in the node's store, verified. */
  readonly stamp?: FileStamp
}

/** As much of a name as an offer holds. */
const NAME_CHARS_MAX = 200

export type LibraryDeps = {
  readonly modelIds: ModelIdCache
  /** The core of a model that is known here. Where this is given an id that was remembered is of no use without one. */
  readonly coreOf?: (id: string) => Uint8Array | undefined
  readonly onProgress: NodeProgress
}

/**
 * Reads a model file's header and its id. Nothing of the weights is kept.
 * @param contextMax positions of one generation; undefined: the training context, at most `CONTEXT_DEFAULT_MAX`
 * @throws StorageError, FormatError
 */
export async function openModel(
  deps: LibraryDeps,
  file: string,
  options: { readonly contextMax?: number | undefined; readonly signal: AbortSignal },
): Promise<LocalModel> {
  const source = await openFileSource(file)
  try {
    const gguf = await readGguf(source)
    const { stamp } = source
    const identity = await identify(deps, { source, gguf }, options.signal)
    return {
      ...describe({ gguf, path: stamp.path, fileBytes: stamp.size }, options.contextMax),
      ...identity,
      createdAt: Number(stamp.modifiedNs / 1_000_000_000n),
      stamp,
    }
  } finally {
    await source.close()
  }
}

/**
 * The same for a model in the node's store, of which the header is here at least: its id is known, and the header verified.
 * @throws NodeError NODE_MODEL_INVALID where the header says something else than the model's core; FormatError
 */
export async function openKeptModel(
  kept: ShelvedModel,
  options: { readonly contextMax?: number | undefined },
): Promise<LocalModel> {
  const { known, core, blob } = kept
  const source = await openFileSource(blob.path)
  try {
    const gguf = await readGguf(source)
    if (!isIndexOf(core, gguf)) {
      const message = 'the model was described by somebody who lied: its file has other tensors than its description'
      throw new NodeError({ code: 'NODE_MODEL_INVALID' }, message)
    }
    const label = nameOf(kept)
    const described = describe({ gguf, path: blob.path, fileBytes: blob.length, label }, options.contextMax)
    return {
      ...described,
      // Under the name by which people know it, and pulled it.
      ...(known.manifest === undefined ? {} : { name: label.slice(0, NAME_CHARS_MAX) }),
      id: known.id,
      core: known.core,
      createdAt: Math.floor(known.addedAt / 1000),
    }
  } finally {
    await source.close()
  }
}

/** @throws NodeError NODE_MODEL_CHANGED where a user's file is not what it was when its id was told; StorageError */
export async function assertUnchanged({ stamp }: Pick<LocalModel, 'stamp'>): Promise<void> {
  if (stamp === undefined) return
  const source = await openFileSource(stamp.path)
  const now = source.stamp
  await source.close()
  const keys = ['size', 'modifiedNs', 'changedNs', 'inode'] as const
  if (keys.every(key => now[key] === stamp[key])) return
  throw new NodeError(
    { code: 'NODE_MODEL_CHANGED', file: stamp.path },
    `${stamp.path} was changed since this node read it: it is another model now. Start the node again with it`,
  )
}

function describe(
  {
    gguf,
    path,
    fileBytes,
    label = basename(path, '.gguf'),
  }: { readonly gguf: GgufFile; readonly path: string; readonly fileBytes: number; readonly label?: string },
  contextMax: number | undefined,
): Omit<LocalModel, 'id' | 'createdAt'> {
  const config = describeModel(gguf)
  return {
    name: (config.name === 'unnamed' ? label : config.name).slice(0, NAME_CHARS_MAX),
    file: path,
    fileBytes,
    config,
    plan: planModel(gguf, config),
    edgeBytes: edgeWeightBytes(gguf),
    headBytes: (gguf.tensorsByName.get('output.weight') ?? gguf.tensorsByName.get('token_embd.weight'))?.size ?? 0,
    contextMax: contextMax ?? Math.min(config.contextTrain, CONTEXT_DEFAULT_MAX),
  }
}

function isIndexOf(core: ModelCore, { tensors }: GgufFile): boolean {
  return (
    core.tensors.length === tensors.length &&
    tensors.every(({ name, type, offset, size, dims }, at) => {
      const told = core.tensors[at]
      const isSamePlace = told?.name === name && told.offset === offset && told.size === size
      return isSamePlace && told.type.id === type.id && String(told.dims) === String(dims)
    })
  )
}

/** The id follows from every byte of the file, which takes seconds for a large one: it is remembered. */
async function identify(
  { modelIds, coreOf, onProgress }: LibraryDeps,
  { source, gguf }: { readonly source: FileSource; readonly gguf: GgufFile },
  signal: AbortSignal,
): Promise<Pick<LocalModel, 'id' | 'core' | 'hashed'>> {
  const known = modelIds.find(source.stamp)
  const knownCore = known === undefined ? undefined : coreOf?.(known)
  if (known !== undefined && knownCore !== undefined) return { id: known, core: knownCore }
  if (known !== undefined && coreOf === undefined) return { id: known }
  const { id, core, pieces, leaves } = await modelId(source, gguf, {
    signal,
    onProgress: (done, total) => onProgress('computing the model id', { done, total }),
  })
  modelIds.remember(source.stamp, id)
  return { id, core, hashed: { tree: pieces, leaves } }
}

function planModel(gguf: GgufFile, config: ModelConfig): PlanModel {
  const perPosition = kvBytesPerPosition(config)
  return {
    layers: Array.from({ length: config.layerCount }, (_, layer) => ({
      weightBytes: layerWeightBytes(gguf, layer),
      kvBytesPerPosition: perPosition,
    })),
  }
}

/** Whether a request means this model: by id, a prefix of it, its name, or its file's name. */
function isCalled(model: LocalModel, name: string): boolean {
  const prefix = name.toLowerCase()
  if (prefix.length >= MODEL_ID_PREFIX_MIN && model.id.startsWith(prefix)) return true
  const fileName = basename(model.file)
  return [model.name, model.file, fileName, basename(fileName, '.gguf')].includes(name)
}

/** @throws NodeError NODE_MODEL_UNKNOWN */
export function findModel(models: readonly LocalModel[], name: string): LocalModel {
  const model = models.find(candidate => isCalled(candidate, name))
  if (model !== undefined) return model
  const known = models.map(candidate => `"${candidate.name}"`).join(', ')
  const asked = name.length > 100 ? `${name.slice(0, 100)}…` : name
  throw new NodeError(
    { code: 'NODE_MODEL_UNKNOWN', model: asked },
    `no model is called "${asked}" here; there is ${known}`,
  )
}
