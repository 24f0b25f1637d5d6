/**
 * The host: libp2p below, admitted peers and byte streams above. Between them stand the sessions (one a connection),
 * the table of peers, and those who dial: callers, the keeper of configured peers, and introductions.
 */
import { assert, type ByteStream, type Clock, type Logger, type Random, repeat } from '#base'
import type { KeyProvider, NodeIdentity } from '#identity'
import { type AuditKind, type LinkDeps, type Party, type RefusalFacts } from '#protocol'
import {
  AGENT,
  type NodeOffer,
  nodeOfferSchema,
  PEER_ADDRESSES_MAX,
  type Priority,
  PROTOCOLS,
  type ProtocolId,
  type RefusalReason,
} from '#wire'
import { Acquaintances, targetOf } from './acquaintances.ts'
import { addressesOf, decodeAddress, parseAddress } from './address.ts'
import { Connector } from './connector.ts'
import type { DialTarget } from './dialler.ts'
import { lost, NetError, stopped } from './errors.ts'
import type { Node } from './libp2p.ts'
import { Breakers } from './life/breakers.ts'
import { type ConnectionEvent, Connections } from './life/connections.ts'
import type { HoldReason } from './life/holds.ts'
import { RECORD_LIFE_MS } from './limits.ts'
import { OwnAddresses } from './own-addresses.ts'
import { Paths } from './paths.ts'
import { type PeerGuard, subjectsOf } from './peer-guard.ts'
import { fitting, PeerRecords } from './peer-records.ts'
import { PeerTable } from './peer-table.ts'
import { DataPlane } from './plane/data-plane.ts'
import type { Session, SessionOwner } from './session.ts'
import { Relay } from './relay/relay.ts'
import { Sessions } from './sessions.ts'
import type { NetSettings } from './settings.ts'
import { type StreamHandler, Streams } from './streams.ts'
import type { Host, HostMessage, HostNetwork, HostOptions, LostPeer, Peer, PeerEvent } from './types.ts'

export type HostDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly identity: NodeIdentity
  /** How the identity's key came to be what it is, the oldest statement first. */
  readonly handovers: readonly Uint8Array[]
  /** What peers are told that this node can do. */
  readonly capabilities: readonly string[]
  /** What sessions remember. */
  readonly memory: Pick<LinkDeps, 'sessions' | 'peerKeys' | 'replay' | 'audit'>
  readonly guard: PeerGuard
  /** Whether others can dial this node; undefined: not known. Without it: never known. */
  readonly isPublic?: () => boolean | undefined
  /** Whether a peer may use more of our relaying than strangers. Without it: those who have proved the secret. */
  readonly isTrusted?: (peer: string) => boolean
  /** What peers are told until the first `announce`. Without it: a node that serves nothing. */
  readonly offer?: NodeOffer
}

/** With what `createHost` has made of the options. */
export type HostParts = HostDeps & {
  readonly node: Node
  readonly settings: NetSettings
  readonly allows: (peer: string) => boolean
}

export class Libp2pHost implements Host {
  readonly id: string
  readonly sessions: Sessions
  readonly relay: Relay
  readonly #deps: HostParts
  readonly #options: HostOptions
  readonly #paths = new Paths()
  readonly #table: PeerTable
  readonly #life: Connections<Session>
  readonly #breakers: Breakers
  readonly #own: OwnAddresses
  readonly #acquaintances: Acquaintances
  readonly #connector: Connector
  readonly #stopping = new AbortController()
  readonly #messageListeners = new Set<(message: HostMessage) => void>()
  #party: Party
  readonly #records: PeerRecords
  readonly #streams: Streams
  readonly #plane: DataPlane | undefined
  #offer: NodeOffer
  #isStarted = false
  #stopped: Promise<void> | undefined

