/**
 * The host: libp2p below, admitted peers and byte streams above. Between them stand the sessions (one a connection),
 * the table of peers, and those who dial: callers, the keeper of configured peers, and introductions.
 */
import { assert, type ByteStream, repeat } from '#base'
import type { KeyProvider } from '#identity'
import type { RefusalFacts } from '#protocol'
import {
  type NodeOffer,
  PEER_ADDRESSES_MAX,
  type Priority,
  PROTOCOLS,
  type ProtocolId,
  type RefusalReason,
} from '#wire'
import { Acquaintances, targetOf } from './acquaintances.ts'
import { addressesOf, parseAddress, transportsOf } from './address.ts'
import type { BytePipe } from './adopt.ts'
import { type Adoption, Connector } from './connector.ts'
import type { DialTarget } from './dialler.ts'
import { lost, NetError, stopped } from './errors.ts'
import { Breakers } from './life/breakers.ts'
import { type ConnectionEvent, Connections } from './life/connections.ts'
import type { HoldReason } from './life/holds.ts'
import { RECORD_LIFE_MS, SETTLED_MS } from './limits.ts'
import { OwnAddresses } from './own-addresses.ts'
import { OwnFacts } from './own-facts.ts'
import { Paths } from './paths.ts'
import { AUDITED_FAULTS, subjectsOf } from './peer-guard.ts'
import { fitting } from './peer-records.ts'
import { PeerTable } from './peer-table.ts'
import { createPlane } from './plane/create-plane.ts'
import type { DataPlane } from './plane/data-plane.ts'
import { probe } from './probe.ts'
import type { HostParts } from './host-deps.ts'
import { createDirect, type Direct } from './punch/direct.ts'
import type { Session, SessionOwner } from './session.ts'
import { createRelay } from './relay/create-relay.ts'
import type { Relay } from './relay/relay.ts'
import { Sessions } from './sessions.ts'
import { type StreamHandler, Streams } from './streams.ts'
import type {
  Host,
  HostMessage,
  HostNetwork,
  HostOptions,
  LostPeer,
  Peer,
  PeerEvent,
  Probe,
  ProbeHandler,
  ProbeOptions,
  ProbeTarget,
} from './types.ts'

export class Libp2pHost implements Host {
  readonly id: string
  readonly sessions: Sessions
  readonly relay: Relay
  readonly #deps: HostParts
  readonly #options: HostOptions
  readonly #meets: boolean
  readonly #paths = new Paths()
  readonly #table: PeerTable
  readonly #life: Connections<Session>
  readonly #breakers: Breakers
  readonly #addresses: OwnAddresses
  readonly #own: OwnFacts
  readonly #acquaintances: Acquaintances
  readonly #connector: Connector
  readonly #stopping = new AbortController()
  readonly #messageListeners = new Set<(message: HostMessage) => void>()
  readonly #streams: Streams
  readonly #plane: DataPlane | undefined
  readonly #direct: Direct | undefined
  #isStarted = false
  #stopped: Promise<void> | undefined

