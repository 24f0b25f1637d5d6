/**
 * A node without a network, for tests of what it does with its own parts: real engines with the built-in model, the real
 * pipeline, completions and command services. Peers are what the test says.
 */
import type { TestContext } from 'node:test'
import { type LayerRange, type Logger, silentLogger, systemClock, systemRandom } from '#base'
import { generateNodeKey, peerIdOf } from '#crypto'
import { createEdgeEngine, createStageEngine } from '#engine'
import { createPipeline, type Pipeline } from '#pipeline'
import type { CompletionRequest } from '#wire'
import { createCommandServices } from '../../src/node/command-services.ts'
import { createCommands } from '../../src/node/commands/create-commands.ts'
import type { CommandServices, PeerRating, RatingStore } from '../../src/node/commands/services.ts'
import { complete } from '../../src/node/completion.ts'
import { Gate } from '../../src/node/gate.ts'
import { findModel, type LocalModel, openModel } from '../../src/node/model-library.ts'
import { makeOffer } from '../../src/node/own-offer.ts'
import { OwnStage } from '../../src/node/own-stage.ts'
import { SwarmView } from '../../src/node/swarm-view.ts'

const OPTIONS = { threads: 1, device: 'cpu' } as const
const SLOTS = 2
const CONTEXT = 512

export type LoneNodeOptions = {
  /** GGUF file. */
  readonly file: string
  /** What is served at first; undefined: nothing, and there is no stage engine. */
  readonly layers: LayerRange | undefined
  /** @default 1 GB */
  readonly memoryBytes?: number
  readonly log?: Logger
}

export type LoneNode = {
  readonly services: CommandServices
  readonly commands: ReturnType<typeof createCommands>
  readonly model: LocalModel
  readonly pipeline: Pipeline
  readonly stage: OwnStage | undefined
  readonly placement: { text: string }
  /** How often peers were told of a new offer. */
  readonly announced: () => number
}

/** Everything ends with the test. */
export async function startLoneNode(t: TestContext, options: LoneNodeOptions): Promise<LoneNode> {
  const { file, layers, memoryBytes = 1e9, log = silentLogger } = options
  const deps = { clock: systemClock, random: systemRandom, log }
  const stopping = new AbortController()
  const modelIds = { find: () => undefined, remember: () => undefined }
  const model = await openModel({ modelIds, onProgress: () => undefined }, file, {
    contextMax: CONTEXT,
    signal: stopping.signal,
  })
  const edge = createEdgeEngine(deps, OPTIONS)
  const engine = createStageEngine(deps, OPTIONS)
  const stage = layers === undefined ? undefined : new OwnStage(engine, model, { slots: SLOTS, contextMax: CONTEXT })
  const id = peerIdOf(await generateNodeKey(systemRandom))
  const host = { id, peers: () => [], addresses: () => [`/ip4/127.0.0.1/tcp/1/p2p/${id}`] }
  const pipeline = createPipeline({
    ...deps,
    self: id,
    selfAddresses: () => host.addresses(),
    openStream: () => Promise.reject(new Error('there is nobody else')),
    edge,
    stage: stage === undefined ? undefined : { engine, served: () => stage.served() },
  })
  t.after(async () => {
    stopping.abort(new Error('the test is over'))
    await pipeline.stop()
    await Promise.all([edge.stop(), engine.stop()])
  })
  const report = await edge.load({ file })
  if (layers !== undefined) await stage?.load(layers)
  const offered = { pipeline, stage, fixed: { memoryBytes, kvPositions: SLOTS * CONTEXT } }
  const ownOffer = () => makeOffer({ host, offered, threads: 1, found: { weightBytesPerSecond: 0 } })
  const view = new SwarmView({ host, ownOffer, routes: () => [] })
  const gate = new Gate(systemClock, { runningMax: 4, waitingMax: 4, waitMsMax: 60_000 })
  const answering = {
    ...deps,
    edge,
    report,
    gate,
    entry: pipeline.entry,
    routeOffers: (name: string) => view.routeOffers(name),
    renderChat: async () => 'Once',
  }
  let announced = 0
  const placement = { text: 'as the test began' }
  const services: CommandServices = createCommandServices({
    ...deps,
    capabilities: ['stage', 'files'],
    commands: () => commands,
    ratings: ratingsInMemory(),
    complete: (request: CompletionRequest, { signal }) =>
      complete(answering, { model: findModel([model], request.model), request }, { signal }),
    host,
    pipeline,
    view,
    model,
    prompts: { report },
    stage,
    ownOffer,
    offers: { announce: () => void announced++ },
    placement,
    stopping: stopping.signal,
  })
  const commands = createCommands(services)
  return { services, commands, model, pipeline, stage, placement, announced: () => announced }
}

/** What `storage` does, without a disk. */
export function ratingsInMemory(): RatingStore {
  const ratings = new Map<string, PeerRating>()
  return {
    rate: rating => {
      if (rating.rater === rating.subject) return false
      ratings.set(`${rating.rater} ${rating.subject}`, rating)
      return true
    },
    of: subject => {
      const about = [...ratings.values()].filter(rating => rating.subject === subject)
      const sum = about.reduce((total, { score }) => total + score, 0)
      return {
        mean: about.length === 0 ? undefined : sum / about.length,
        count: about.length,
        own: { served: 0, failed: 0, refused: 0 },
        ratings: about,
      }
    },
  }
}
