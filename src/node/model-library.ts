/** The model file that this node was started with: what it is, what its parts weigh, and by which names it goes. */
import { basename } from 'node:path'
import {
  describeModel,
  edgeWeightBytes,
  type GgufFile,
  kvBytesPerPosition,
  layerWeightBytes,
  type ModelConfig,
  modelId,
  type PieceTree,
  readGguf,
} from '#formats'
import type { PlanModel } from '#planner'
import { type FileSource, type ModelIdCache, openFileSource } from '#storage'
import { NodeError } from './errors.ts'
import { CONTEXT_DEFAULT_MAX } from './limits.ts'
import type { NodeProgress } from './types.ts'

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
  /** The hashes of the file's pieces, where the id had to be computed and they came with it. */
  readonly pieces?: PieceTree
}

/** As much of a name as an offer holds. */
const NAME_CHARS_MAX = 200

export type LibraryDeps = { readonly modelIds: ModelIdCache; readonly onProgress: NodeProgress }

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
    const config = describeModel(gguf)
    const { path, size, modifiedNs } = source.stamp
    return {
      ...(await identify(deps, { source, gguf }, options.signal)),
      name: (config.name === 'unnamed' ? basename(path, '.gguf') : config.name).slice(0, NAME_CHARS_MAX),
      file: path,
      fileBytes: size,
      createdAt: Number(modifiedNs / 1_000_000_000n),
      config,
      plan: planModel(gguf, config),
      edgeBytes: edgeWeightBytes(gguf),
      headBytes: (gguf.tensorsByName.get('output.weight') ?? gguf.tensorsByName.get('token_embd.weight'))?.size ?? 0,
      contextMax: options.contextMax ?? Math.min(config.contextTrain, CONTEXT_DEFAULT_MAX),
    }
  } finally {
    await source.close()
  }
}

/** The id follows from every byte of the file, which takes seconds for a large one: it is remembered. */
async function identify(
  { modelIds, onProgress }: LibraryDeps,
  { source, gguf }: { readonly source: FileSource; readonly gguf: GgufFile },
  signal: AbortSignal,
): Promise<Pick<LocalModel, 'id' | 'pieces'>> {
  const known = modelIds.find(source.stamp)
  if (known !== undefined) return { id: known }
  const { id, pieces } = await modelId(source, gguf, {
    signal,
    onProgress: (done, total) => onProgress('computing the model id', { done, total }),
  })
  modelIds.remember(source.stamp, id)
  return { id, pieces }
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

/** Shortest prefix of a model id that names it. */
const ID_PREFIX_MIN = 8

/** Whether a request means this model: by id, a prefix of it, its name, or its file's name. */
function isCalled(model: LocalModel, name: string): boolean {
  const prefix = name.toLowerCase()
  if (prefix.length >= ID_PREFIX_MIN && model.id.startsWith(prefix)) return true
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
