/** Discovery as a whole: builds its parts, and turns the rounds in which peers are met, asked and forgotten. */
import type { ByteStream, CancelTimer } from '#base'
import { AnnouncementTable } from './announcement-table.ts'
import { Announcer } from './announcer.ts'
import { planDial, type DialPlan } from './dial-plan.ts'
import { DiscoveryError, isFault, type PeerFault, stopped } from './errors.ts'
import { Exchanger } from './exchanger.ts'
import type { Exchanged } from './exchange.ts'
import { Explorer } from './explorer.ts'
import { findServices } from './find.ts'
import type { Discovery, DiscoveryDeps, DiscoveryOptions, DiscoveryStatus } from './discovery-types.ts'
import { DEFAULT_TOPIC } from './keys.ts'
import { KnownPeers, type KnownPeer } from './known-peers.ts'
import {
  DISCOVERY_INTERVAL_MS,
  FINDS_MAX,
  PEERS_CROWDED,
  ROUND_EXCHANGES_MAX,
  SERVICE_BURST_MAX,
  SERVICE_REFILL_S,
  SERVICE_STREAMS_MAX,
} from './limits.ts'
import { MetadataCache } from './metadata-cache.ts'
import { createMetadataNetwork, type MetadataNetwork } from './metadata-network.ts'
import { MetadataPublisher } from './metadata-publisher.ts'
import { OwnRecord } from './own-record.ts'
import { PeerRates } from './peer-rates.ts'
import type { VersionedMetadata } from './peer-metadata.ts'
import { Rendezvous } from './rendezvous.ts'
import { answer } from './service-stream.ts'
import type { AbortOptions, DiscoveryEvent, FoundService, Service, ServiceQuery } from './types.ts'

/** Makes discovery over a host; with no DHT at all, peers are found by one another and by what is remembered of them. */
export function createDiscovery(deps: DiscoveryDeps, options: DiscoveryOptions = {}): Discovery {
  return new Node(deps, options)
}

/** Rounds between two sweeps of what has become stale. */
const SWEEP_ROUNDS = 10

class Node implements Discovery {
  readonly #deps: DiscoveryDeps
  readonly #options: DiscoveryOptions
  readonly #topic: string
  readonly #known: KnownPeers
  readonly #network: MetadataNetwork
  readonly #cache: MetadataCache
  readonly #publisher: MetadataPublisher | undefined
  readonly #exchanger: Exchanger
  readonly #explorer: Explorer
  readonly #rendezvous: Rendezvous
  readonly #table: AnnouncementTable
  readonly #announcer: Announcer
  readonly #record: OwnRecord
  readonly #serviceRates: PeerRates
  readonly #listeners: ((event: DiscoveryEvent) => void)[] = []
  readonly #ended = new AbortController()
  readonly #streams = new Set<Promise<void>>()
  /** Connected peers that have exchanged peers with us. */
  readonly #settled = new Set<string>()
  #finds = 0
  #rounds = 0
  #exchanges = 0
  #faults = 0
  #lastExchange: DiscoveryStatus['lastExchange']
  #hasStarted = false
  #cancelTimer: CancelTimer | undefined
  #round: Promise<void> = Promise.resolve()

