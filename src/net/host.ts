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
import { type Address, addressesOf, decodeAddress, isLoopback, parseAddress } from './address.ts'
import type { BytePipe } from './adopt.ts'
import { type Adoption, Connector } from './connector.ts'
import type { DialTarget } from './dialler.ts'
import { lost, NetError, stopped } from './errors.ts'
import { Introductions } from './introductions.ts'
import { keepConnected } from './keeper.ts'
import { createNode, type Node } from './libp2p.ts'
import { ALLOWED_PEERS_MAX, KEPT_ADDRESSES_MAX, RECORD_LIFE_MS } from './limits.ts'
import { Paths } from './paths.ts'
import { type PeerGuard, subjectsOf } from './peer-guard.ts'
import { fitting, PeerRecords } from './peer-records.ts'
import { PeerTable } from './peer-table.ts'
import { DataPlane } from './plane/data-plane.ts'
import { createDirect, type Direct } from './punch/direct.ts'
import type { PunchTools } from './punch/types.ts'
import type { Session, SessionOwner } from './session.ts'
import { Sessions } from './sessions.ts'
import { checkSettings, type NetSettings } from './settings.ts'
import { type StreamHandler, Streams } from './streams.ts'
import type { Host, HostMessage, HostOptions, Peer, PeerEvent } from './types.ts'

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
  /** What it takes to come from a relayed connection to a direct one. Without it relayed ones stay as they are. */
  readonly punch?: PunchTools
  /** What peers are told until the first `announce`. Without it: a node that serves nothing. */
  readonly offer?: NodeOffer
}

/**
 * Makes a host that has not been started.
 * @throws NetError NET_SETTINGS_INVALID, NET_QUIC_MISSING, NET_LISTEN_FAILED where the addresses do not fit the transports
 */
export async function createHost(deps: HostDeps, options: HostOptions): Promise<Host> {
  const host: { current?: Libp2pHost } = {}
  const settings = checkSettings(options.settings ?? {})
  const allows = allowing(options.allow ?? [])
  const quicKey = options.transport === 'tcp' ? undefined : await deps.identity.wholeKey?.()
  const node = await createNode({
    settings,
    allows,
    ...(quicKey === undefined ? {} : { quicKey }),
    ...(options.transport === undefined ? {} : { transport: options.transport }),
    key: deps.identity.privateKey,
    listen: options.listen,
    mdns: options.mdns,
    refusesInbound: from => host.current?.sessions.refusesInbound(from) ?? true,
    onConnection: connection => host.current?.sessions.onConnection(connection),
    onFound: peer => host.current?.onFound(peer.id.toString(), peer.multiaddrs.map(String)),
  })
  if (node.quicMissing !== undefined) {
    deps.log.warn('this node does without QUIC and uses TCP alone', { reason: node.quicMissing })
  }
  host.current = new Libp2pHost({ ...deps, node, settings, allows }, options)
  return host.current
}

type Inside = HostDeps & {
  readonly node: Node
  readonly settings: NetSettings
  readonly allows: (peer: string) => boolean
}

class Libp2pHost implements Host {
  readonly id: string
  readonly sessions: Sessions
  readonly #deps: Inside
  readonly #options: HostOptions
  readonly #paths = new Paths()
  readonly #table: PeerTable
  readonly #introductions: Introductions
  readonly #connector: Connector
  readonly #kept = new Map<string, Promise<void>>()
  readonly #stopping = new AbortController()
  readonly #messageListeners = new Set<(message: HostMessage) => void>()
  #party: Party
  readonly #records: PeerRecords
  readonly #streams: Streams
  readonly #plane: DataPlane | undefined
  readonly #direct: Direct | undefined
  #offer: NodeOffer
  #isStarted = false
  #stopped: Promise<void> | undefined

