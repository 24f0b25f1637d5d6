/** A plan for a model file on this machine alone, without a node: what `koinon plan FILE` says where none runs. */
import { measureMachine } from '#engine'
import { type ModelIdCache, openDataDir, StorageError } from '#storage'
import type { PlanReport } from '#wire'
import { openModel } from './model-library.ts'
import { memoryForLayers } from './own-offer.ts'
import { planReport } from './plan-report.ts'
import type { NodeConfig, NodeDeps } from './types.ts'

export type FilePlanConfig = Pick<NodeConfig, 'dataDir' | 'engine' | 'contextMax' | 'slots' | 'memoryMax'> & {
  /** Absolute path of the GGUF file. */
  readonly model: string
}

/**
 * Reads the file's header and measures this machine; loads nothing.
 * @throws StorageError, FormatError, EngineError; NodeError NODE_DOES_NOT_FIT where not even the edges fit
 */
export async function planFile(
  deps: NodeDeps,
  config: FilePlanConfig,
  options: { readonly signal: AbortSignal },
): Promise<PlanReport> {
  const onProgress = deps.onProgress ?? (() => undefined)
  const ids = await openIdCache(deps, config.dataDir)
  try {
    const { contextMax } = config
    const model = await openModel({ modelIds: ids.cache, onProgress }, config.model, { contextMax, ...options })
    const memoryBytes = memoryForLayers(config, model)
    onProgress('measuring this machine', {})
    const { weightBytesPerSecond } = await measureMachine(deps, config.engine)
    const self = { id: 'self', memoryBytes, kvPositions: config.slots * model.contextMax, weightBytesPerSecond }
    return planReport({ model, self: self.id, nodes: [self], rttMs: new Map(), offers: [] })
  } finally {
    await ids.close()
  }
}

/** The id of a large file takes seconds, so it is looked up and remembered where no running node holds the directory. */
async function openIdCache(
  deps: NodeDeps,
  dataDir: string,
): Promise<{ readonly cache: ModelIdCache; readonly close: () => Promise<void> }> {
  try {
    const opened = await openDataDir(dataDir, deps)
    return { cache: opened.modelIds, close: () => opened.close() }
  } catch (error) {
    if (!(error instanceof StorageError)) throw error
    // Locked or not usable: the id is computed anew, and a plan needs nothing else from there.
    return { cache: { find: () => undefined, remember: () => undefined }, close: async () => undefined }
  }
}
