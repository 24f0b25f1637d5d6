/**
 * Everything about one model that is shared or pulled: its store, the two sides of its traffic, its links to peers, and the
 * pulls that are under way, whose wishes are united.
 */
import { Bitfield, messageOf } from '#base'
import { type ModelCore, piecesOf, type Torrent, TORRENT_MODEL_FILE } from '#formats'
import type { BlobStore } from '#storage'
import type { Budget } from './budget.ts'
import { SwarmError } from './errors.ts'
import { HashFetcher } from './hash-fetcher.ts'
import { Intake } from './intake.ts'
import { PEERS_PER_MODEL_MAX } from './limits.ts'
import { Link, type LinkHome } from './link.ts'
import type { ModelStore } from './model-store.ts'
import { OriginChannel } from './origin-channel.ts'
import { Outlet } from './outlet.ts'
import { PeerSearch, type PeerSearchDeps } from './peer-search.ts'
import { diskFull, Pull } from './pull.ts'
import type { PeerAddress, SwarmBlame, SwarmModelFacts, SwarmPeerFacts, Wanted } from './swarm-types.ts'
import { createDownload, type DownloadOptions } from './transfer/download.ts'
import type { ChannelId } from './transfer/types.ts'
import { createUploads } from './transfer/uploads.ts'
import { BLOCK_BYTES, type Origin } from './types.ts'
import type { PeerSession, SessionOptions } from './wire/types.ts'

export type ModelSwarmDeps = Omit<PeerSearchDeps, 'adopt' | 'isLinked' | 'dial'> & {
  /** A session about the model that is to be started. */
  readonly dial: (model: ModelSwarm, address: PeerAddress, signal: AbortSignal) => Promise<PeerSession>
  readonly blobs: Pick<BlobStore, 'makeRoom' | 'takeBuffer'>
  readonly budget: Budget
  readonly votesOf: (model: string) => readonly Uint8Array[]
  readonly onVotes: (model: string, records: readonly Uint8Array[], peer: string) => void
  /** Ends everything with the party, here and with other models. */
  readonly onBlame: (party: string, why: SwarmBlame) => void
  /** Whether one more session may begin, of all models together. */
  readonly hasRoom: (party: string) => boolean
}

export type ModelSwarmOptions = {
  readonly core: ModelCore
  readonly coreBytes: Uint8Array<ArrayBuffer>
  readonly torrent: Torrent
  readonly store: ModelStore
  readonly manifest: Uint8Array | undefined
  readonly listenPort: number | undefined
}

/** One pull: what it wants, and what is told when it ends. */
export type PullTask = {
  readonly wanted: Bitfield
  readonly from: readonly PeerAddress[]
  readonly origins: readonly Origin[]
  readonly noPeersMs: number
  readonly piecesMissingMs: number
}

export type RunningPull = {
  readonly pull: Pull
  /** Settles when the pull is over. */
  readonly ended: Promise<void>
  readonly dropped: { readonly name: string; readonly why: string }[]
  /** Ends it, and resolves when its origins are closed. Idempotent. */
  readonly close: () => Promise<void>
}

export class ModelSwarm {
  readonly options: ModelSwarmOptions
  readonly intake: Intake
  readonly outlet: Outlet
  isShared = false
  /** Pulls that have it, from before they begin to after they have ended. */
  users = 0
  manifest: Uint8Array | undefined
  readonly #deps: ModelSwarmDeps
  readonly #hashes: HashFetcher
  readonly #search: PeerSearch
  readonly #home: LinkHome
  readonly #links = new Map<string, Set<Link>>()
  readonly #origins = new Set<OriginChannel>()
  readonly #pulls = new Set<Pull>()
  /** Wanted pieces whose hashes are known. */
  readonly #known: Bitfield
  /** Links that have not been told of new votes. */
  readonly #voteNews = new Set<Link>()
  /** Pieces that peers are to be told of. */
  #news: number[] = []
  #nextChannel: ChannelId = 1
  #isSoon = false
  #hasEnded = false
  #roomTask: Promise<void> | undefined
  /** Whether anything was stored since room was made for it. */
  #hasStored = true

