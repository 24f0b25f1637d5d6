/** What this node knows of the swarm right now, in the forms that the planner and the surfaces want. */
import type { LayerRange } from '#base'
import type { Host, Peer } from '#net'
import type { PlanNode, RouteOffer, ServedRange } from '#planner'
import type { NodeOffer, PeerRelay, PeerSummary, RelayStatus, RouteHop, StageOffer, StageStatus } from '#wire'

export type ViewDeps = {
  readonly host: Pick<Host, 'id' | 'peers' | 'addresses'>
  /** Our own offer as it is now. */
  readonly ownOffer: () => NodeOffer
  /** Routes of the generations that entered here and run now. */
  readonly routes: () => readonly (readonly RouteHop[])[]
}

export class SwarmView {
  readonly #deps: ViewDeps

  constructor(deps: ViewDeps) {
    this.#deps = deps
  }

  /** Every stage of the model that somebody serves, our own first. */
  routeOffers(model: string): RouteOffer[] {
    const { host, ownOffer } = this.#deps
    const inFlight = this.#inFlight()
    const of = (stages: readonly StageOffer[]): StageOffer[] => stages.filter(stage => stage.model === model)
    const own = of(ownOffer().stages).map(stage => ({
      peer: host.id,
      addresses: host.addresses(),
      stage,
      rttMs: 0,
      isSelf: true,
      inFlight: inFlight.get(host.id) ?? 0,
    }))
    const others = host.peers().flatMap(peer =>
      of(peer.offer.stages).map(stage => ({
        peer: peer.id,
        addresses: addressesOf(peer),
        stage,
        ...(peer.rttMs === undefined ? {} : { rttMs: peer.rttMs }),
        isSelf: false,
        inFlight: inFlight.get(peer.id) ?? 0,
        isSilent: peer.pingFailures > 0,
      })),
    )
    return [...own, ...others]
  }

  #inFlight(): ReadonlyMap<string, number> {
    const counts = new Map<string, number>()
    for (const route of this.#deps.routes()) {
      for (const { peer } of route) counts.set(peer, (counts.get(peer) ?? 0) + 1)
    }
    return counts
  }

  /** Ranges of the model that peers serve: what a new stage here would stand beside. */
  servedByPeers(model: string): (ServedRange & { readonly peer: string })[] {
    return this.routeOffers(model)
      .filter(offer => !offer.isSelf)
      .map(({ peer, stage }) => ({ peer, layers: stage.layers, stepMs: stage.stepMs }))
  }

  /** Who serves what of the model. */
  served(model: string): RouteHop[] {
    return this.routeOffers(model).map(({ peer, stage }) => ({ peer, layers: stage.layers }))
  }

  /** Peers that wait for, or have, their share of the model (automatic placement). */
  placing(model: string): Peer[] {
    return this.#deps.host.peers().filter(peer => peer.offer.placing === model)
  }

  /** This node and its peers as the planner sees them. Nodes that give no memory serve nothing and are left out. */
  planNodes(): PlanNode[] {
    const own = this.#deps.ownOffer()
    const all = [{ id: this.#deps.host.id, offer: own }, ...this.#deps.host.peers()]
    return all.filter(({ offer }) => offer.memoryBytes > 0).map(({ id, offer }) => toPlanNode(id, offer, own))
  }

  /** @param now the clock's monotonic time */
  summaries(now: number, relaying: RelayStatus): PeerSummary[] {
    return this.#deps.host.peers().map(peer => ({
      peer: peer.id,
      ...peer.protocol,
      addresses: addressesOf(peer),
      direction: peer.direction,
      path: peer.path,
      connectedMs: Math.max(0, now - peer.connectedAt),
      ...(peer.rttMs === undefined ? {} : { rttMs: peer.rttMs }),
      streams: peer.streams,
      stages: peer.offer.stages.map(stage => toStageStatus(stage)),
      memoryBytes: peer.offer.memoryBytes,
      ...relayOf(peer, relaying),
    }))
  }
}

/** What one of the two relays for the other; nothing where neither does nor offers to. */
function relayOf({ id, offer }: Peer, { serving, held }: RelayStatus): { readonly relay?: PeerRelay } {
  const isOurs = held.some(({ relay }) => relay === id)
  const isHere = serving.reservations.some(({ peer }) => peer === id)
  const circuits = serving.circuits.filter(({ from, to }) => from === id || to === id).length
  const bytes = serving.peers.find(({ peer }) => peer === id)?.bytes ?? 0
  if (offer.relay === undefined && !isOurs && !isHere && circuits === 0 && bytes === 0) return {}
  const { slots, slotsFree } = offer.relay ?? {}
  const offered = slots === undefined || slotsFree === undefined ? {} : { slots, slotsFree }
  return { relay: { ...offered, isOurs, isHere, circuits, bytes } }
}

/** A node that does not say how much KV it keeps room for is taken to be set up like this one. */
export function toPlanNode(id: string, offer: NodeOffer, own: NodeOffer): PlanNode {
  return {
    id,
    memoryBytes: offer.memoryBytes,
    weightBytesPerSecond: offer.weightBytesPerSecond,
    kvPositions: offer.kvPositions ?? own.kvPositions ?? 0,
  }
}

/** A stage as status shows it. A peer does not tell how many rows its generations hold. */
export function toStageStatus(stage: StageOffer, kvRows = 0): StageStatus {
  const { model, name, layers, layerCount, slots, slotsFree, stepMs } = stage
  return { model, name, layers, layerCount, slots, slotsFree, kvRows, stepMs }
}

export function isSameRange(a: LayerRange, b: LayerRange): boolean {
  return a.first === b.first && a.last === b.last
}

const addressesOf = (peer: Peer): readonly string[] =>
  peer.addresses.length > 0 ? peer.addresses : peer.offer.addresses
