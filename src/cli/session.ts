/**
 * Somewhere to ask questions: the node that runs in the data directory where it serves the model, else a node in this
 * process that lives until the session is closed.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { silentLogger } from '#base'
import type { NodeConfig } from '#node'
import type { ModelSummary } from '#wire'
import type { Complete } from './answer.ts'
import { clientOf, type DataDirFlags, dataDirOf } from './data-dir.ts'
import { type EngineFlags, engineConfig } from './engine-options.ts'
import { CliError } from './errors.ts'
import { keyConfig } from './key-options.ts'
import type { LocalClient } from './local-client.ts'
import { modelFile } from './model-file.ts'
import { createProgress } from './progress.ts'
import { createPaint, wantsColour } from './terminal.ts'
import type { CliDeps } from './types.ts'

export type Session = {
  readonly complete: Complete
  readonly model: ModelSummary
  /** Stops the node of this process, if there is one. */
  readonly close: () => Promise<void>
}

export type SessionFlags = DataDirFlags & EngineFlags

/**
 * @param model what the person typed; undefined takes a model that the running node serves
 * @throws CliError
 */
export async function openSession(
  deps: CliDeps,
  model: string | undefined,
  options: { readonly flags: SessionFlags; readonly signal: AbortSignal },
): Promise<Session> {
  const client = await clientOf(deps, options.flags)
  const file = model === undefined ? undefined : modelFile(deps, model)
  const running = await modelsOf(client)
  if (running === undefined && file === undefined) {
    throw new CliError(
      { code: 'CLI_NO_NODE', dataDir: dataDirOf(deps, options.flags) },
      `no node runs in ${dataDirOf(deps, options.flags)}; start one with \`koinon up\`, or name a GGUF file`,
    )
  }
  if (running !== undefined) {
    const served = running.find(candidate => isMeant(candidate, { name: model, file }))
    if (served !== undefined) {
      return { complete: (request, how) => client.complete(request, how), model: served, close: async () => undefined }
    }
    if (file === undefined) throw unknownModel(model, running)
  }
  // The running node holds the lock of its data directory, so a second one keeps its things elsewhere.
  return openOwnNode(deps, file ?? '', { ...options, isTemporary: running !== undefined })
}

/** The running node's models, or undefined where no node runs. */
async function modelsOf(client: LocalClient): Promise<readonly ModelSummary[] | undefined> {
  try {
    return await client.models()
  } catch (error) {
    if (error instanceof CliError && error.code === 'CLI_NO_NODE') return undefined
    throw error
  }
}

/** Whether a person means this model: by its file, its name, its id; by nothing at all, any that is served whole. */
export function isMeant(
  model: ModelSummary,
  wanted: { readonly name: string | undefined; readonly file: string | undefined },
): boolean {
  if (wanted.name === undefined) return model.isComplete
  if (wanted.file !== undefined && resolve(model.file) === wanted.file) return true
  const name = wanted.name.toLowerCase()
  const isIdPrefix = name.length >= ID_PREFIX_MIN && model.id.startsWith(name)
  return isIdPrefix || model.name.toLowerCase() === name || basename(model.file).toLowerCase() === name
}

/** Shortest beginning of a model id that names it. */
const ID_PREFIX_MIN = 8

function unknownModel(name: string | undefined, models: readonly ModelSummary[]): CliError {
  const known = models.map(model => model.name).join(', ')
  if (name === undefined) {
    const sentence =
      models.length === 0 ? 'the running node knows no model' : `not every layer of ${known} is served at the moment`
    return new CliError({ code: 'CLI_MODEL_UNKNOWN', model: '' }, sentence)
  }
  const sentence = `the running node does not serve "${name}"${known === '' ? '' : `; it serves ${known}`}`
  return new CliError({ code: 'CLI_MODEL_UNKNOWN', model: name }, sentence)
}

async function openOwnNode(
  deps: CliDeps,
  file: string,
  options: { readonly flags: SessionFlags; readonly signal: AbortSignal; readonly isTemporary: boolean },
): Promise<Session> {
  const paint = createPaint(wantsColour(deps.stderr, deps.env))
  const progress = createProgress({ output: deps.stderr, clock: deps.clock, paint })
  const dataDir = options.isTemporary ? await mkdtemp(join(tmpdir(), 'koinon-')) : dataDirOf(deps, options.flags)
  const removeDir = async (): Promise<void> => {
    if (options.isTemporary) await rm(dataDir, { recursive: true, force: true })
  }
  const config: NodeConfig = {
    dataDir,
    model: file,
    layers: { kind: 'auto', nodes: 1 },
    peers: [],
    listen: [],
    mdns: false,
    slots: 1,
    ...engineConfig(options.flags),
    ...(options.isTemporary ? {} : await keyConfig(deps, {}, dataDir)),
  }
  try {
    const served = await deps.serve(config, {
      hasLocalSocket: false,
      onProgress: progress.report,
      log: silentLogger,
      signal: options.signal,
    })
    progress.clear()
    const close = async (): Promise<void> => {
      await served.stop()
      await removeDir()
    }
    const model = served.node.models()[0]
    if (model === undefined) {
      await close()
      throw new CliError({ code: 'CLI_MODEL_UNKNOWN', model: file }, `the node did not take up ${file}`)
    }
    return { complete: (request, how) => served.node.complete(request, how), model, close }
  } catch (error) {
    progress.clear()
    await removeDir()
    throw error
  }
}
