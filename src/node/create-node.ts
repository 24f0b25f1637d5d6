/** Builds a whole node: opens, loads and connects its parts in order. What fails half-way takes the rest down with it. */
import { formatLayers, type Logger, type LayerRange } from '#base'
import {
  createEdgeEngine,
  createStageEngine,
  type EdgeEngine,
  type EdgeReport,
  type LoadOptions,
  measureMachine,
} from '#engine'
import { createTemplateRenderer } from '#formats'
import type { Host } from '#net'
import { type DataDir, openDataDir } from '#storage'
import { createCommandServices } from './command-services.ts'
import { type CommandStack, createCommandStack } from './command-stack.ts'
import { createCommands } from './commands/create-commands.ts'
import { type StartedDiscovery, startDiscovery } from './discovery.ts'
import { dialOnce } from './first-contact.ts'
import { AGENT, type TransferProgress } from '#wire'
import { Gate } from './gate.ts'
import { COMPLETION_WAIT_MS_MAX, COMPLETIONS_RUNNING_MAX, COMPLETIONS_WAITING_MAX } from './limits.ts'
import { assertUnchanged, type LocalModel, openKeptModel, openModel } from './model-library.ts'
import { type NodeParts, type Prompts, toNode } from './node.ts'
import { createNetwork, type Network } from './network.ts'
import { openOwnIdentity, type OwnIdentity } from './own-identity.ts'
import { type Found, memoryForLayers } from './own-offer.ts'
import { OwnStage } from './own-stage.ts'
import { type Choice, chooseLayers } from './placement.ts'
import { type Finding, networkFacts } from './network-facts.ts'
import { startReach } from './reach.ts'
import { startServing } from './serving.ts'
import { Stopper } from './stopper.ts'
import type { KeyRotated, KeyRotationRequest, KoinonNode, NodeConfig, NodeDeps, NodeProgress } from './types.ts'
import { startWeights } from './weights/create-weights.ts'
import type { Weights } from './weights/weights.ts'

/** How many steps of loading are reported. */
const LOAD_REPORTS = 50

/** What building needs at every step. */
type Build = {
  readonly deps: NodeDeps
  readonly config: NodeConfig
  readonly onProgress: NodeProgress
  readonly stopper: Stopper
  /** Aborts when the caller gives up while the node starts, or something fails. */
  readonly signal: AbortSignal
}

/**
 * Starts a node: resolves when it has its layers, which with automatic placement is when enough nodes came together.
 * @throws KoinonError of the part that failed; nothing is left behind then
 */
export async function createNode(
  deps: NodeDeps,
  config: NodeConfig,
  options: { readonly signal?: AbortSignal } = {},
): Promise<KoinonNode> {
  const stopper = new Stopper(deps)
  const signal = AbortSignal.any([stopper.signal, ...(options.signal === undefined ? [] : [options.signal])])
  const build: Build = { deps, config, onProgress: deps.onProgress ?? (() => undefined), stopper, signal }
  try {
    const node = await start(build)
    signal.throwIfAborted()
    return node
  } catch (error) {
    await stopper.stop()
    throw error
  }
}

/**
 * In this order: what may be wrong with what the owner gave, found before anything is told to anybody; the network; the
 * model's parts, which may come over it; then the place of this node in the swarm.
 */
async function start(build: Build): Promise<KoinonNode> {
  const { deps, config, stopper, signal } = build
  const startedAt = deps.clock.monotonic()
  const { dataDir, own } = await openKeptThings(build)
  const ownFile = await openOwnFile(build, dataDir)
  const net = await createNetwork({ ...deps, config, stopper, dataDir, own })
  const commands = await createCommandStack({ ...deps, ...net, config, dataDir, stopper })
  await listen(build, net.host)
  const finding = await startFinding(build, { net, dataDir, own })
  const dialled = dialOnce({ clock: deps.clock, host: net.host }, config.peers, { signal })
  net.host.keepConnected(config.peers)
  const weights = await startWeights({ ...deps, ...finding, config, stopper, dataDir, own, net })
  const model = ownFile ?? (await obtainModel(build, weights, dialled))
  if (model.core !== undefined && model.stamp !== undefined) {
    await weights.adopt({ path: model.file, core: model.core, hashed: model.hashed })
  }
  warnOfContext(deps.log, model)
  const memoryBytes = memoryForLayers(config, model)
  const edges = await startEdges(build, model, net.found)
  const stage = createStage(build, model, weights)
  const pipeline = startServing({ ...deps, config, stopper, net, model, edge: edges?.edge, stage, memoryBytes })
  const placement = await place(build, { model, net, stage, dialled })
  deps.log.info('the node is ready', { placement: placement.text, model: model.id })
  const parts: NodeParts & NodeDeps = {
    ...deps,
    ...net,
    pipeline,
    stage,
    dataDir: dataDir.path,
    socket: dataDir.socketPath,
    model,
    weights,
    prompts: edges === undefined ? undefined : createPrompts(build, model, edges),
    startedAt,
    stopper,
    reach: finding.reach,
    discovery: finding.discovery,
    networkFacts: () => networkFacts({ ...finding, host: net.host }),
    ask: (peer, asked, options) => commands.ask(peer, asked, options),
    listCommands: () => commands.summaries(),
    rotateKey: request => rotateKey({ dataDir, own, host: net.host }, request),
    placement: { text: placement.text },
  }
  const node = toNode(parts)
  registerCommands(parts, { node, net, commands, dataDir })
  return node
}