  constructor(deps: HostParts, options: HostOptions) {
    this.#deps = deps
    this.#options = options
    this.#meets = options.meet ?? options.secret !== undefined
    this.id = deps.node.libp2p.peerId.toString()
    const { settings } = deps
    this.#life = new Connections(
      { ...deps, peerCount: () => this.#table.size, isPreferred: session => this.#table.isPreferred(session) },
      settings,
    )
    this.#breakers = new Breakers(deps, settings)
    this.#table = new PeerTable({ ...deps, life: this.#life }, { self: this.id })
    this.#addresses = new OwnAddresses(
      { self: this.id, listening: () => deps.node.listening(), relayed: () => this.relay.addresses() },
      options.listen,
    )
    this.#own = new OwnFacts(
      {
        ...deps,
        self: this.id,
        addresses: this.#addresses,
        planePort: () => this.planePort,
        relay: () => this.relay.offer(),
      },
      { isHybrid: options.hybridSignatures === true, offer: deps.offer },
    )
    this.sessions = new Sessions(
      {
        ...deps,
        life: this.#life,
        paths: this.#paths,
        owner: this.#owner,
        party: () => this.#own.party,
        stopping: this.#stopping.signal,
      },
      { secret: options.secret },
    )
    this.#connector = this.#createConnector()
    this.#plane = this.#createPlane()
    this.#streams = this.#createStreams()
    this.relay = this.#createRelay()
    this.#direct = this.#createDirect()
    this.#acquaintances = this.#createAcquaintances()
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
    await this.#own.makeRecord()
    void repeat(this.#deps.clock, () => this.#own.makeRecord(), {
      periodMs: RECORD_LIFE_MS / 4,
      signal: this.#stopping.signal,
    })
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  addresses(): readonly string[] {
    return this.#addresses.all()
  }

  listening(): readonly string[] {
    return this.#addresses.listening()
  }

  get planePort(): number | undefined {
    return this.#plane?.port
  }

  setExternalAddresses(addresses: readonly string[]): void {
    this.#addresses.setExternal(addresses)
    // Peers are sent the new offer by whoever makes offers; the record goes with it.
    if (this.#isStarted) void this.#own.makeRecord()
  }

  probe(target: ProbeTarget, options: ProbeOptions): Promise<Probe> {
    this.#assertRuns()
    const signal = AbortSignal.any([options.signal, this.#stopping.signal])
    const { clock, node } = this.#deps
    const session = this.#table.session(target.peer)
    return probe({ clock, libp2p: node.libp2p, plane: this.#plane, session }, target, { ...options, signal })
  }

  handleProbes(protocol: ProtocolId, handler: ProbeHandler): void {
    this.#streams.handleProbes(protocol, handler)
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
    return this.#streams.open(await this.sessionWith(peer, options), protocol, options)
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

  isSomebodyComing(): boolean {
    return this.#connector.isDialling || this.#acquaintances.isMeeting || this.#life.isConnecting
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
    const listening = this.#deps.node.listening().map(String)
    return {
      listening,
      addresses: this.addresses(),
      transports: transportsOf(listening),
      ...(this.planePort === undefined ? {} : { planePort: this.planePort }),
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
    this.#own.rotate(signer, statement)
    for (const session of this.sessions) session.rotate(statement, signer)
  }

  announce(offer: NodeOffer): void {
    this.#own.setOffer(offer)
    this.#announceAll()
  }

  /** Makes a connection of bytes that came about in another way than by dialling. See `Connector.adopt`. */
  adopt(pipe: BytePipe, adoption: Adoption): Promise<void> {
    return this.#connector.adopt(pipe, adoption)
  }

  networkChanged(): void {
    this.#direct?.changed()
  }

  onFound(peer: string, addresses: readonly string[]): void {
    this.#acquaintances.found([{ id: peer, addresses: addresses.slice(0, PEER_ADDRESSES_MAX) }])
  }

  readonly #owner: SessionOwner = {
    hasRoom: session => this.#table.hasRoom(session.peer),
    offer: () => this.#own.offer,
    record: () => this.#own.records.own,
    introductions: session =>
      this.#meets ? fitting(this.#table.introductions(session.peer), this.#own.party.signer) : [],
    onJoined: (session, announcement) => {
      const { guard } = this.#deps
      guard.succeeded(subjectsOf(session))
      this.#breakers.succeeded(session.peer)
      this.sessions.onJoined(session)
      const before = this.#table.session(session.peer)
      const isNew = this.#table.join(session, announcement)
      // Two that dial at once have two sessions too, but then both are young.
      const isOld = before !== undefined && session.joinedAt - before.joinedAt >= SETTLED_MS
      this.#streams.sessionJoined(session, { isReturn: isOld && session.direction === 'inbound' })
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

  #onFault(session: Session, reason: RefusalReason): void {
    this.#deps.memory.audit.record(AUDITED_FAULTS[reason] ?? 'refused', { peer: session.peer, reason })
    this.#deps.guard.fault(subjectsOf(session), reason)
  }

  /** A peer's preferred session, dialled where there is none. @throws NetError */
  async sessionWith(
    peer: string,
    options: { readonly signal?: AbortSignal; readonly addresses?: readonly string[] },
  ): Promise<Session> {
    if (!this.#table.has(peer)) {
      const addresses = addressesOf(peer, options.addresses ?? [])
      const sentence = 'no connection to the peer, and no address to dial'
      if (addresses.length === 0) throw new NetError({ code: 'NET_PEER_UNKNOWN', peer }, sentence)
      await this.#connectFor({ peer, addresses }, options)
    }
    const session = this.#table.session(peer)
    if (session === undefined) throw lost(peer)
    return session
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

  #createConnector(): Connector {
    const { node } = this.#deps
    return new Connector({
      ...this.#deps,
      self: this.id,
      stopping: this.#stopping.signal,
      dial: (address, options) =>
        address.relay === undefined ? node.libp2p.dial(address.target, options) : this.relay.dial(address, options),
      adopt: (pipe, options) => node.adopt(pipe, options),
      paths: this.#paths,
      breakers: this.#breakers,
      transports: node.transports,
      isHere: peer => this.#table.has(peer),
      sessionOf: (connection, options) => this.sessions.dialled(connection, options),
    })
  }

  #createStreams(): Streams {
    return new Streams({
      ...this.#deps,
      libp2p: this.#deps.node.libp2p,
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
  }

  #createAcquaintances(): Acquaintances {
    const { allows, guard } = this.#deps
    const rests = (peer: string): boolean => this.#breakers.restsForMs(peer) !== undefined
    return new Acquaintances(
      {
        ...this.#deps,
        self: this.id,
        table: this.#table,
        records: this.#own.records,
        mayDial: peer => allows(peer) && guard.refuses([peer]) === undefined && !rests(peer),
        connect: (target, options) => this.#connectFor(target, options),
        hold: (peer, reason) => this.hold(peer, reason),
        stopping: this.#stopping.signal,
      },
      { meets: this.#meets },
    )
  }

  #createRelay(): Relay {
    return createRelay(
      {
        ...this.#deps,
        self: this.id,
        table: this.#table,
        connector: () => this.#connector,
        open: (peer, options) => this.open(peer, PROTOCOLS.relay, options),
        listening: () => this.#addresses.direct(),
        onChange: () => this.#announceAll(),
        onAddresses: () => void this.#onOwnAddresses(),
        stopping: this.#stopping.signal,
      },
      this.#options,
    )
  }

  /** Our addresses are others now: peers hear of it at once. */
  async #onOwnAddresses(): Promise<void> {
    if (!this.#isStarted || this.#stopping.signal.aborted) return
    await this.#own.makeRecord()
    this.#announceAll()
  }

  #announceAll(): void {
    for (const session of this.sessions) session.announce()
  }

  #createDirect(): Direct | undefined {
    const { punch: tools, node, settings } = this.#deps
    if (tools === undefined || !settings.directPaths) return undefined
    const direct = createDirect({
      ...this.#deps,
      tools,
      self: this.id,
      connector: this.#connector,
      paths: this.#paths,
      table: this.#table,
      sessions: this.sessions,
      listening: () => node.listening(),
      hasQuic: node.transports.has('quic'),
      hosts: this.#addresses.hosts,
      open: (peer, options) => this.open(peer, PROTOCOLS.punch, options),
      stopping: this.#stopping.signal,
    })
    this.handle(PROTOCOLS.punch, stream => direct.serve(stream))
    return direct
  }

  /** Where the host itself listens, at a port of its own. */
  #createPlane(): DataPlane | undefined {
    return createPlane(
      {
        ...this.#deps,
        sessions: () => this.sessions,
        refuses: from => this.sessions.subjectOfNewcomer(from) === undefined,
        serves: protocol => this.#streams.serves(protocol),
        onStream: (stream, session, from) => void this.#streams.serve(stream, session, from),
      },
      { hosts: this.#addresses.hosts, taken: this.#addresses.ports, port: this.#options.planePort },
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
    await this.#direct?.stopped()
  }
}
