/** Puts the parts together that move weights: the store, the swarm over the host, BitTorrent, and other sources. */
import { join } from 'node:path'
import type { Clock, Logger, Random } from '#base'
import type { Discovery } from '#discovery'
import type { MainlineNode } from '#mainline'
import { createOrigins, createSwarm, readSources, type Swarm, type SwarmBlame } from '#swarm'
import type { DataDir } from '#storage'
import type { Network } from '../network.ts'
import type { OwnIdentity } from '../own-identity.ts'
import type { Stopper } from '../stopper.ts'
import type { NodeConfig } from '../types.ts'
import { startBitTorrent } from './bittorrent.ts'
import { measureVector, tryModel } from './test-vector.ts'
import { Shelf } from './shelf.ts'
import { Weights } from './weights.ts'

export type WeightsParts = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly config: NodeConfig
  readonly stopper: Stopper
  readonly dataDir: DataDir
  readonly own: OwnIdentity
  readonly net: Network
  readonly discovery: Pick<Discovery, 'find'>
  readonly mainline: MainlineNode | undefined
  /** What is announced of this node follows what it offers. */
  readonly offered: () => void
}

/** What a blame of the swarm costs a node's peer: who sent what is not the model has promised what it does not keep. */
const PENALTY_OF: Readonly<Record<SwarmBlame, 'bad-response' | 'flood' | 'malformed' | 'slow' | undefined>> = {
  'bad-data': 'bad-response',
  unasked: 'malformed',
  lied: 'bad-response',
  malformed: 'malformed',
  flood: 'flood',
  stalled: 'slow',
  useless: undefined,
}

/** Begins once the host listens. @throws SwarmError SWARM_ORIGIN_CONFIG; StorageError */
export async function startWeights(parts: WeightsParts): Promise<Weights> {
  const { clock, random, config, stopper, dataDir, net, own, discovery } = parts
  const log = parts.log.child('weights')
  const blobs = await dataDir.blobs()
  const made: { weights?: Weights } = {}
  const bittorrent = await startBitTorrent({ ...parts, log })
  const swarm: Swarm = createSwarm(
    {
      clock,
      random,
      log,
      host: net.host,
      blobs,
      onBlame: (party, why) => {
        const penalty = PENALTY_OF[why]
        if (penalty !== undefined) net.penalties.add(party, penalty)
      },
      isBanned: party => net.penalties.bannedForMs(party) > 0,
      findPeers: (model, options) => holdersOf(discovery, model, options),
      votesOf: model => dataDir.votes.of(model).map(({ bytes }) => bytes),
      onVotes: (model, records) => made.weights?.takeVotes(model, records),
      ...bittorrent?.forSwarm,
    },
    {
      rates: { down: config.downloadRateMax, up: config.uploadRateMax },
      ...(bittorrent === undefined ? {} : { listenPort: bittorrent.port }),
    },
  )
  bittorrent?.serve(swarm)
  swarm.start()
  stopper.add('the swarm', () => swarm.stop())
  const origins = await createOrigins(
    {
      clock,
      random,
      log,
      env: parts.env ?? {},
      stagingDir: join(dataDir.path, 'staging'),
      bytesPerSecondMax: config.downloadRateMax,
    },
    config.sources === undefined ? {} : await readSources(config.sources),
  )
  const weights = new Weights({
    clock,
    log,
    shelf: new Shelf({ log, models: dataDir.models, blobs }),
    swarm,
    stores: { models: dataDir.models, votes: dataDir.votes, blobs },
    signer: own.identity.provider,
    self: () => net.host.id,
    lookUp: (text, options) => modelsCalled(discovery, text, options),
    connect: (address, options) => net.host.connect(address, options),
    origins,
    measure: task => measureVector({ clock, random, log }, config.engine, task),
    tryModel: task => tryModel({ clock, random, log }, config.engine, task),
    onShared: parts.offered,
    hasBitTorrent: bittorrent !== undefined,
    sharesByDefault: config.share !== false,
  })
  stopper.add('the weights', () => weights.stop())
  made.weights = weights
  net.late.shared = () => weights.shared()
  await weights.start()
  return weights
}

/** Who holds weights of a model: those that say so, and those that serve layers of it. */
async function* holdersOf(
  discovery: Pick<Discovery, 'find'>,
  model: string,
  options: { readonly signal: AbortSignal },
): AsyncGenerator<{ readonly peer: string; readonly addresses: readonly string[] }> {
  for (const service of ['weights', 'stage']) {
    for await (const { peer, addresses } of discovery.find({ service, model }, options)) yield { peer, addresses }
  }
}

async function* modelsCalled(
  discovery: Pick<Discovery, 'find'>,
  text: string,
  options: { readonly signal: AbortSignal },
): AsyncGenerator<string> {
  for await (const { model } of discovery.find({ service: 'weights', model: text }, options)) {
    if (model !== undefined) yield model
  }
}