/** What turns requests into tokens and back, where prompts may enter. */
function createPrompts({ deps, stopper }: Build, model: LocalModel, { edge, report }: Edges): Prompts {
  const renderer = createTemplateRenderer(deps)
  stopper.add('the template renderer', () => renderer.stop())
  const { chatTemplate: template } = model.config
  const { bosText, eosText } = report
  return {
    edge,
    report,
    gate: new Gate(deps.clock, {
      runningMax: COMPLETIONS_RUNNING_MAX,
      waitingMax: COMPLETIONS_WAITING_MAX,
      waitMsMax: COMPLETION_WAIT_MS_MAX,
    }),
    renderChat: (messages, signal) =>
      renderer.render({ template, messages, addGenerationPrompt: true, bosText, eosText }, { signal }),
  }
}

/** Where this node is reached, and who else there is. */
async function startFinding(
  { deps, config, stopper }: Build,
  { net, dataDir, own }: { readonly net: Network; readonly dataDir: DataDir; readonly own: OwnIdentity },
): Promise<Finding & Pick<StartedDiscovery, 'offered'>> {
  const { host, late, found, offers, swarmKad } = net
  const reach = startReach({ ...deps, host, config, stopper })
  late.reach = reach
  const kad = swarmKad?.kad
  const signer = own.identity.provider
  const shared = (): ReturnType<Weights['shared']> => late.shared?.() ?? []
  const parts = { ...deps, ...net, reach, kad, signer, dataDir, config, stopper, shared }
  const started = await startDiscovery(parts)
  found.stunPort = () => reach.stunPort
  found.puzzle = started.puzzle
  offers.onSent(started.offered)
  reach.onChange(() => {
    host.relay.reachabilityChanged()
    host.networkChanged()
    offers.announce()
  })
  return { ...started, reach, kad }
}

/** Peers can give commands from now on: before, there would be nobody to carry them out. */
function registerCommands(
  parts: NodeParts & NodeDeps,
  made: {
    readonly node: KoinonNode
    readonly net: Network
    readonly commands: CommandStack
    readonly dataDir: DataDir
  },
): void {
  const { node, net, commands, dataDir } = made
  const services = createCommandServices({
    ...parts,
    ...net,
    commands: () => commands.registry.list(),
    ratings: dataDir.reputation,
    complete: (request, options) => node.complete(request, options),
    stopping: parts.stopper.signal,
  })
  for (const command of createCommands(services)) commands.registry.register(command)
}

function warnOfContext(log: Logger, { contextMax, config }: LocalModel): void {
  if (contextMax <= config.contextTrain) return
  const facts = { context: contextMax, trained: config.contextTrain }
  log.warn('the context is longer than the model was trained for', facts)
}

type Edges = { readonly edge: EdgeEngine; readonly report: EdgeReport }

/** The speed is measured only where it is planned with before anything is loaded: it costs a second of computing. */
async function startEdges(build: Build, model: LocalModel, found: Found): Promise<Edges | undefined> {
  const { deps, config, onProgress, stopper, signal } = build
  const edges = config.stageOnly === true ? undefined : await loadEdges(build, model)
  const { layers } = config
  if (layers.kind === 'auto' && layers.nodes > 1) {
    onProgress('measuring this machine', {})
    found.weightBytesPerSecond = (await measureMachine(deps, config.engine)).weightBytesPerSecond
  }
  signal.throwIfAborted()
  stopper.signal.throwIfAborted()
  return edges
}

async function loadEdges({ deps, config, onProgress, stopper, signal }: Build, model: LocalModel): Promise<Edges> {
  const edge = createEdgeEngine(deps, config.engine)
  stopper.add('the edge engine', () => edge.stop())
  const options = loadOptions('loading embedding and head', { onProgress, signal })
  return { edge, report: await edge.load({ file: model.file }, options) }
}

/** Progress in steps that a person can see: a small model would else report every tensor. */
function loadOptions(phase: string, { onProgress, signal }: Pick<Build, 'onProgress' | 'signal'>): LoadOptions {
  let told = 0
  return {
    signal,
    onProgress: (done, total) => {
      if (done < total && done - told < total / LOAD_REPORTS) return
      told = done
      onProgress(phase, { done, total })
    },
  }
}

/**
 * The data directory, and with it the key: before anything that takes longer, since people mistype passphrases. The
 * audit log says from when to when the node ran, and is signed from here on.
 */