  constructor(deps: Inside, options: HostOptions) {
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
    const { secret } = options
    this.sessions = new Sessions(
      { ...deps, paths: this.#paths, owner: this.#owner, party: () => this.#party, stopping: this.#stopping.signal },
      { secret },
    )
    this.#connector = new Connector({
      ...deps,
      self: this.id,
      stopping: this.#stopping.signal,
      dial: (address, options) => deps.node.libp2p.dial(address.target, options),
      adopt: (pipe, options) => deps.node.adopt(pipe, options),
      paths: this.#paths,
      isHere: peer => this.#table.has(peer),
      sessionOf: (connection, options) => this.sessions.dialled(connection, options),
    })
    this.#plane = this.#createPlane()
    this.#streams = new Streams({
      ...deps,
      libp2p: deps.node.libp2p,
      plane: this.#plane,
      sessionOf: connection => this.sessions.get(connection),
      guestCount: () => this.sessions.inPhase('guest').length,
      onFault: (session, reason) => this.#onFault(session, reason),
    })
    this.#direct = this.#createDirect()
    this.#introductions = new Introductions({
      clock: deps.clock,
      random: deps.random,
      isUnwanted: peer => peer === this.id || !deps.allows(peer) || this.#table.has(peer) || !this.#table.hasRoom(peer),
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
    const all = this.#deps.node.listening().map(target => `${target.toString()}/p2p/${this.id}`)
    const decoded = all.map(decodeAddress).filter(address => address !== undefined)
    // A wildcard has become every interface; nobody else can use the loopback one.
    const distant = decoded.filter(address => !isLoopback(address))
    const useful = distant.length > 0 && this.#isWildcard() ? distant : decoded
    return useful.map(address => address.text).slice(0, PEER_ADDRESSES_MAX)
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
    for (const session of this.sessions) session.announce()
  }

  /** Makes a connection of bytes that came about in another way than by dialling. See `Connector.adopt`. */
  adopt(pipe: BytePipe, adoption: Adoption): Promise<void> {
    return this.#connector.adopt(pipe, adoption)
  }

  networkChanged(): void {
    this.#direct?.changed()
  }

  onFound(peer: string, addresses: readonly string[]): void {
    this.#introductions.add([{ id: peer, addresses: addresses.slice(0, PEER_ADDRESSES_MAX) }], { isNews: false })
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
      this.sessions.onJoined(session)
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
    const { transports } = this.#deps.node
    const addresses = target.addresses.filter(
      ({ transport, relay }) => relay !== undefined || transports.has(transport),
    )
    if (addresses.length > 0 || target.addresses.length === 0) {
      return this.#connector.connect({ ...target, addresses }, options)
    }
    const fault = { code: 'NET_DIAL_FAILED', ...(target.peer === undefined ? {} : { peer: target.peer }) } as const
    const sentence = `the peer has no address of a transport that this node uses: ${[...transports].join(', ')}`
    return Promise.reject(new NetError(fault, sentence))
  }

  #onEnded(session: Session): void {
    if (this.#table.leave(session)) this.#plane?.forget(session.peer)
    this.sessions.onEnded(session)
  }

  #createDirect(): Direct | undefined {
    const { punch: tools, node } = this.#deps
    if (tools === undefined) return undefined
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
      hosts: this.#hosts(),
      open: (peer, options) => this.open(peer, PROTOCOLS.punch, options),
      stopping: this.#stopping.signal,
    })
    this.handle(PROTOCOLS.punch, stream => direct.serve(stream))
    return direct
  }

  #hosts(): string[] {
    const addresses = this.#options.listen.map(decodeAddress).filter(address => address !== undefined)
    return [...new Set(addresses.map(({ host }) => host))]
  }

  /** Where the host itself listens, at a port of its own. */
  #createPlane(): DataPlane | undefined {
    const { planePort = 0 } = this.#options
    const hosts = this.#hosts()
    // Its sockets are TCP's.
    if (planePort === 'off' || !this.#deps.node.transports.has('tcp')) return undefined
    const { clock, log } = this.#deps
    return new DataPlane(
      {
        clock,
        log,
        sessions: () => this.sessions,
        refuses: from => this.sessions.subjectOfNewcomer(from) === undefined,
        serves: protocol => this.#streams.serves(protocol),
        onStream: stream => void this.#streams.serve(stream),
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
    const sessions = [...this.sessions]
    for (const session of sessions) session.refuse('stopping')
    await Promise.allSettled([...this.#kept.values(), this.#connector.settled()])
    await Promise.all(sessions.map(session => session.ended()))
    await this.#plane?.stop()
    await this.#deps.node.stop()
    await this.#direct?.stopped()
  }
}

/** Without a list everybody is. */
function allowing(list: readonly string[]): (peer: string) => boolean {
  if (list.length > ALLOWED_PEERS_MAX) {
    throw new NetError({ code: 'NET_SETTINGS_INVALID' }, `at most ${ALLOWED_PEERS_MAX} peers can be listed`)
  }
  const allowed = new Set(list)
  return peer => allowed.size === 0 || allowed.has(peer)
}

/** How the audit log calls what a peer was refused for. */
const AUDITED: Partial<Readonly<Record<RefusalReason, AuditKind>>> = {
  authentication: 'authentication-failed',
  'proof-wrong': 'authentication-failed',
  superseded: 'peer-key-refused',
  replay: 'replay',
  flood: 'rate-limited',
}
