/** The node among others: its host, what sessions remember, what it offers. It may not know yet which model it serves. */
import type { Clock, Logger, Random } from '#base'
import { createHost, type Host, type PeerGuard } from '#net'
import type { Reach } from '#reach'
import { BackOff, Penalties, PenaltyRecords, ReplayFilter } from '#protocol'
import type { DataDir } from '#storage'
import type { NodeOffer } from '#wire'
import { createSwarmKad, type KadParts } from './discovery.ts'
import { letsPeersMeet } from './first-contact.ts'
import { OfferKeeper } from './offer-keeper.ts'
import { type Found, makeOffer, type Offered } from './own-offer.ts'
import type { OwnIdentity } from './own-identity.ts'
import { createPunchTools } from './punch-tools.ts'
import { createPeerGuard } from './peer-guard.ts'
import { PeerWatch } from './peer-watch.ts'
import { resolveName } from './reach.ts'
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
}

export type Network = {
  readonly host: Host
  readonly view: SwarmView
  readonly watch: PeerWatch
  readonly offers: OfferKeeper
  readonly penalties: Penalties
  readonly guard: PeerGuard
  /** Kademlia on the host; undefined where the owner wants none. */
  readonly swarmKad: KadParts | undefined
  /** What is known only later. */
  readonly late: Late
  readonly capabilities: readonly string[]
  readonly ownOffer: () => NodeOffer
  readonly found: Found
}

/** What the host and the offers ask for, and what is made after them because it needs the host. */
export type Late = {
  host?: Host
  reach?: Reach
  offered?: Offered
  /** Models whose weights peers may fetch here. */
  shared?: () => readonly { readonly id: string; readonly name: string }[]
}

/** Everything is made, and nothing listens yet. */
export async function createNetwork(deps: NetworkDeps): Promise<Network> {
  const { config, stopper } = deps
  const capabilities = config.layers.kind === 'none' ? CAPABILITIES.filter(name => name !== 'stage') : CAPABILITIES
  const late: Late = {}
  const found: Found = { weightBytesPerSecond: 0 }
  const { host, penalties, guard, swarmKad } = await createGuardedHost(deps, { capabilities, late })
  stopper.add('the network', () => host.stop())
  const ownOffer = (): NodeOffer => makeOffer({ host, offered: late.offered, threads: config.engine.threads, found })
  // A node that is about to stop finishes what passes its stage, and is planned with by nobody.
  const announced = (): NodeOffer => {
    const isDraining = late.offered?.pipeline.stages.isDraining === true
    return isDraining ? { ...ownOffer(), stages: [] } : ownOffer()
  }
  const offers = new OfferKeeper(host, announced)
  offers.announce()
  const routes = (): ReturnType<ConstructorParameters<typeof SwarmView>[0]['routes']> =>
    late.offered?.pipeline.entry.generations().map(({ route }) => route ?? []) ?? []
  const view = new SwarmView({ host, ownOffer, routes })
  const watch = new PeerWatch(deps.clock, host)
  return { host, guard, swarmKad, late, penalties, capabilities, view, watch, offers, ownOffer, found }
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