async function openKeptThings({ deps, config, stopper }: Build): Promise<{ dataDir: DataDir; own: OwnIdentity }> {
  const opened: { own?: OwnIdentity } = {}
  // Stopped after the data directory, whose audit log signs its end.
  stopper.add('the node key', async () => opened.own?.close())
  const { storageBytesMax: blobQuotaBytes } = config
  const dataDir = await openDataDir(config.dataDir, deps, blobQuotaBytes === undefined ? {} : { blobQuotaBytes })
  stopper.add('the data directory', () => dataDir.close())
  const own = await openOwnIdentity(deps, config, dataDir.keys)
  opened.own = own
  const { peer, provider } = own.identity
  dataDir.audit.setSigner(provider)
  if (own.isNew) dataDir.audit.record('key-created', { peer })
  dataDir.audit.record('node-started', { peer, agent: AGENT })
  stopper.add('the audit log', () => dataDir.audit.record('node-stopped', { peer }))
  return { dataDir, own }
}

/** On the disk first, then to the peers: a node that is killed in between tells them when it starts again. */
async function rotateKey(
  { dataDir, own, host }: { readonly dataDir: DataDir; readonly own: OwnIdentity; readonly host: Host },
  request: KeyRotationRequest | undefined,
): Promise<KeyRotated> {
  const { from, to, signer, statement } = await own.rotate(request)
  dataDir.audit.record('key-rotated', { peer: to, former: from })
  dataDir.audit.setSigner(signer)
  host.rotate(signer, statement)
  return { from, to }
}

async function listen({ deps, onProgress }: Build, host: Host): Promise<void> {
  await host.start()
  const addresses = host.addresses()
  onProgress('listening', { text: addresses.join(' ') })
  deps.onListening?.({ peer: host.id, addresses })
}

function createStage({ deps, config, stopper }: Build, model: LocalModel, weights: Weights): OwnStage | undefined {
  if (config.layers.kind === 'none') return undefined
  const engine = createStageEngine(deps, config.engine)
  stopper.add('the stage engine', () => engine.stop())
  const edges = config.stageOnly !== true
  const prepare = async (layers: LayerRange, { signal, onProgress }: LoadOptions): Promise<void> => {
    await assertUnchanged(model)
    const progress = ({ doneBytes, totalBytes }: TransferProgress): void => onProgress?.(doneBytes, totalBytes)
    const options = { signal: signal ?? stopper.signal, onProgress: progress }
    if (model.stamp === undefined) await weights.provide({ id: model.id, parts: { layers, edges } }, options)
  }
  return new OwnStage(engine, model, { slots: config.slots, contextMax: model.contextMax, prepare })
}

/** The file that the owner gave; undefined: a model was named that is to be found. */
async function openOwnFile(build: Build, dataDir: DataDir): Promise<LocalModel | undefined> {
  const { config, onProgress, signal } = build
  if (typeof config.model !== 'string') return undefined
  onProgress('reading the model', {})
  const coreOf = (id: string): Uint8Array | undefined => dataDir.models.find(id)?.core
  const { contextMax } = config
  const model = await openModel({ modelIds: dataDir.modelIds, coreOf, onProgress }, config.model, {
    contextMax,
    signal,
  })
  // Where it does not fit, nobody has to hear of this node.
  memoryForLayers(config, model)
  return model
}

/** Fetches what is needed to know a model: its description, its header, and the edges where prompts are to enter here. */
async function obtainModel(build: Build, weights: Weights, dialled: Promise<void>): Promise<LocalModel> {
  const { config, onProgress, signal } = build
  if (typeof config.model === 'string') throw new Error('a file is opened, not fetched')
  onProgress('looking for the model', {})
  await dialled
  const edges = config.stageOnly !== true
  const progress = ({ doneBytes: done, totalBytes: total }: TransferProgress): void =>
    onProgress('fetching the model', { done, total })
  const options = { signal, onProgress: progress }
  const kept = await weights.obtain({ model: config.model.named }, { edges }, options)
  // Engines that read them may start again at any time.
  await weights.provide({ id: kept.known.id, parts: { edges } }, options)
  return openKeptModel(kept, { contextMax: config.contextMax })
}

/** Finds this node's layers and loads them; then the offer is kept up to date. */
async function place(
  build: Build,
  {
    model,
    net,
    stage,
    dialled,
  }: {
    readonly model: LocalModel
    readonly net: Network
    readonly stage: OwnStage | undefined
    readonly dialled: Promise<void>
  },
): Promise<Choice> {
  const { deps, config, onProgress, stopper, signal } = build
  const isAlone = config.peers.length === 0 && !config.mdns
  const choice = await chooseLayers(
    {
      model,
      self: net.host.id,
      ownOffer: net.ownOffer,
      view: net.view,
      watch: net.watch,
      dialled: isAlone ? undefined : dialled,
      onProgress,
    },
    config.layers,
    { signal },
  )
  onProgress('placed', { text: choice.text })
  if (choice.layers !== undefined && stage !== undefined) {
    const phase = `loading layers ${formatLayers(choice.layers)}`
    const report = await stage.load(choice.layers, loadOptions(phase, { onProgress, signal }))
    // A share was planned with the measured speed, and latecomers must plan with the same.
    if (net.found.weightBytesPerSecond === 0 && report.stepMs > 0) {
      net.found.weightBytesPerSecond = (report.weightBytes / report.stepMs) * 1000
    }
  }
  net.offers.announce()
  void net.offers.run(deps.clock, { signal: stopper.signal })
  return choice
}
