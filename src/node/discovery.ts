/** The node's part in finding peers: makes `#kad`, `#mainline` and `#discovery` of what its owner wants, and feeds them. */
import { type Clock, type KeyValueStore, type Logger, type Random, toHex } from '#base'
import { sha256 } from '#crypto'
import { createDiscovery, type Discovery, type PeerFault, type Service, SERVICES_MAX } from '#discovery'
import type { KeyProvider } from '#identity'
import { createKad, type Kad } from '#kad'
import type { MainlineNode } from '#mainline'
import type { Host, HostServices } from '#net'
import type { Penalties, PenaltyKind } from '#protocol'
import type { Reach } from '#reach'
import type { DataDir } from '#storage'
import { isOfThisMachine, type NodeOffer } from '#wire'
import { createKadRecords, KAD_KINDS } from './kad-records.ts'
import { mayRoute, ownPuzzle } from './kad-puzzle.ts'
import { PEERS_CROWDED } from './limits.ts'
import { startMainline } from './mainline.ts'
import { ownFacts } from './own-metadata.ts'
import type { Stopper } from './stopper.ts'
import type { NodeConfig } from './types.ts'

export type DiscoveryConfig = Pick<NodeConfig, 'secret' | 'listen' | 'topic' | 'dht' | 'mainline'>

/** Kademlia over a host that is made later. */
export type KadParts = {
  readonly kad: Kad
  /** For the host, which mounts it on its libp2p node. */
  readonly services: HostServices
}

type System = { readonly clock: Clock; readonly random: Random; readonly log: Logger }

/** @param host asked only once it runs @returns undefined where the owner wants no DHT among the swarm's nodes */
export function createSwarmKad(
  deps: System & { readonly store: KeyValueStore },
  config: DiscoveryConfig,
  host: () => Host | undefined,
): KadParts | undefined {
  if (config.dht === false) return undefined
  const made: { kad?: Kad } = {}
  const isClosed = config.secret !== undefined
  const services: HostServices = ({ connection, isAdmitted }) => {
    const known = (peer: string): boolean => {
      const found = host()
        ?.peers()
        .find(({ id }) => id === peer)
      // Who is not connected shows its puzzle when it is.
      return found === undefined || mayRoute(found, isClosed)
    }
    const kad = createKad(
      {
        ...deps,
        log: deps.log.child('kad'),
        gate: { openConnection: connection, isAdmitted, mayRoute: known },
        addresses: () => host()?.addresses() ?? [],
      },
      { mode: 'server', kinds: KAD_KINDS },
    )
    made.kad = kad
    return { kad: kad.mount }
  }
  return {
    get kad() {
      if (made.kad === undefined) throw new Error('the host has been made')
      return made.kad
    },
    services,
  }
}

export type DiscoveryParts = System & {
  readonly host: Host
  readonly reach: Reach
  readonly kad: Kad | undefined
  readonly signer: KeyProvider
  readonly dataDir: Pick<DataDir, 'knownPeers' | 'kad'>
  readonly penalties: Pick<Penalties, 'add'>
  readonly capabilities: readonly string[]
  readonly config: DiscoveryConfig
  readonly stopper: Stopper
  readonly ownOffer: () => NodeOffer
  /** Models whose weights peers may fetch here. */
  readonly shared: () => readonly { readonly id: string; readonly name: string }[]
}

export type StartedDiscovery = {
  readonly discovery: Discovery
  readonly mainline: MainlineNode | undefined
  /** Our solution of the id puzzle, once there is one and it is needed. */
  readonly puzzle: () => string | undefined
  /** The offer has changed: what is announced follows. */
  readonly offered: () => void
}

/**
 * A node that crashes and comes back, or is killed, begins each life with the same few messages: more of them than are
 * answered are refused, and cost little, as requests beyond an allowance do. What no honest node says costs as much as
 * elsewhere.
 */
export function costOf(code: PeerFault['code']): PenaltyKind {
  return code === 'DISCOVERY_FLOOD' ? 'rate-limited' : 'malformed'
}