  constructor(deps: HostParts, options: HostOptions) {
    this.#deps = deps
    this.#options = options
    this.id = deps.node.libp2p.peerId.toString()
    const { identity, handovers, capabilities } = deps
    this.#party = {
      peer: this.id,
      signer: identity.provider,
      handovers,
      capabilities,
      ...(identity.hybrid === undefined || options.hybridSignatures !== true ? {} : { hybrid: identity.hybrid }),
    }
    // The peer id of connections stays until the next start, and with it the key that speaks for its addresses.
    this.#records = new PeerRecords({ ...deps, signer: identity.provider })
    const { settings } = deps
    this.#life = new Connections(
      { ...deps, peerCount: () => this.#table.size, isPreferred: session => this.#table.isPreferred(session) },
      settings,
    )
    const life = this.#life
    this.#breakers = new Breakers(deps, settings)
    this.#table = new PeerTable({ ...deps, life }, { self: this.id })
    const { secret } = options
    this.sessions = new Sessions(
      {
        ...deps,
        life,
        paths: this.#paths,
        owner: this.#owner,
        party: () => this.#party,
        stopping: this.#stopping.signal,
      },
      { secret },
    )
    this.#connector = new Connector({
      ...deps,
      self: this.id,
      stopping: this.#stopping.signal,
      dial: (address, options) =>
        address.relay === undefined
          ? deps.node.libp2p.dial(address.target, options)
          : this.relay.dial(address, options),
      adopt: (pipe, options) => deps.node.adopt(pipe, options),
      paths: this.#paths,
      breakers: this.#breakers,
      transports: deps.node.transports,
      isHere: peer => this.#table.has(peer),
      sessionOf: (connection, options) => this.sessions.dialled(connection, options),
    })
    this.#plane = this.#createPlane()
    this.#streams = new Streams({
      ...deps,
      libp2p: deps.node.libp2p,
      plane: this.#plane,
      sessionOf: connection => this.sessions.get(connection),
      preferred: peer => this.#table.session(peer),
      offerOf: peer => this.#table.offer(peer),
      reconnect: (peer, options) => this.#acquaintances.reconnect(peer, options),
      onDead: session => session.end(lost(session.peer)),
      onGone: peer => this.#acquaintances.forget(peer),
      guestCount: () => this.sessions.inPhase('guest').length,
      onFault: (session, reason) => this.#onFault(session, reason),
    })
    this.relay = this.#createRelay()
    this.#own = new OwnAddresses(
      { self: this.id, listening: () => deps.node.listening(), relayed: () => this.relay.addresses() },
      options.listen,
    )
    this.#acquaintances = new Acquaintances(
      {
        ...deps,
        self: this.id,
        table: this.#table,
        records: this.#records,
        mayDial: peer =>
          deps.allows(peer) &&
          deps.guard.refuses([peer]) === undefined &&
          this.#breakers.restsForMs(peer) === undefined,
        connect: (target, connecting) => this.#connectFor(target, connecting),
        hold: (peer, reason) => this.hold(peer, reason),
        stopping: this.#stopping.signal,
      },
      { meets: this.#meets },
    )
    this.#offer = deps.offer ?? {
      agent: AGENT,
      addresses: [],
      memoryBytes: 0,
      threads: 1,
      weightBytesPerSecond: 0,
      stages: [],
    }
  }

  async start(): Promise<void> {
    const { libp2p } = this.#deps.node
    this.#assertRuns()
    this.relay.check()
    await libp2p.handle(PROTOCOLS.control, (stream, connection) => this.sessions.onControl(stream, connection), {
      maxInboundStreams: 1,
    })
    await this.#plane?.start()
    try {
      await libp2p.start()
    } catch (error) {
      await this.#plane?.stop()
      throw new NetError({ code: 'NET_LISTEN_FAILED' }, 'the listen addresses could not be had', { cause: error })
    }
    this.#streams.handle(PROTOCOLS.relay, stream => this.relay.accept(stream))
    this.relay.start()
    this.#isStarted = true
    void this.#life.run({ signal: this.#stopping.signal })
    await this.#records.make(this.addresses())
    void repeat(this.#deps.clock, () => this.#records.make(this.addresses()), {
      periodMs: RECORD_LIFE_MS / 4,
      signal: this.#stopping.signal,
    })
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  addresses(): readonly string[] {
    return this.#own.all()
  }

  async connect(address: string, options: { readonly signal?: AbortSignal } = {}): Promise<string> {
    return this.#connectFor(targetOf(parseAddress(address)), options)
  }

  keepConnected(addresses: readonly string[]): void {
    this.#assertRuns()
    this.#acquaintances.keep(addresses)
  }

  async open(
    peer: string,
    protocol: ProtocolId,
    options: { readonly signal?: AbortSignal; readonly addresses?: readonly string[] } = {},
  ): Promise<ByteStream> {
    if (!this.#table.has(peer)) {
      const addresses = addressesOf(peer, options.addresses ?? [])
      if (addresses.length === 0) {
        throw new NetError({ code: 'NET_PEER_UNKNOWN', peer }, 'no connection to the peer, and no address to dial')
      }
      await this.#connectFor({ peer, addresses }, options)
    }
    const session = this.#table.session(peer)
    if (session === undefined) throw lost(peer)
    return this.#streams.open(session, protocol, options)
  }

  handle(protocol: ProtocolId, handler: StreamHandler): void {
    this.#streams.handle(protocol, handler)
  }

  handleGuests(protocol: ProtocolId, handler: StreamHandler): void {
    this.#streams.handleGuests(protocol, handler)
  }

  peers(): readonly Peer[] {
    return this.#table.peers()
  }

  onPeer(listener: (event: PeerEvent) => void): () => void {
    return this.#table.onPeer(listener)
  }

  onConnection(listener: (event: ConnectionEvent) => void): () => void {
    return this.#life.onConnection(listener)
  }

  onLost(listener: (lost: LostPeer) => void): () => void {
    return this.#acquaintances.lost.add(listener)
  }

  hold(peer: string, reason: HoldReason): () => void {
    return this.#life.hold(peer, reason)
  }

  network(): HostNetwork {
    const planePort = this.#plane?.port
    return {
      listening: this.#deps.node.listening().map(String),
      addresses: this.addresses(),
      ...(planePort === undefined ? {} : { planePort }),
      connections: this.#life.facts(),
      breakers: this.#breakers.facts(),
      settings: this.#deps.settings,
    }
  }

  onGone(listener: (peer: string) => void): () => void {
    return this.#acquaintances.gone.add(listener)
  }

  onMessage(listener: (message: HostMessage) => void): void {
    this.#messageListeners.add(listener)
  }

  sendMessage(
    peer: string,
    message: { readonly type: number; readonly body: unknown },
    options: { readonly priority?: Priority } = {},
  ): boolean {
    return this.#table.session(peer)?.send(message.type, message.body, options) ?? false
  }

  drop(peer: string, reason: RefusalReason, facts: RefusalFacts = {}): void {
    for (const session of this.sessions) if (session.peer === peer) session.refuse(reason, facts)
  }

  async room(peer: string): Promise<void> {
    await this.#table.session(peer)?.room()
  }

  rotate(signer: KeyProvider, statement: Uint8Array): void {
    this.#party = { ...this.#party, signer, handovers: [...this.#party.handovers, statement] }
    for (const session of this.sessions) session.rotate(statement, signer)
  }

  announce(offer: NodeOffer): void {
    // Peers drop us for an offer that is not valid: better to fail here.
    this.#offer = nodeOfferSchema.parse(offer)
    this.#announceAll()
  }

  onFound(peer: string, addresses: readonly string[]): void {
    this.#acquaintances.found([{ id: peer, addresses: addresses.slice(0, PEER_ADDRESSES_MAX) }])
  }

  readonly #owner: SessionOwner = {
    hasRoom: session => this.#table.hasRoom(session.peer),
    offer: () => ({
      ...this.#offer,
      addresses: this.#own.withRelays(this.#offer.addresses.length > 0 ? this.#offer.addresses : this.#own.listening()),
      ...(this.relay.offer() === undefined ? {} : { relay: this.relay.offer() }),
      ...(this.#plane?.port === undefined ? {} : { planePort: this.#plane.port }),
    }),
    record: () => this.#records.own,
    introductions: session => (this.#meets ? fitting(this.#table.introductions(session.peer), this.#party.signer) : []),
    onJoined: (session, announcement) => {
      const { guard } = this.#deps
      guard.succeeded(subjectsOf(session))
      this.#breakers.succeeded(session.peer)
      this.sessions.onJoined(session)
      const isNew = this.#table.join(session, announcement)
      this.#streams.sessionJoined(session)
      this.#acquaintances.joined(session.peer, announcement.record, { isNew })
    },
    onOffer: (session, announcement) => {
      this.#table.update(session, announcement)
      this.#acquaintances.joined(session.peer, announcement.record, { isNew: false })
    },
    onIntroduced: (peers, options) => this.#acquaintances.introduced(peers, options),
    onMessage: (session, message) => {
      for (const listener of this.#messageListeners) listener({ peer: session.peer, ...message })
    },
    onFault: (session, reason) => this.#onFault(session, reason),
    onRtt: session => {
      this.#table.update(session)
      if (this.#table.isRedundant(session, this.#deps.clock.monotonic())) session.end(lost(session.peer))
    },
    onUsed: session => this.#life.used(session),
    onEnded: (session, ended) => this.#onEnded(session, ended),
  }

  get #meets(): boolean {
    return this.#options.meet ?? this.#options.secret !== undefined
  }

  #onFault(session: Session, reason: RefusalReason): void {
    const { peer } = session
    this.#deps.memory.audit.record(AUDITED[reason] ?? 'refused', { peer, reason })
    this.#deps.guard.fault(subjectsOf(session), reason)
  }

  #connectFor(target: DialTarget, options: { readonly signal?: AbortSignal }): Promise<string> {
    this.#assertRuns()
    assert(this.#isStarted, 'a host is started before it dials')
    return this.#connector.connect(target, options)
  }

  #onEnded(session: Session, { error, code }: Parameters<SessionOwner['onEnded']>[1]): void {
    const { peer } = session
    const addresses = this.#table.addresses(peer)
    // Those who hear that the peer has left give up their holds.
    const lost = { peer, addresses, holds: this.#life.holdsOf(peer), ...(code === undefined ? {} : { code }) }
    const hasLeft = this.#table.leave(session)
    this.sessions.onEnded(session, code)
    if (!hasLeft) return
    this.#plane?.forget(peer)
    // Who was sent away, or said goodbye, is not waited for.
    const isFinal = error.code === 'NET_NOT_ADMITTED' || this.#stopping.signal.aborted
    this.#streams.peerLeft(session, { isFinal })
    this.#acquaintances.left(lost)
  }

  #createRelay(): Relay {
    const { secret, relay = 'auto', relaysHeld, region } = this.#options
    const open = async (peer: string, options: { readonly signal: AbortSignal }): Promise<ByteStream> => {
      return this.open(peer, PROTOCOLS.relay, options)
    }
    return new Relay(
      {
        ...this.#deps,
        self: this.id,
        isPublic: () => this.#deps.isPublic?.(),
        isTrusted: peer => this.#deps.isTrusted?.(peer) ?? secret !== undefined,
        table: this.#table,
        connector: () => this.#connector,
        adopt: (pipe, options) => this.#deps.node.adopt(pipe, options),
        open,
        listening: () => this.#own.listening(),
        onChange: () => this.#announceAll(),
        onAddresses: () => void this.#onOwnAddresses(),
        stopping: this.#stopping.signal,
      },
      {
        mode: relay,
        ...(relaysHeld === undefined ? {} : { reservations: relaysHeld }),
        ...(region === undefined ? {} : { region }),
      },
    )
  }

  /** Our addresses are others now: peers hear of it at once. */
  async #onOwnAddresses(): Promise<void> {
    if (!this.#isStarted || this.#stopping.signal.aborted) return
    await this.#records.make(this.addresses())
    this.#announceAll()
  }

  #announceAll(): void {
    for (const session of this.sessions) session.announce()
  }

  /** Where the host itself listens, at a port of its own. */
  #createPlane(): DataPlane | undefined {
    const { listen, planePort = 0 } = this.#options
    const addresses = listen.map(decodeAddress).filter(address => address !== undefined)
    const hosts = [...new Set(addresses.map(({ host }) => host))]
    // Its sockets are TCP's.
    if (planePort === 'off' || !this.#deps.node.transports.has('tcp')) return undefined
    const { clock, random, log } = this.#deps
    return new DataPlane(
      {
        clock,
        random,
        log,
        sessions: () => this.sessions,
        refuses: from => this.sessions.subjectOfNewcomer(from) === undefined,
        serves: protocol => this.#streams.serves(protocol),
        onStream: (stream, session) => void this.#streams.serve(stream, session),
      },
      { hosts, port: planePort },
    )
  }

  #assertRuns(): void {
    if (this.#stopping.signal.aborted) throw stopped()
  }

  async #stop(): Promise<void> {
    this.#stopping.abort(stopped())
    await this.relay.stop()
    const sessions = [...this.sessions]
    for (const session of sessions) session.refuse('stopping')
    await Promise.all([this.#acquaintances.stop(), this.#connector.settled()])
    await Promise.all(sessions.map(session => session.ended()))
    await this.#streams.stop()
    await this.#plane?.stop()
    await this.#deps.node.stop()
  }
}

/** How the audit log calls what a peer was refused for. */
const AUDITED: Partial<Readonly<Record<RefusalReason, AuditKind>>> = {
  authentication: 'authentication-failed',
  'proof-wrong': 'authentication-failed',
  superseded: 'peer-key-refused',
  replay: 'replay',
  flood: 'rate-limited',
}