  constructor(deps: ModelSwarmDeps, options: ModelSwarmOptions) {
    const { clock, log, budget, random } = deps
    const { store, torrent } = options
    this.#deps = deps
    this.options = options
    this.manifest = options.manifest
    this.#known = new Bitfield(torrent.pieceCount)
    const onEvent = (): void => this.#soon()
    this.intake = new Intake({
      clock,
      log,
      store,
      budget,
      machine: createDownload({ random }, downloadOptions(store)),
      onPiece: piece => this.#onPiece(piece),
      onStuck: why => this.#onStuck(why),
      onLateBlame: deps.onBlame,
      onEvent,
    })
    store.onHeldLost = (piece, blocks, why) => this.intake.heldLost(piece, blocks, why)
    this.outlet = new Outlet({ clock, log, store, budget, machine: createUploads({ random }), onEvent })
    this.#hashes = new HashFetcher({
      clock,
      torrent,
      store,
      onLie: giver => deps.onBlame(giver.party, 'bad-data'),
      onKnown: pieces => this.#onKnown(pieces),
    })
    this.#home = this.#makeHome()
    this.#search = new PeerSearch(
      {
        ...deps,
        dial: (address, signal) => deps.dial(this, address, signal),
        isLinked: party => this.#links.has(party),
        adopt: session => this.adopt(session, { isOurs: true }),
      },
      { model: options.core.id, infoHash: torrent.infoHash },
    )
  }

  get model(): string {
    return this.options.core.id
  }

  get infoHash(): Uint8Array {
    return this.options.torrent.infoHash
  }

  get isPulling(): boolean {
    return this.#pulls.size > 0
  }

  get linkCount(): number {
    let count = 0
    for (const links of this.#links.values()) count += links.size
    return count
  }

  /** Peers and origins. */
  get sourceCount(): number {
    return this.linkCount + this.#origins.size
  }

  linksWith(party: string): number {
    return this.#links.get(party)?.size ?? 0
  }

  /** What this side brings into a session. */
  sessionOptions(): SessionOptions {
    const { coreBytes, torrent, listenPort } = this.options
    return {
      layout: this.options.store,
      takeBuffer: length => this.#deps.blobs.takeBuffer(length),
      says: {
        metadataBytes: torrent.info.byteLength,
        coreBytes: coreBytes.byteLength,
        manifestBytes: this.manifest?.byteLength,
        voteCount: this.#deps.votesOf(this.model).length,
        listenPort,
      },
    }
  }

  /** The wanted pieces of a pull. */
  piecesOf(ranges: Exclude<Wanted, (core: ModelCore) => unknown>): Bitfield {
    const { torrent } = this.options
    const file = torrent.files[TORRENT_MODEL_FILE]
    const all = [{ offset: 0, length: file?.length ?? 0 }]
    return piecesOf(torrent, TORRENT_MODEL_FILE, ranges === 'all' ? all : ranges)
  }

  /**
   * Takes a session that is to be started. Of two sessions with one node about one model that is kept which the node with
   * the lower peer id has opened, so that both sides keep the same one.
   * @returns false: there is no place for it; it has been closed
   */
  adopt(session: PeerSession, how: { readonly isOurs: boolean }): boolean {
    const { party } = session
    const before = session.kind === 'koinon' ? [...(this.#links.get(party) ?? [])] : []
    const isPreferred = how.isOurs === this.#deps.host.id < party
    const isFull = this.linkCount >= PEERS_PER_MODEL_MAX || !this.#deps.hasRoom(party)
    if (this.#hasEnded || (before.length === 0 ? isFull : !isPreferred)) {
      session.close(before.length > 0 ? 'there is a session already' : 'there is no room')
      return false
    }
    const link = new Link(this.#home, { channel: this.#nextChannel++, session })
    const links = this.#links.get(party) ?? new Set()
    this.#links.set(party, links.add(link))
    link.start()
    for (const old of before) old.session.close('there is a better session')
    return true
  }

  /** Nothing more from the party. */
  drop(party: string, why: string): void {
    this.#search.forget(party)
    for (const link of this.#links.get(party) ?? []) link.session.fail(why)
  }

  /** There are new votes on the model: everybody who is connected may ask for them. */
  votesChanged(): void {
    for (const links of this.#links.values()) for (const link of links) this.#voteNews.add(link)
  }

  /** A node has come that may have the model. */
  peerJoined(peer: string): void {
    if (this.isPulling) this.#search.add({ kind: 'koinon', peer, addresses: [] })
  }

  pull(task: PullTask): RunningPull {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const pull = new Pull({ store: this.options.store, ends: { onDone: resolve, onFailed: reject } }, task)
    const unpin = this.options.store.blob.pin(this.options.store.inBlob(task.wanted))
    const dropped: { name: string; why: string }[] = []
    const origins = task.origins.map(origin => this.#joinOrigin(origin, dropped))
    this.#pulls.add(pull)
    for (const address of task.from) this.#search.add(address)
    this.#search.start()
    this.#hasStored = true
    this.intake.resume()
    this.#wantAll()
    pull.start()
    let closing: Promise<void> | undefined
    const close = async (): Promise<void> => {
      this.#pulls.delete(pull)
      unpin()
      if (!this.isPulling) this.#search.rest()
      this.#wantAll()
      for (const origin of origins) origin.stop('the pull is over')
      await Promise.all(origins.map(origin => origin.settled()))
    }
    return { pull, ended: promise, dropped, close: () => (closing ??= close()) }
  }

  /** What time drives. */
  round(now: number): void {
    this.#flushNews()
    if (this.isPulling) {
      this.#hashes.round()
      this.intake.round()
      this.#search.round(now, { most: PEERS_PER_MODEL_MAX - this.linkCount })
      const unavailable = this.intake.facts().unavailable + this.#hashes.missingCount
      const view = { sources: this.sourceCount, unavailable }
      for (const pull of this.#pulls) pull.round(view, now)
    }
    this.#run()
  }

  facts(): SwarmModelFacts {
    const { torrent, store } = this.options
    const { rate, channels } = this.intake.facts()
    const rates = new Map(channels.map(channel => [channel.channel, channel.rate]))
    let heldBytes = 0
    for (const piece of store.has.numbers()) heldBytes += store.pieceBytes(piece)
    const links = [...this.#links.values()].flatMap(set => [...set])
    const file = torrent.files[TORRENT_MODEL_FILE]
    const coreBytes = torrent.files.reduce((sum, { length }) => sum + length, 0) - (file?.length ?? 0)
    return {
      model: this.model,
      infoHash: torrent.infoHash,
      isShared: this.isShared,
      pulls: this.#pulls.size,
      heldBytes: heldBytes - coreBytes,
      totalBytes: file?.length ?? 0,
      uploadedBytes: this.outlet.uploadedBytes,
      downloadedBytes: this.intake.downloadedBytes,
      downRate: rate,
      upRate: this.outlet.rate,
      peers: [
        ...links.map(link => peerFacts(link, rates.get(link.channel) ?? 0)),
        ...[...this.#origins].map(origin => originFacts(origin, rates.get(origin.channel) ?? 0)),
      ],
    }
  }

  /** Ends every link and pull. */
  async end(error: Error): Promise<void> {
    this.#hasEnded = true
    for (const pull of this.#pulls) pull.fail(error)
    for (const links of this.#links.values()) for (const link of links) link.session.close('the swarm stops')
    this.options.store.onHeldLost = undefined
    await this.#search.stop()
    await this.#roomTask
    await this.intake.settled()
    this.intake.judge()
    await this.outlet.settled()
  }

  #makeHome(): LinkHome {
    const { torrent, store, coreBytes } = this.options
    const { model } = this
    return {
      torrent,
      store,
      intake: this.intake,
      outlet: this.outlet,
      hashes: this.#hashes,
      says: () => this.sessionOptions().says ?? {},
      now: () => this.#deps.clock.monotonic(),
      documents: () => ({ core: coreBytes, manifest: this.manifest, metadata: torrent.info }),
      votes: () => this.#deps.votesOf(model),
      onVotes: (records, peer) => this.#deps.onVotes(model, records, peer),
      onBlame: this.#deps.onBlame,
      onEnd: (link, end) => {
        this.#voteNews.delete(link)
        const links = this.#links.get(link.party)
        links?.delete(link)
        if (links?.size === 0) this.#links.delete(link.party)
        this.#search.ended(link.session, { isUseful: link.receivedBytes > 0 })
        if (end.kind === 'fault' && end.fault.blame === 'peer' && end.fault.code !== 'SWARM_BAD_PEER') {
          this.#deps.onBlame(link.party, 'malformed')
        }
      },
    }
  }

  #joinOrigin(origin: Origin, dropped: { name: string; why: string }[]): OriginChannel {
    const channel = new OriginChannel(
      {
        clock: this.#deps.clock,
        intake: this.intake,
        torrent: this.options.torrent,
        onEnd: (ended, why) => {
          this.#origins.delete(ended)
          if (why !== 'the pull is over') dropped.push({ name: ended.name, why })
        },
      },
      { channel: this.#nextChannel++, origin },
    )
    this.#origins.add(channel)
    channel.start()
    return channel
  }

  /** What all pulls together still want. */
  #missing(): Bitfield {
    const union = new Bitfield(this.options.torrent.pieceCount)
    for (const { missing } of this.#pulls) for (const piece of missing.numbers()) union.set(piece)
    return union
  }

  /** Bytes of it that are not stored. */
  #missingBytes(): number {
    const { store } = this.options
    let bytes = 0
    for (const piece of this.#missing().numbers())
      bytes += Math.max(0, store.pieceBytes(piece) - (store.blocksOf(piece)?.count ?? 0) * BLOCK_BYTES)
    return bytes
  }

  /** Unites what is wanted, and begins with what is known of it. */
  #wantAll(): void {
    const union = this.#missing()
    for (const piece of this.#known.numbers()) if (!union.has(piece)) this.#known.clear(piece)
    this.outlet.setSeeding(union.isEmpty)
    this.intake.want(this.#known)
    this.#hashes.want(union)
  }

  #onKnown(pieces: Bitfield): void {
    for (const piece of pieces.numbers()) this.#known.set(piece)
    this.intake.want(this.#known)
  }

  #onPiece(piece: number): void {
    this.#hasStored = true
    this.#news.push(piece)
    for (const pull of this.#pulls) pull.pieceDone(piece)
  }

  #flushNews(): void {
    for (const link of this.#voteNews) if (link.tellVotes()) this.#voteNews.delete(link)
    if (this.#news.length === 0) return
    const news = this.#news
    this.#news = []
    for (const links of this.#links.values()) for (const link of links) link.tell(news)
  }

  #onStuck(why: { readonly kind: 'full' } | { readonly kind: 'failed'; readonly reason: string }): void {
    if (why.kind === 'failed') {
      this.#failAll(() => new SwarmError({ code: 'SWARM_STORE_FAILED' }, `pieces cannot be stored: ${why.reason}`))
      return
    }
    this.#roomTask ??= this.#makeRoom().finally(() => {
      this.#roomTask = undefined
    })
  }

  /** Older pieces of others may go for this, once: where the room that was made is none, the pulls end. */
  async #makeRoom(): Promise<void> {
    const isSecond = !this.#hasStored
    this.#hasStored = false
    let hasRoom = false
    try {
      // What is being written counts twice until it is stored.
      await this.intake.settled()
      hasRoom = !isSecond && (await this.#deps.blobs.makeRoom(this.#missingBytes()))
    } catch (error) {
      this.#deps.log.warn('no room could be made', { error: messageOf(error) })
    }
    if (hasRoom) this.intake.resume()
    else this.#failAll(pull => diskFull(pull.missingBytes))
  }

  #failAll(error: (pull: Pull) => Error): void {
    for (const pull of this.#pulls) pull.fail(error(pull))
  }

  #soon(): void {
    if (this.#isSoon || this.#hasEnded) return
    this.#isSoon = true
    queueMicrotask(() => {
      this.#isSoon = false
      this.#run()
    })
  }

  #run(): void {
    if (this.#hasEnded) return
    this.intake.run()
    this.outlet.run()
  }
}

/** What a download reads of the store; nothing is wanted at first. */
function downloadOptions(store: ModelStore): DownloadOptions {
  return {
    pieceCount: store.pieceCount,
    pieceBytes: piece => store.pieceBytes(piece),
    get has() {
      return store.has
    },
    blocksOf: piece => store.blocksOf(piece),
    wanted: new Bitfield(store.pieceCount),
  }
}

function peerFacts(link: Link, rate: number): SwarmPeerFacts {
  const { party, receivedBytes, sentBytes, isChokingUs, isChoked, isInterested, areWeInterested } = link
  const { kind } = link.session
  return { party, kind, receivedBytes, sentBytes, rate, isChokingUs, isChoked, isInterested, areWeInterested }
}

function originFacts(origin: OriginChannel, rate: number): SwarmPeerFacts {
  return {
    party: origin.name,
    kind: 'origin',
    receivedBytes: origin.receivedBytes,
    sentBytes: 0,
    rate,
    isChokingUs: false,
    isChoked: true,
    isInterested: false,
    areWeInterested: true,
  }
}
