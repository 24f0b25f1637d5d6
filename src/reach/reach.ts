/**
 * Whether this node can be reached, and where: puts together what the machine, the gateway, STUN servers, peers and the
 * owner say, has it proved by dial-backs, and tells the host and whoever listens.
 *
 * It looks at everything every few seconds and soon after anything has happened. A look is cheap and synchronous; what
 * takes time (dial-backs, detection, mapping) goes on beside it and asks for another look when it has something.
 */
import { type CancelTimer, messageOf, repeat } from '#base'
import type { Endpoint } from '#nat'
import type { PeerEvent } from '#net'
import { type NodeType, PROTOCOLS, type ReachReport } from '#wire'
import { decodePlace, encodePlace, isPublicIp } from './address.ts'
import { candidatesOf, type Evidence, externalOf, type Judged, transportsOf, typeOf } from './candidates.ts'
import { DialBackClient } from './dial-back-client.ts'
import { DialBackServer } from './dial-back-server.ts'
import { LOOK_MS, SETTLE_MS } from './limits.ts'
import { Mappings, type WantedPort } from './mappings.ts'
import { NatWatch } from './nat-watch.ts'
import { Proofs } from './proofs.ts'
import { Prover } from './prover.ts'
import { describeReach } from './report.ts'
import { Sightings } from './sightings.ts'
import { StunNames } from './stun-names.ts'
import { StunService } from './stun-service.ts'
import type { Reach, ReachChange, ReachDeps, ReachOptions } from './types.ts'

/** Ports that the gateway is asked to map. */
const WANTED_PORTS_MAX = 6

/** Makes what finds out whether the host can be reached. It does nothing before `start`. */
export function createReach(deps: ReachDeps, options: ReachOptions = {}): Reach {
  return new ReachKeeper({ ...deps, log: deps.log.child('reach') }, options)
}

class ReachKeeper implements Reach {
  readonly #deps: ReachDeps
  readonly #options: ReachOptions
  readonly #isUsable: (ip: string) => boolean
  readonly #stopping = new AbortController()
  readonly #listeners = new Set<(change: ReachChange) => void>()
  readonly #proofs: Proofs
  readonly #sightings: Sightings
  readonly #server: DialBackServer
  readonly #client: DialBackClient
  readonly #prover: Prover
  readonly #nat: NatWatch
  readonly #mappings: Mappings
  readonly #stun: StunService
  readonly #names: StunNames
  #judged: readonly Judged[] = []
  #type: NodeType = 'unknown'
  #local = ''
  /** Counts the networks that this node has been in. */
  #network = 0
  #agreed: readonly string[] = []
  #told = ''
  #external: readonly string[] = []
  #cancelLook: CancelTimer | undefined
  #stopped: Promise<void> | undefined

  constructor(deps: ReachDeps, options: ReachOptions) {
    const { isUsable = isPublicIp } = options
    this.#deps = deps
    this.#options = options
    this.#isUsable = isUsable
    const soon = (): void => this.#soon()
    this.#proofs = new Proofs(deps)
    this.#sightings = new Sightings(deps, { isUsable })
    this.#server = new DialBackServer({ ...deps, isUsable })
    this.#client = new DialBackClient({ ...deps, isUsable })
    this.#prover = new Prover({ ...deps, client: this.#client, proofs: this.#proofs, isUsable, onProved: soon })
    this.#nat = new NatWatch({ ...deps, onDetected: soon })
    this.#mappings = new Mappings({ ...deps, onChanged: soon })
    this.#stun = new StunService({ ...deps, onChanged: soon })
    this.#names = new StunNames(deps, { names: options.stun ?? [], onResolved: soon })
  }

  get type(): NodeType {
    return this.#type
  }

  get mayRelay(): boolean {
    return this.#type === 'public'
  }

  get stunPort(): number | undefined {
    return this.#stun.port
  }

