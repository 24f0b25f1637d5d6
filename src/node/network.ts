/** The node among others: its host, what sessions remember, and the pipeline over the host's streams. */
import type { Clock, Logger, Random } from '#base'
import type { EdgeEngine } from '#engine'
import { createHost, type Host, type PeerGuard } from '#net'
import type { Reach } from '#reach'
import { createPipeline, type Pipeline } from '#pipeline'
import { BackOff, Penalties, PenaltyRecords, ReplayFilter } from '#protocol'
import type { DataDir } from '#storage'
import { type NodeOffer, PROTOCOLS, type RouteHop } from '#wire'
import { createSwarmKad, type KadParts } from './discovery.ts'
import { letsPeersMeet } from './first-contact.ts'
import { COMPLETION_WAIT_MS_MAX, DRAIN_MS } from './limits.ts'
import type { LocalModel } from './model-library.ts'
import { OfferKeeper } from './offer-keeper.ts'
import { makeOffer, type OfferParts } from './own-offer.ts'
import type { OwnIdentity } from './own-identity.ts'
import type { OwnStage } from './own-stage.ts'
import { createPunchTools } from './punch-tools.ts'
import { createPeerGuard } from './peer-guard.ts'
import { PeerWatch } from './peer-watch.ts'
import { resolveName } from './reach.ts'
import { holdStages } from './stage-holds.ts'
import type { Stopper } from './stopper.ts'
import { SwarmView } from './swarm-view.ts'
import type { NodeConfig } from './types.ts'

/** What this node can do, as peers are told in HELLO. */
const CAPABILITIES = ['commands', 'bulk', 'stage', 'resume', 'json'] as const

export type NetworkDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly config: NodeConfig
  readonly stopper: Stopper
  readonly dataDir: DataDir
  readonly own: OwnIdentity
  readonly model: LocalModel
  readonly edge: EdgeEngine
  readonly stage: OwnStage | undefined
  readonly found: OfferParts['found']
  readonly memoryBytes: number
}

export type Network = {
  readonly host: Host
  readonly pipeline: Pipeline
  readonly stage: OwnStage | undefined
  readonly view: SwarmView
  readonly watch: PeerWatch
  readonly offers: OfferKeeper
  readonly penalties: Penalties
  readonly guard: PeerGuard
  /** Kademlia on the host; undefined where the owner wants none. */
  readonly swarmKad: KadParts | undefined
  /** What is known only once the host runs. */
  readonly late: Late
  readonly capabilities: readonly string[]
  readonly ownOffer: () => NodeOffer
  readonly found: OfferParts['found']
}

/** What the host asks for, and what is made after it because it needs the host. */
export type Late = { host?: Host; reach?: Reach }

/** Everything is made, and nothing listens yet. */
export async function createNetwork(deps: NetworkDeps): Promise<Network> {
  const { config, stopper, model, stage, found } = deps
  const capabilities = config.layers.kind === 'none' ? CAPABILITIES.filter(name => name !== 'stage') : CAPABILITIES
  const late: Late = {}
  const { host, penalties, guard, swarmKad } = await createGuardedHost(deps, { capabilities, late })
  const pipeline = createPipeline(
    {
      ...deps,
      log: deps.log.child('pipeline'),
      self: host.id,
      selfAddresses: () => host.addresses(),
      openStream: (peer, protocol, options) => host.open(peer, protocol, options),
      edge: deps.edge,
      stage: stage === undefined ? undefined : { engine: stage.engine, served: () => stage.served() },
    },
    { openTimeoutMs: COMPLETION_WAIT_MS_MAX },
  )
  stopper.add('the network', () => host.stop())
  stopper.add('the pipeline', () => pipeline.stop())
  const watch = new PeerWatch(deps.clock, host)
  holdStages(host, model.id)
  // A connection that was cut is nothing to the pipeline as long as its streams may come back.
  host.onGone(peer => pipeline.peerLeft(peer))
  host.handle(PROTOCOLS.stage, stream => pipeline.accept(stream))
  const fixed = {
    // A node that serves no layers by its owner's will is not planned with.
    memoryBytes: config.layers.kind === 'none' ? 0 : deps.memoryBytes,
    kvPositions: config.slots * model.contextMax,
    threads: config.engine.threads,
  }
  const ownOffer = (): NodeOffer => makeOffer({ host, pipeline, stage, fixed, found })
  // A node that is about to stop finishes what passes its stage, and is planned with by nobody.
  const announced = (): NodeOffer => (pipeline.stages.isDraining ? { ...ownOffer(), stages: [] } : ownOffer())
  const offers = new OfferKeeper(host, announced)
  stopper.addDrain(() => {
    const drained = pipeline.drain({ timeoutMs: config.drainMs ?? DRAIN_MS })
    offers.announce()
    return drained
  })
  stage?.engine.onCrash(() => offers.announce())
  if (config.layers.kind === 'auto' && config.layers.nodes > 1) found.placing = model.id
  offers.announce()
  const routes = (): (readonly RouteHop[])[] => pipeline.entry.generations().map(({ route }) => route ?? [])
  const view = new SwarmView({ host, ownOffer, routes })
  const made = { host, guard, swarmKad, late, penalties, capabilities }
  return { ...made, pipeline, stage, view, watch, offers, ownOffer, found }
}

async function createGuardedHost(
  deps: NetworkDeps,
  { capabilities, late }: { readonly capabilities: readonly string[]; readonly late: Late },
): Promise<Pick<Network, 'host' | 'penalties' | 'guard' | 'swarmKad'>> {
  const { clock, random, config, dataDir, own, stopper } = deps
  const { sessions, peerKeys, audit } = dataDir
  const log = deps.log.child('net')
  const replay = new ReplayFilter({ clock, random, store: dataDir.replay, log })
  stopper.add('the replay filter', () => replay.flush())
  const records = new PenaltyRecords({ clock, store: dataDir.penalties })
  const penalties: Penalties = new Penalties({
    clock,
    records,
    audit,
    onVerdict: (peer, verdict) => {
      const facts = verdict === 'ban' ? { retryAfterMs: Math.ceil(penalties.bannedForMs(peer)) } : {}
      // A ban is written down by the penalties.
      if (verdict === 'disconnect') audit.record('refused', { peer, reason: 'penalties' })
      late.host?.drop(peer, verdict === 'ban' ? 'banned' : 'flood', facts)
    },
  })
  const guard = createPeerGuard({ penalties, backOff: new BackOff({ clock, records }) })
  const swarmKad = createSwarmKad({ clock, random, log: deps.log, store: dataDir.kad }, config, () => late.host)
  const host = await createHost(
    {
      clock,
      random,
      log,
      identity: own.identity,
      handovers: own.handovers,
      capabilities,
      memory: { sessions, peerKeys, replay, audit },
      guard,
      isPublic: () => isPublic(late.reach),
      punch: createPunchTools({ clock, random, log, reach: () => late.reach, resolve: resolveName }, config.turn),
    },
    {
      ...config,
      meet: letsPeersMeet(config),
      ...(swarmKad === undefined ? {} : { services: swarmKad.services }),
    },
  )
  late.host = host
  return { host, penalties, guard, swarmKad }
}

/** Undefined while nobody knows, and where nobody from elsewhere is to come: then all who do come are on this machine. */
function isPublic(reach: Reach | undefined): boolean | undefined {
  if (reach === undefined || reach.type === 'unknown' || reach.status().isLocalOnly) return undefined
  return reach.type === 'public'
}
