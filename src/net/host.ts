/**
 * The host: libp2p below, admitted peers and byte streams above. Between them stand the sessions (one a connection),
 * the table of peers, and those who dial: callers, the keeper of configured peers, and introductions.
 */
import type { Connection, Stream } from '@libp2p/interface'
import { assert, type ByteStream, type Clock, type Logger, type Random, repeat } from '#base'
import type { KeyProvider, NodeIdentity } from '#identity'
import { type AuditKind, type LinkDeps, type Party, type RefusalFacts, uuidText } from '#protocol'
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
import { type Address, addressesOf, decodeAddress, isLoopback, ownAddress, parseAddress } from './address.ts'
import { Connector } from './connector.ts'
import type { DialTarget } from './dialler.ts'
import { lost, NetError, stopped } from './errors.ts'
import { Introductions } from './introductions.ts'
import { keepConnected } from './keeper.ts'
import { createNode, type Node } from './libp2p.ts'
import { EXTERNAL_ADDRESSES_MAX, KEPT_ADDRESSES_MAX, RECORD_LIFE_MS, TURNED_AWAY_MAX, UNPROVEN_MAX } from './limits.ts'
import { crowdedOut } from './newcomers.ts'
import { type PeerGuard, subjectOfAddress, subjectsOf } from './peer-guard.ts'
import { fitting, PeerRecords } from './peer-records.ts'
import { PeerTable } from './peer-table.ts'
import { probeAddress, probePlane } from './probe.ts'
import { DataPlane } from './plane/data-plane.ts'
import { Session, type SessionOwner, type SessionPhase } from './session.ts'
import { type StreamHandler, Streams } from './streams.ts'
import type {
  Host,
  HostMessage,
  HostOptions,
  Peer,
  PeerEvent,
  Probe,
  ProbeHandler,
  ProbeOptions,
  ProbeTarget,
} from './types.ts'

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
  /** What peers are told until the first `announce`. Without it: a node that serves nothing. */
  readonly offer?: NodeOffer
}

/** Makes a host that has not been started. */
export async function createHost(deps: HostDeps, options: HostOptions): Promise<Host> {
  const host: { current?: Libp2pHost } = {}
  const node = await createNode({
    key: deps.identity.privateKey,
    listen: options.listen,
    mdns: options.mdns,
    refusesInbound: from => host.current?.refusesInbound(from) ?? true,
    onConnection: connection => host.current?.onConnection(connection),
    onFound: peer => host.current?.onFound(peer.id.toString(), peer.multiaddrs.map(String)),
  })
  host.current = new Libp2pHost({ ...deps, node }, options)
  return host.current
}

class Libp2pHost implements Host {
  readonly id: string
  readonly #deps: HostDeps & { readonly node: Node }
  readonly #options: HostOptions
  readonly #table: PeerTable
  readonly #introductions: Introductions
  readonly #sessions = new Map<Connection, Session>()
  readonly #connector: Connector
  readonly #kept = new Map<string, Promise<void>>()
  readonly #stopping = new AbortController()
  readonly #live = new Set<string>()
  readonly #messageListeners = new Set<(message: HostMessage) => void>()
  #party: Party
  readonly #records: PeerRecords
  readonly #streams: Streams
  readonly #plane: DataPlane | undefined
  #offer: NodeOffer
  #external: readonly string[] = []
  #isStarted = false
  #stopped: Promise<void> | undefined