  start(): void {
    const { host, clock } = this.#deps
    this.#external = this.#owned
    host.setExternalAddresses(this.#external)
    host.handle(PROTOCOLS.reach, stream => this.#server.serve(stream))
    host.handleProbes(PROTOCOLS.reachBack, (stream, from) => this.#client.onProbe(stream, from))
    host.onPeer(event => this.#onPeer(event))
    this.#local = this.#localNetwork()
    this.#look()
    void repeat(clock, () => this.#look(), { periodMs: LOOK_MS, signal: this.#stopping.signal })
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  stunServers(): readonly Endpoint[] {
    return this.#names.serversWith(this.#sightings.stunServers())
  }

  onChange(listener: (change: ReachChange) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  status(): ReachReport {
    const evidence = this.#evidence()
    return describeReach({
      type: this.#type,
      judged: this.#judged,
      external: this.#external,
      owned: this.#owned,
      transports: transportsOf(this.#judged, evidence, this.#type),
      isLocalOnly: evidence.listening.length > 0 && evidence.listening.every(({ ip }) => isLoopback(ip)),
      nat: this.#nat,
      agreed: evidence.agreed,
      localAddresses: this.#deps.localAddresses(),
      mapping: {
        isOff: this.#options.mapPorts === false,
        isAsking: this.#mappings.isAsking,
        isWanted: this.#wantedPorts(evidence).length > 0,
        ports: this.#mappings.ports,
      },
      stunPort: this.stunPort,
    })
  }

  get #owned(): readonly string[] {
    return this.#options.external ?? []
  }

  /** Peers change with every ping; what matters here is who comes and goes, and who has a STUN server now. */
  #onPeer({ kind, peer }: PeerEvent): void {
    if (kind !== 'changed' || this.#sightings.isNews(peer)) this.#soon()
  }

  /** Things happen in groups: one look for all of them. */
  #soon(): void {
    if (this.#stopping.signal.aborted) return
    this.#cancelLook ??= this.#deps.clock.after(SETTLE_MS, () => {
      this.#cancelLook = undefined
      this.#look()
    })
  }

  #look(): void {
    if (this.#stopping.signal.aborted) return
    try {
      this.#notice()
      this.#judge()
      this.#act()
    } catch (error) {
      this.#deps.log.error('the network could not be judged', { error: messageOf(error) })
    }
  }

  /** Whether the network is another one than at the last look: then what was known does not count any more. */
  #notice(): void {
    const local = this.#localNetwork()
    const hasMoved = local !== this.#local
    if (hasMoved) {
      this.#local = local
      this.#sightings.clear()
      void this.#mappings.moved()
    }
    this.#sightings.look(this.#deps.host.peers())
    const agreed = this.#sightings.agreed()
    // That nobody agrees any more, or that somebody does for the first time, says nothing about what was proved before.
    const hasOther = this.#agreed.some(ip => agreed.some(other => isOneFamily(ip, other)) && !agreed.includes(ip))
    if (agreed.length > 0) this.#agreed = agreed
    if (!hasMoved && !hasOther) return
    this.#deps.log.info('the network has changed')
    this.#network++
    this.#proofs.clear()
    this.#prover.clear()
    this.#nat.clear()
  }

  #judge(): void {
    const evidence = this.#evidence()
    if (this.#options.mapPorts !== false) this.#mappings.look(this.#wantedPorts(evidence))
    this.#judged = candidatesOf(evidence).map(each => ({ ...each, reach: this.#proofs.verdict(each.place) }))
    const isSettled = !this.#mappings.isAsking && evidence.listening.length > 0
    this.#type = typeOf(this.#judged, this.#owned.length > 0, isSettled)
    const found = externalOf(this.#judged).map(({ place }) => encodePlace(place))
    const external = [...new Set([...this.#owned, ...found])]
    if (external.join() !== this.#external.join()) {
      this.#external = external
      this.#deps.host.setExternalAddresses(external)
    }
    this.#tell()
  }

  #act(): void {
    const { listening } = this.#evidence()
    this.#prover.look(this.#judged.map(({ place }) => place))
    this.#nat.look({ servers: this.stunServers(), network: String(this.#network) })
    const own = listening.filter(({ ip }) => this.#isUsable(ip) && !ip.includes(':')).map(({ ip }) => ip)
    void this.#stun.serveAt(this.#type === 'public' ? [...new Set(own)] : [])
  }

  #tell(): void {
    const { type, mayRelay } = this
    const ips = [...new Set([...this.#sightings.agreed(), ...this.#judged.filter(isTold).map(({ place }) => place.ip)])]
    const { nat, transports } = this.status()
    const change: ReachChange = {
      type,
      mayRelay,
      nat: nat.kind,
      transports,
      stunPort: this.stunPort,
      ips: ips.toSorted(),
      external: this.#external,
    }
    const told = JSON.stringify(change)
    if (told === this.#told) return
    this.#told = told
    for (const listener of this.#listeners) {
      try {
        listener(change)
      } catch (error) {
        this.#deps.log.error('a listener to changes of the network failed', { error: messageOf(error) })
      }
    }
  }

  #evidence(): Evidence {
    const { host } = this.#deps
    return {
      listening: host.listening().flatMap(text => decodePlace(text) ?? []),
      planePort: host.planePort,
      owned: this.#owned.flatMap(text => decodePlace(text) ?? []),
      mappings: this.#mappings.ports,
      agreed: this.#sightings.agreed(),
      dialled: this.#sightings.dialled(),
      isUsable: this.#isUsable,
    }
  }

  /** The ports that are listened at on addresses that are private, but not this machine's alone. */
  #wantedPorts({ listening, planePort }: Evidence): WantedPort[] {
    const inside = listening.filter(({ ip }) => !ip.includes(':') && !isLoopback(ip) && !this.#isUsable(ip))
    if (inside.length === 0) return []
    const wanted: WantedPort[] = inside.map(({ port, transport }) => ({
      protocol: transport === 'quic' ? 'udp' : 'tcp',
      internalPort: port,
    }))
    if (planePort !== undefined) wanted.push({ protocol: 'tcp', internalPort: planePort })
    const byKey = new Map(wanted.map(port => [`${port.protocol} ${port.internalPort}`, port]))
    return [...byKey.values()].slice(0, WANTED_PORTS_MAX)
  }

  #localNetwork(): string {
    return this.#deps.localAddresses().toSorted().join(' ')
  }

  async #stop(): Promise<void> {
    this.#stopping.abort(new Error('the node is stopping'))
    this.#cancelLook?.()
    this.#server.stop()
    await Promise.all([this.#prover.stop(), this.#nat.stop(), this.#mappings.stop(), this.#stun.stop()])
  }
}

function isTold({ source, reach }: Judged): boolean {
  return reach === 'reachable' || source === 'owner'
}

function isOneFamily(a: string, b: string): boolean {
  return a.includes(':') === b.includes(':')
}

function isLoopback(ip: string): boolean {
  return ip.startsWith('127.') || ip === '::1'
}