/** Begins once the host listens. */
export async function startDiscovery(parts: DiscoveryParts): Promise<StartedDiscovery> {
  const { clock, random, host, kad, signer, dataDir, penalties, config, stopper, reach } = parts
  const log = parts.log.child('discovery')
  const mainline =
    config.mainline === undefined ? undefined : await startMainline({ ...parts, store: dataDir.kad }, config.mainline)
  const discovery = createDiscovery(
    {
      clock,
      random,
      log,
      signer,
      host: {
        id: host.id,
        peers: () => host.peers(),
        onPeer: listener => void host.onPeer(listener),
        open: (peer, protocol, options) => host.open(peer, protocol, options),
        handle: (protocol, handler) => host.handle(protocol, handler),
        connect: (address, options) => host.connect(address, options),
        addresses: () => host.addresses(),
        release: peer => release(host, peer),
      },
      store: dataDir.knownPeers,
      ...(mainline === undefined ? {} : { mainline }),
      ...(kad === undefined ? {} : { kad: createKadRecords({ clock, signer }, kad) }),
      facts: () => ownFacts(parts),
      onFault: (peer, { code }) => void penalties.add(peer, costOf(code)),
    },
    { topic: topicOf(config), peersCrowded: PEERS_CROWDED },
  )
  stopper.add('discovery', () => discovery.stop())
  discovery.start()
  if (kad !== undefined) followPeers(host, kad)
  reach.onChange(({ type, ips }) => {
    discovery.factsChanged()
    // Whom nobody can dial would only cost those who ask it; but in a swarm on one machine or network everybody can.
    const isHidden = type === 'nat' && ips.length > 0
    kad?.setMode(isHidden ? 'client' : 'server').catch(() => undefined) // Stopping: nobody is asked any more.
  })
  host.relay.onAddresses(() => discovery.factsChanged())
  const solved = solvePuzzle(parts, log)
  const offered = (): void => discovery.announce(servicesOf(parts.ownOffer(), parts.shared()))
  offered()
  return { discovery, mainline, puzzle: () => solved.puzzle, offered }
}

/** Those who come may enter the routing table, with the addresses that they say. */
function followPeers(host: Host, kad: Kad): void {
  host.onPeer(({ kind, peer }) => {
    if (kind !== 'left' && peer.offer.addresses.length > 0) kad.addPeer(peer.id, peer.offer.addresses)
  })
}

/** Where strangers may join from elsewhere, an id has to have cost something. */
function solvePuzzle(parts: DiscoveryParts, log: Logger): { puzzle?: string } {
  const { config, host, dataDir, stopper, kad } = parts
  const solved: { puzzle?: string } = {}
  const isLocal = config.listen.every(isOfThisMachine)
  if (kad === undefined || config.secret !== undefined || isLocal) return solved
  void ownPuzzle({ ...parts, log, store: dataDir.kad }, host.id, { signal: stopper.signal }).then(puzzle => {
    if (puzzle !== undefined) solved.puzzle = puzzle
  })
  return solved
}

/** Whether the connection is of no use to anybody, and is given up for a newcomer. */
function release(host: Host, id: string): boolean {
  const peer = host.peers().find(each => each.id === id)
  if (peer === undefined || peer.holds.length > 0 || peer.streams.plane + peer.streams.libp2p > 0) return false
  host.drop(id, 'full')
  return true
}

/** Members of a private swarm meet under a name that only they can tell. */
function topicOf({ topic, secret }: DiscoveryConfig): string {
  const name = topic ?? 'koinon-mesh'
  if (secret === undefined) return name
  const text = new TextEncoder().encode(`koinon/topic/1/${name}/`)
  return toHex(sha256(Uint8Array.of(...text, ...secret))).slice(0, 40)
}

function servicesOf({ stages, relay }: NodeOffer, shared: ReturnType<DiscoveryParts['shared']>): Service[] {
  const served = stages.map(({ model, name, layers, layerCount }) => ({
    service: 'stage',
    model,
    modelName: name,
    layers,
    layerCount,
  }))
  // As many as an announcement holds: the rest is found by asking who is connected.
  const weights = shared
    .slice(0, SERVICES_MAX - served.length - 1)
    .map(({ id, name }) => ({ service: 'weights', model: id, modelName: name }))
  return [...served, ...(relay === undefined ? [] : [{ service: 'relay' }]), ...weights]
}
