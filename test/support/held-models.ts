/**
 * A node's weights in memory: models that are held, pulled layer by layer, shared, voted on and forgotten as a node would,
 * without a network or a disk. What takes long goes on step by step, at the pace that a test sets.
 */
import { readFile } from 'node:fs/promises'
import { type LayerRange, toHex } from '#base'
import { sha256 } from '#crypto'
import { NodeError } from '../../src/node/errors.ts'
import type {
  AddModelRequest,
  ModelDetails,
  ModelHolding,
  PullEnd,
  PullRequest,
  TransferProgress,
  WeightsOptions,
  WeightsService,
} from '#wire'

const LAYER_BYTES = 1_000_000
const EDGE_BYTES = 500_000
const PIECES_PER_LAYER = 4

export type HeldModels = WeightsService & {
  /** What was asked for, in order. */
  readonly asked: (AddModelRequest | PullRequest)[]
  /** The signal of everything that took long. */
  readonly signals: AbortSignal[]
  /** Pieces of the store that are bad, until they are verified. */
  readonly badPieces: number[]
}

export type HeldModelsOptions = {
  readonly models?: readonly ModelDetails[]
  /** Waited for before each step of what takes long. @default nothing */
  readonly pace?: (step: number, signal: AbortSignal) => Promise<void>
}

/** A model of eight layers of 1 MB; `held` are those that are here. */
export function heldModel(changes: Partial<ModelDetails> = {}): ModelDetails {
  const { layerCount = 8, heldLayers = [{ first: 0, last: layerCount }], hasEdges = true } = changes
  const id = changes.id ?? '77ab01cd'.repeat(8)
  const heldBytes = layersIn(heldLayers) * LAYER_BYTES + (hasEdges ? EDGE_BYTES : 0)
  return {
    id,
    name: 'Qwen3 8B',
    architecture: 'qwen3',
    layerCount,
    totalBytes: layerCount * LAYER_BYTES + EDGE_BYTES,
    heldBytes,
    heldLayers,
    hasEdges,
    isShared: true,
    peers: 2,
    uploadedBytes: 0,
    downloadedBytes: heldBytes,
    benchmarks: [],
    hasTestVector: false,
    votes: [],
    infoHash: toHex(sha256(Buffer.from(id))),
    magnet: `magnet:?xt=urn:btmh:1220${toHex(sha256(Buffer.from(id)))}&dn=Qwen3+8B`,
    ...changes,
  }
}

export function createHeldModels({
  models = [heldModel()],
  pace = async () => undefined,
}: HeldModelsOptions = {}): HeldModels {
  const held = new Map(models.map(model => [model.id, model]))
  const [asked, signals, badPieces]: [HeldModels['asked'], AbortSignal[], number[]] = [[], [], []]
  const find = (name: string): ModelDetails => {
    for (const model of held.values()) {
      if ((name.length >= 8 && model.id.startsWith(name)) || model.name === name) return model
    }
    throw new NodeError({ code: 'NODE_MODEL_UNKNOWN', model: name }, `no model is called "${name}" here`)
  }
  const change = (model: ModelDetails): ModelDetails => {
    held.set(model.id, model)
    return model
  }
  const stepwise = async (options: WeightsOptions, progresses: readonly TransferProgress[]): Promise<void> => {
    signals.push(options.signal)
    for (const [step, progress] of progresses.entries()) {
      await pace(step, options.signal)
      options.signal.throwIfAborted()
      options.onProgress(progress)
    }
  }
  return {
    asked,
    signals,
    badPieces,
    list: () => [...held.values()].map(holdingOf),
    details: find,
    add: async (request, options) => {
      asked.push(request)
      const bytes = await readFile(request.file)
      const { file, previous, name = 'added', licence, benchmarks = [] } = request
      await stepwise(options, progressOf('hashing', { from: 0, to: bytes.byteLength, sources: 0 }))
      const given = { ...(previous === undefined ? {} : { previous }), ...(licence === undefined ? {} : { licence }) }
      return change(heldModel({ id: toHex(sha256(bytes)), name, file, benchmarks, ...given }))
    },
    pull: async (request, options) => {
      asked.push(request)
      const model = find(request.model)
      return pullInto(model, request, { change, steps: progresses => stepwise(options, progresses) })
    },
    verify: async (name, options) => {
      const model = find(name)
      await stepwise(options, progressOf('checking', { from: 0, to: model.heldBytes, sources: 0 }))
      const bad = badPieces.splice(0)
      const goodBytes = model.heldBytes - bad.length * (LAYER_BYTES / PIECES_PER_LAYER)
      change({ ...model, heldBytes: goodBytes })
      return { goodBytes, badPieces: bad }
    },
    remove: async name => {
      const model = find(name)
      held.delete(model.id)
      return model.file === undefined ? model.heldBytes : 0
    },
    share: async (name, isShared) => change({ ...find(name), isShared }),
    torrent: name => Buffer.from(`d4:name${find(name).id}e`),
    vote: async (name, vote) => {
      const model = find(name)
      return change({ ...model, votes: [...model.votes, { peer: 'self', at: 0, ...vote }] })
    },
  }
}