  constructor(deps: DiscoveryDeps, options: DiscoveryOptions) {
    const { clock, host, kad, log, mainline, signer, store } = deps
    this.#deps = deps
    this.#options = options
    this.#topic = options.topic ?? DEFAULT_TOPIC
    const onFault = (peer: string, fault: PeerFault): void => this.#onFault(peer, fault)
    this.#known = new KnownPeers(
      { clock, self: host.id, store, onDiscovered: row => this.#emitDiscovered(row) },
      { topic: this.#topic, ...(options.knownPeersMax === undefined ? {} : { peersMax: options.knownPeersMax }) },
    )
    this.#network = createMetadataNetwork({ log, signer, mainline, kad, onFault })
    this.#cache = new MetadataCache(
      { clock, fetch: (peer, how) => this.#fetch(peer, how) },
      options.metadataFreshMs === undefined ? {} : { freshMs: options.metadataFreshMs },
    )
    this.#publisher = this.#createPublisher()
    this.#record = new OwnRecord({ clock, log, signer })
    this.#exchanger = this.#createExchanger(onFault)
    this.#explorer = this.#createExplorer()
    const tcpPort = (): number | undefined => {
      const { nodeType, publicPlace } = deps.facts()
      return nodeType === 'public' ? publicPlace?.tcp : undefined
    }
    this.#rendezvous = new Rendezvous({ clock, log, topic: this.#topic, host, kad, mainline, tcpPort })
    this.#table = new AnnouncementTable({ clock })
    this.#announcer = new Announcer(
      {
        ...deps,
        kad,
        mainline,
        table: this.#table,
        tcpPort,
        onAnnounced: sequence => this.#emit({ kind: 'announced', sequence }),
      },
      { topic: this.#topic, ...(options.announceMs === undefined ? {} : { announceMs: options.announceMs }) },
    )
    this.#serviceRates = new PeerRates(clock, { tokensMax: SERVICE_BURST_MAX, refillS: SERVICE_REFILL_S })
  }

  start(): void {
    if (this.#hasStarted) return
    this.#hasStarted = true
    const { host } = this.#deps
    host.handle('/koinon/exchange/1', stream => this.#exchanger.serve(stream))
    host.handle('/koinon/services/1', stream => this.#serve(stream))
    host.onPeer(({ kind, peer }) => {
      if (this.#ended.signal.aborted) return
      if (kind === 'joined') this.#joined(peer.id)
      else if (kind === 'left') this.#left(peer.id)
    })
    this.#turn()
    for (const { id } of host.peers()) this.#joined(id)
  }

  async stop(): Promise<void> {
    this.#ended.abort(stopped())
    this.#cancelTimer?.()
    await Promise.all([
      this.#publisher?.stop(),
      this.#cache.stop(),
      this.#exchanger.stop(),
      this.#explorer.stop(),
      this.#rendezvous.stop(),
      this.#announcer.stop(),
      ...this.#streams,
    ])
    await this.#round
    this.#table.clear()
  }

  factsChanged(): void {
    if (this.#hasStarted) this.#publisher?.update(this.#deps.facts())
  }

  announce(services: readonly Service[]): void {
    this.#announcer.announce(services)
  }

  async *find(
    query: ServiceQuery,
    options: AbortOptions & { readonly timeoutMs?: number } = {},
  ): AsyncGenerator<FoundService, void, undefined> {
    this.#ended.signal.throwIfAborted()
    if (this.#finds >= FINDS_MAX) throw new DiscoveryError({ code: 'DISCOVERY_BUSY' }, 'too many searches at once')
    this.#finds++
    const { clock, host, kad, log, mainline } = this.#deps
    const { signal, timeoutMs } = options
    const addressesOf = (peer: string): readonly string[] => {
      const connected = host.peers().find(({ id }) => id === peer)?.addresses
      return connected ?? (peer === host.id ? host.addresses() : this.#known.addressesOf(peer))
    }
    const onFault = (peer: string, fault: PeerFault): void => this.#onFault(peer, fault)
    const deps = { clock, host, kad, log, mainline, topic: this.#topic, table: this.#table, addressesOf, onFault }
    try {
      yield* findServices(deps, query, {
        signal: signal === undefined ? this.#ended.signal : AbortSignal.any([signal, this.#ended.signal]),
        ...(timeoutMs === undefined ? {} : { timeoutMs }),
      })
    } finally {
      this.#finds--
    }
  }

  async plan(peer: string, options: AbortOptions = {}): Promise<DialPlan> {
    this.#ended.signal.throwIfAborted()
    const isConnected = this.#isConnected(peer)
    return planDial(peer, {
      isConnected,
      found: isConnected ? undefined : await this.#cache.get(peer, options),
      recordAddresses: this.#known.addressesOf(peer),
      ownPublicHost: this.#deps.facts().publicPlace?.host,
    })
  }

  metadata(peers: readonly string[], options: AbortOptions = {}): AsyncIterable<readonly [string, VersionedMetadata]> {
    return this.#cache.getMany(peers, options)
  }

  known(): readonly KnownPeer[] {
    return this.#known.all()
  }

  status(): DiscoveryStatus {
    const known = this.#known.all()
    const { mainline, kad } = this.#deps
    const sequence = this.#publisher?.sequence
    return {
      isRunning: this.#hasStarted && !this.#ended.signal.aborted,
      topic: this.#topic,
      knownPeers: known.length,
      metPeers: known.filter(({ source }) => source === 'identity_exchange').length,
      knownRelays: known.filter(({ isRelay }) => isRelay).length,
      dials: this.#explorer.pending,
      exchanges: this.#exchanges,
      ...(this.#lastExchange === undefined ? {} : { lastExchange: this.#lastExchange }),
      faults: this.#faults,
      metadata: {
        state: this.#publisher?.state.kind ?? 'held',
        ...(sequence === undefined ? {} : { sequence }),
        cached: this.#cache.size,
      },
      announcements: this.#table.size,
      ...(mainline === undefined ? {} : { mainlineContacts: mainline.contacts().length }),
      hasKad: kad !== undefined,
    }
  }

  onEvent(listener: (event: DiscoveryEvent) => void): void {
    this.#listeners.push(listener)
  }

  #createPublisher(): MetadataPublisher | undefined {
    const { clock, host, kad, log, mainline, store } = this.#deps
    if (kad === undefined && mainline === undefined) return undefined
    const onPublished = (sequence: number, stored: number): void => this.#emit({ kind: 'published', sequence, stored })
    const deps = { clock, log, self: host.id, network: this.#network, store, onPublished }
    const { republishMs } = this.#options
    return new MetadataPublisher(deps, republishMs === undefined ? {} : { republishMs })
  }

  #createExchanger(onFault: (peer: string, fault: PeerFault) => void): Exchanger {
    const { clock, facts, host, log, mainline, random, signer } = this.#deps
    const identity = () => {
      const { nodeType, isRelay } = facts()
      const record = this.#record.bytes
      const nodeId = mainline?.status().families[0]?.nodeId
      return {
        publicKey: signer.publicKey,
        nodeType,
        isRelay,
        topic: this.#topic,
        // Without a DHT, a peer's own record is the only way to it.
        wantsRecords: mainline === undefined,
        ...(record === undefined ? {} : { record }),
        ...(nodeId === undefined ? {} : { dhtNodeId: Uint8Array.from(Buffer.from(nodeId, 'hex')) }),
      }
    }
    const peersMax = this.#options.exchangePeersMax
    return new Exchanger(
      {
        clock,
        random,
        log,
        host,
        identity,
        peers: this.#known,
        known: () => this.#known.all(),
        connected: () => new Set(host.peers().map(({ id }) => id)),
        onFault,
        onExchanged: (peer, exchanged, learned) => this.#onExchanged(peer, exchanged, learned),
      },
      peersMax === undefined ? {} : { peersMax },
    )
  }

  #createExplorer(): Explorer {
    const { clock, facts, host, log } = this.#deps
    return new Explorer(
      {
        clock,
        log,
        connect: (address, how) => host.connect(address, how),
        isConnected: peer => this.#isConnected(peer),
        connectedCount: () => host.peers().length,
        metadataOf: (peer, how) => this.#cache.get(peer, how),
        recordAddressesOf: peer => this.#known.addressesOf(peer),
        ownPublicHost: () => facts().publicPlace?.host,
      },
      this.#options,
    )
  }

  #turn(): void {
    this.#round = this.#runRound().finally(() => {
      if (this.#ended.signal.aborted) return
      this.#cancelTimer = this.#deps.clock.after(this.#options.intervalMs ?? DISCOVERY_INTERVAL_MS, () => this.#turn())
    })
  }

  async #runRound(): Promise<void> {
    const { facts, host, random } = this.#deps
    this.#rounds++
    await this.#record.refresh(host.addresses())
    if (this.#ended.signal.aborted) return
    this.#publisher?.update(facts())
    if (this.#rounds % SWEEP_ROUNDS === 0) {
      this.#known.sweep()
      this.#table.sweep()
    }
    const connected = host.peers().map(({ id }) => id)
    for (const peer of connected) this.#known.seen(peer)
    const chosen = shuffled(connected, random.uint32.bind(random)).slice(
      0,
      this.#options.roundExchangesMax ?? ROUND_EXCHANGES_MAX,
    )
    for (const peer of chosen) void this.#exchanger.begin(peer)
    this.#explorer.newRound()
    if (this.#explorer.isHungry) this.#explorer.add(this.#candidates(new Set(connected)))
    // It may take as long as it likes: rounds do not wait for it, and it runs once at a time.
    if (this.#options.meetsStrangers ?? true) void this.#rendezvous.turn({ isHungry: this.#explorer.isHungry })
  }

  /** Those we have met before, then those we were told of, each in any order. Of the latter one source has a few only. */
  #candidates(connected: ReadonlySet<string>): { readonly peer: string; readonly source: string }[] {
    const { host, random } = this.#deps
    const rest = this.#known.all().filter(({ peer }) => !connected.has(peer))
    const shuffledRest = shuffled(rest, random.uint32.bind(random))
    const met = shuffledRest.filter(({ source }) => source === 'identity_exchange')
    const told = shuffledRest.filter(({ source }) => source === 'peer_exchange')
    return [
      // Each is its own source: whom we met has earned a dial.
      ...met.map(({ peer }) => ({ peer, source: peer })),
      ...told.map(({ peer, toldBy }) => ({ peer, source: toldBy ?? host.id })),
    ]
  }

  #joined(peer: string): void {
    this.#known.seen(peer)
    // Both sides see the peer join: the one whose id is the lower begins.
    if (this.#deps.host.id < peer) void this.#exchanger.begin(peer)
    void this.#track(this.#announcer.greet(peer))
    this.#makeRoom(peer)
  }

  /** A node that is full helps nobody: whoever has been here longest knows others by now, and can do without us. */
  #makeRoom(newcomer: string): void {
    const { host } = this.#deps
    const connected = host.peers()
    if (host.release === undefined || connected.length <= (this.#options.peersCrowded ?? PEERS_CROWDED)) return
    for (const { id } of connected) if (id !== newcomer && this.#settled.has(id) && host.release(id)) return
  }

  #left(peer: string): void {
    this.#known.seen(peer)
    this.#explorer.left(peer)
    this.#settled.delete(peer)
  }

  #onExchanged(peer: string, exchanged: Exchanged, learned: readonly KnownPeer[]): void {
    const { sentBytes, receivedBytes } = exchanged
    this.#exchanges++
    if (this.#isConnected(peer)) this.#settled.add(peer)
    this.#lastExchange = { peer, sentBytes, receivedBytes, at: this.#deps.clock.now() }
    this.#explorer.add(learned.map(row => ({ peer: row.peer, source: peer })))
    this.#emit({ kind: 'exchanged', peer, sentBytes, receivedBytes, learned: learned.length })
  }

  async #fetch(peer: string, options: AbortOptions): Promise<VersionedMetadata | undefined> {
    const found = await this.#network.get(peer, options)
    if (found !== undefined) this.#explorer.metadataChanged(peer, found.sequence)
    return found
  }

  async #serve(stream: ByteStream): Promise<void> {
    const isRefused = this.#ended.signal.aborted || this.#streams.size >= SERVICE_STREAMS_MAX
    const isFlood = !isRefused && !this.#serviceRates.take(stream.peer)
    if (isFlood) this.#onFault(stream.peer, { code: 'DISCOVERY_FLOOD', what: 'too many messages about services' })
    if (isRefused || isFlood) {
      stream.abort(new Error('not now'))
      return
    }
    await this.#track(this.#answer(stream))
  }

  async #answer(stream: ByteStream): Promise<void> {
    const { clock, log } = this.#deps
    try {
      const said = await answer(stream, this.#table, { clock, signal: this.#ended.signal })
      const outcome = said === undefined || isFault(said) ? said : this.#table.add(said)
      if (typeof outcome === 'object') this.#onFault(stream.peer, outcome)
    } catch (error) {
      if (!this.#ended.signal.aborted) log.debug('a stream about services broke off', { error: String(error) })
    }
  }

  #track(work: Promise<void>): Promise<void> {
    const tracked: Promise<void> = work.finally(() => this.#streams.delete(tracked))
    this.#streams.add(tracked)
    return tracked
  }

  #onFault(peer: string, fault: PeerFault): void {
    this.#faults++
    this.#deps.onFault?.(peer, fault)
    this.#emit({ kind: 'fault', peer, fault })
  }

  #emitDiscovered({ peer, source }: KnownPeer): void {
    this.#emit({ kind: 'discovered', peer, source })
  }

  #emit(event: DiscoveryEvent): void {
    for (const listener of this.#listeners) listener(event)
  }

  #isConnected(peer: string): boolean {
    return this.#deps.host.peers().some(({ id }) => id === peer)
  }
}

function shuffled<T>(items: readonly T[], uint32: () => number): T[] {
  return items
    .map(item => ({ item, rank: uint32() }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ item }) => item)
}