  constructor(deps: HostDeps & { readonly node: Node }, options: HostOptions) {
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
    this.#table = new PeerTable(deps, { self: this.id })
    this.#connector = new Connector({
      ...deps,
      self: this.id,
      stopping: this.#stopping.signal,
      dial: (address, options) => deps.node.libp2p.dial(address.target, options),
      isHere: peer => this.#table.has(peer),
      sessionOf: (connection, options) => this.#dialledSession(connection, options),
    })
    this.#plane = this.#createPlane()
    this.#streams = new Streams({
      ...deps,
      libp2p: deps.node.libp2p,
      plane: this.#plane,
      sessionOf: connection => this.#sessions.get(connection),
      guestCount: () => this.#inPhase('guest').length,
      onFault: (session, reason) => this.#onFault(session, reason),
    })
    this.#introductions = new Introductions({
      clock: deps.clock,
      random: deps.random,
      isUnwanted: peer => peer === this.id || this.#table.has(peer) || !this.#table.hasRoom(peer),
      connect: (peer, addresses) => this.#connectFor({ peer, addresses }, {}),
    })
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
    await libp2p.handle(PROTOCOLS.control, (stream, connection) => this.#onControl(stream, connection), {
      maxInboundStreams: 1,
    })
    await this.#plane?.start()
    try {
      await libp2p.start()
    } catch (error) {
      await this.#plane?.stop()
      throw new NetError({ code: 'NET_LISTEN_FAILED' }, 'the listen addresses could not be had', { cause: error })
    }
    this.#isStarted = true
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
    return [...new Set([...this.#external, ...this.listening()])].slice(0, PEER_ADDRESSES_MAX)
  }

  listening(): readonly string[] {
    const all = this.#deps.node.listening().map(target => `${target.toString()}/p2p/${this.id}`)
    const decoded = all.map(decodeAddress).filter(address => address !== undefined)
    // A wildcard has become every interface; nobody else can use the loopback one.
    const distant = decoded.filter(address => !isLoopback(address))
    const useful = distant.length > 0 && this.#isWildcard() ? distant : decoded
    return useful.map(address => address.text).slice(0, PEER_ADDRESSES_MAX)
  }

  get planePort(): number | undefined {
    return this.#plane?.port
  }

  setExternalAddresses(addresses: readonly string[]): void {
    const own = addresses.map(address => ownAddress(address, this.id))
    this.#external = [...new Set(own)].slice(0, EXTERNAL_ADDRESSES_MAX)
    // Peers are sent the new offer by whoever makes offers; the record goes with it.
    if (this.#isStarted) void this.#records.make(this.addresses())
  }

  probe(target: ProbeTarget, options: ProbeOptions): Promise<Probe> {
    this.#assertRuns()
    const signal = AbortSignal.any([options.signal, this.#stopping.signal])
    const { clock, node } = this.#deps
    if (target.isPlane !== true) return probeAddress({ clock, libp2p: node.libp2p }, target, { ...options, signal })
    const [plane, session] = [this.#plane, this.#table.session(target.peer)]
    return probePlane({ plane, session }, target, { ...options, signal })
  }

  handleProbes(protocol: ProtocolId, handler: ProbeHandler): void {
    this.#streams.handleProbes(protocol, handler)
  }

  async connect(address: string, options: { readonly signal?: AbortSignal } = {}): Promise<string> {
    const parsed = parseAddress(address)
    const target = { addresses: [parsed], ...(parsed.peer === undefined ? {} : { peer: parsed.peer }) }
    return this.#connectFor(target, options)
  }

  keepConnected(addresses: readonly string[]): void {
    this.#assertRuns()
    const { clock, random, log } = this.#deps
    for (const address of addresses.map(parseAddress)) {
      if (this.#kept.has(address.text) || address.peer === this.id || this.#kept.size >= KEPT_ADDRESSES_MAX) continue
      const deps = {
        clock,
        random,
        log,
        connect: (kept: Address) => this.connect(kept.text),
        gone: (peer: string, options: { readonly signal: AbortSignal }) => this.#table.left(peer, options),
      }
      this.#kept.set(address.text, keepConnected(deps, address, { signal: this.#stopping.signal }))
    }
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
    return this.#streams.open(session, protocol, { ...options, planePort: this.#table.offer(peer)?.planePort })
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

  onPeer(listener: (event: PeerEvent) => void): void {
    this.#table.onPeer(listener)
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
    for (const session of this.#sessions.values()) if (session.peer === peer) session.refuse(reason, facts)
  }

  async room(peer: string): Promise<void> {
    await this.#table.session(peer)?.room()
  }

  rotate(signer: KeyProvider, statement: Uint8Array): void {
    this.#party = { ...this.#party, signer, handovers: [...this.#party.handovers, statement] }
    for (const session of this.#sessions.values()) session.rotate(statement, signer)
  }

  announce(offer: NodeOffer): void {
    // Peers drop us for an offer that is not valid: better to fail here.
    this.#offer = nodeOfferSchema.parse(offer)
    for (const session of this.#sessions.values()) session.announce()
  }

  /** Whether a new inbound socket finds no room, or its address has to wait: asked before any cryptography. */
  refusesInbound(from: string): boolean {
    const subject = this.#subjectOfNewcomer(from)
    if (subject === undefined) return true
    if (this.#unproven().length < UNPROVEN_MAX) return false
    const leaving = crowdedOut(this.#unproven(), subject)
    leaving?.refuse('full')
    return leaving === undefined
  }

  /** A secured connection. Those that we dialled become sessions where they were dialled, once the identity fits. */
  onConnection(connection: Connection): void {
    if (connection.direction !== 'inbound') return
    const session = this.#createSession(connection)
    const refused = this.#deps.guard.refuses(subjectsOf(session))
    if (refused !== undefined) this.#turnAway(session, refused.reason, { retryAfterMs: refused.retryAfterMs })
    else if (this.#unproven().length > UNPROVEN_MAX) this.#turnAway(session, 'full')
  }

  /** Those that are turned away have places of their own for the moment in which they hear why. */
  #turnAway(session: Session, reason: RefusalReason, facts: RefusalFacts = {}): void {
    if (this.#inPhase('turned-away').length < TURNED_AWAY_MAX) session.turnAway(reason, facts)
    else session.refuse(reason, facts)
  }

  onFound(peer: string, addresses: readonly string[]): void {
    this.#introductions.add([{ id: peer, addresses: addresses.slice(0, PEER_ADDRESSES_MAX) }], { isNews: false })
  }

  #onControl(stream: Stream, connection: Connection): void {
    const session = this.#sessions.get(connection)
    if (session?.direction === 'inbound') session.attach(stream)
    else stream.abort(new Error('the dialler opens the control stream'))
  }

  #createSession(connection: Connection): Session {
    const { secret } = this.#options
    const { clock, random, log, memory } = this.#deps
    const session = new Session(
      { clock, random, log, ...memory, party: this.#party, isLive: id => this.#live.has(uuidText(id)) },
      { connection, owner: this.#owner, ...(secret === undefined ? {} : { secret }) },
    )
    this.#sessions.set(connection, session)
    return session
  }

  readonly #owner: SessionOwner = {
    hasRoom: session => this.#table.hasRoom(session.peer),
    offer: () => ({
      ...this.#offer,
      addresses: this.#offer.addresses.length > 0 ? this.#offer.addresses : [...this.addresses()],
      ...(this.#plane?.port === undefined ? {} : { planePort: this.#plane.port }),
    }),
    record: () => this.#records.own,
    introductions: session => (this.#meets ? fitting(this.#table.introductions(session.peer), this.#party.signer) : []),
    onJoined: (session, announcement) => {
      const { guard } = this.#deps
      guard.succeeded(subjectsOf(session))
      if (session.facts !== undefined) this.#live.add(session.facts.session)
      if (this.#table.join(session, announcement)) this.#introduceToOthers(session.peer)
    },
    onOffer: (session, announcement) => this.#table.update(session, announcement),
    onIntroduced: (peers, options) => {
      if (this.#meets) this.#introductions.add(this.#records.verified(peers), options)
    },
    onMessage: (session, message) => {
      for (const listener of this.#messageListeners) listener({ peer: session.peer, ...message })
    },
    onFault: (session, reason) => this.#onFault(session, reason),
    onRtt: session => {
      this.#table.update(session)
      if (this.#table.isRedundant(session, this.#deps.clock.monotonic())) session.end(lost(session.peer))
    },
    onEnded: session => this.#onEnded(session),
  }

  get #meets(): boolean {
    return this.#options.meet ?? this.#options.secret !== undefined
  }

  #unproven(): Session[] {
    return this.#inPhase('proving')
  }

  #inPhase(phase: SessionPhase): Session[] {
    return [...this.#sessions.values()].filter(session => session.phase === phase)
  }

  #introduceToOthers(newcomer: string): void {
    const known = this.#meets ? this.#table.knownPeer(newcomer) : undefined
    if (known === undefined) return
    for (const { id } of this.peers()) if (id !== newcomer) this.#table.session(id)?.introduce([known])
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

  #dialledSession(connection: Connection, { makes }: { readonly makes: boolean }): Session | undefined {
    const known = this.#sessions.get(connection)
    if (known !== undefined || !makes) return known
    const session = this.#createSession(connection)
    void session.begin()
    return session
  }

  #onEnded(session: Session): void {
    if (this.#table.leave(session)) this.#plane?.forget(session.peer)
    if (session.facts !== undefined) this.#live.delete(session.facts.session)
    // Until its connection is gone a session counts against the bounds, and stop() waits for it.
    void session.ended().then(() => this.#sessions.delete(session.connection))
  }

  /** Whom a new socket counts for; undefined: it is not wanted now, whatever room there is. */
  #subjectOfNewcomer(from: string): string | undefined {
    const subject = subjectOfAddress(from)
    if (this.#stopping.signal.aborted || subject === undefined) return undefined
    return this.#deps.guard.refuses([subject]) === undefined ? subject : undefined
  }

  /** Where the host itself listens, at a port of its own. */
  #createPlane(): DataPlane | undefined {
    const { listen, planePort = 0 } = this.#options
    const addresses = listen.map(decodeAddress).filter(address => address !== undefined)
    const hosts = [...new Set(addresses.map(({ host }) => host))]
    if (planePort === 'off') return undefined
    const { clock, log } = this.#deps
    return new DataPlane(
      {
        clock,
        log,
        sessions: () => this.#sessions.values(),
        refuses: from => this.#subjectOfNewcomer(from) === undefined,
        serves: protocol => this.#streams.serves(protocol),
        onStream: (stream, from) => void this.#streams.serve(stream, from),
      },
      { hosts, port: planePort },
    )
  }

  #isWildcard(): boolean {
    return this.#options.listen.some(text => ['0.0.0.0', '::'].includes(decodeAddress(text)?.host ?? ''))
  }

  #assertRuns(): void {
    if (this.#stopping.signal.aborted) throw stopped()
  }

  async #stop(): Promise<void> {
    this.#stopping.abort(stopped())
    this.#introductions.clear()
    const sessions = [...this.#sessions.values()]
    for (const session of sessions) session.refuse('stopping')
    await Promise.allSettled([...this.#kept.values(), this.#connector.settled()])
    await Promise.all(sessions.map(session => session.ended()))
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