async function pullInto(
  model: ModelDetails,
  request: PullRequest,
  {
    change,
    steps,
  }: {
    readonly change: (model: ModelDetails) => ModelDetails
    readonly steps: (progresses: readonly TransferProgress[]) => Promise<void>
  },
): Promise<PullEnd> {
  const layers = request.layers ?? { first: 0, last: model.layerCount }
  const hasEdges = request.edges ?? request.layers === undefined
  const isHere = model.heldLayers.some(({ first, last }) => first <= layers.first && layers.last <= last)
  const wantedBytes = (layers.last - layers.first) * LAYER_BYTES + (hasEdges ? EDGE_BYTES : 0)
  const receivedBytes = isHere && (model.hasEdges || !hasEdges) ? 0 : wantedBytes
  await steps([
    { phase: 'manifest', doneBytes: 0, totalBytes: 0, rate: 0, sources: 1, peers: 1 },
    ...progressOf('pulling', { from: wantedBytes - receivedBytes, to: wantedBytes, sources: 3 }),
  ])
  change({
    ...model,
    heldLayers: isHere ? model.heldLayers : [...model.heldLayers, layers],
    hasEdges: model.hasEdges || hasEdges,
    heldBytes: model.heldBytes + receivedBytes,
  })
  return {
    model: model.id,
    name: model.name,
    wantedBytes,
    hadBytes: wantedBytes - receivedBytes,
    receivedBytes,
    wastedBytes: 0,
    seconds: receivedBytes / LAYER_BYTES,
    from: receivedBytes === 0 ? [] : [{ name: 'mirror', bytes: receivedBytes }],
  }
}

/** In four steps. */
function progressOf(
  phase: TransferProgress['phase'],
  { from, to, sources }: { readonly from: number; readonly to: number; readonly sources: number },
): readonly TransferProgress[] {
  return [0, 1, 2, 3, 4].map(step => ({
    phase,
    doneBytes: Math.round(from + ((to - from) * step) / 4),
    totalBytes: to,
    rate: LAYER_BYTES,
    etaS: ((to - from) * (4 - step)) / 4 / LAYER_BYTES,
    sources,
    peers: Math.max(0, sources - 1),
  }))
}

function holdingOf(model: ModelDetails): ModelHolding {
  const { id, name, architecture, layerCount, totalBytes, heldBytes, heldLayers, hasEdges } = model
  const { isShared, peers, uploadedBytes, downloadedBytes, file } = model
  const facts = { isShared, peers, uploadedBytes, downloadedBytes, ...(file === undefined ? {} : { file }) }
  return { id, name, architecture, layerCount, totalBytes, heldBytes, heldLayers, hasEdges, ...facts }
}

function layersIn(ranges: readonly LayerRange[]): number {
  return ranges.reduce((sum, { first, last }) => sum + last - first, 0)
}
