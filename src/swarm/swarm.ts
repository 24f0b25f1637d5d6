/** The service that moves weights: models that are shared, pulls of models, and the sessions of both over one host. */
import { type ByteStream, messageOf, repeat, toHex } from '#base'
import { parseCore, torrentOf } from '#formats'
import type { Blob } from '#storage'
import { PROTOCOLS } from '#wire'
import { Announcer } from './announcer.ts'
import { Budget } from './budget.ts'
import { type Described, Descriptions, isPrefix } from './describe.ts'
import { Dialler, modelBytes } from './dialler.ts'
import { stopped, SwarmError } from './errors.ts'
import {
  BANNED_MAX,
  MODELS_MAX,
  NO_PEERS_MS,
  PEERS_MAX,
  PIECES_MISSING_MS,
  PULLS_MAX,
  ROUND_MS,
  SESSIONS_PER_PARTY_MAX,
} from './limits.ts'
import { ModelStore } from './model-store.ts'
import { ModelSwarm } from './model-swarm.ts'
import { runPull } from './run-pull.ts'
import type {
  PullOptions,
  PullResult,
  SharedModel,
  Swarm,
  SwarmBlame,
  SwarmDeps,
  SwarmModelFacts,
  SwarmOptions,
  SwarmRates,
} from './swarm-types.ts'
import { acceptPieces } from './wire/greeting.ts'
import { SHORT_HASH_BYTES } from './wire/protocol.ts'
import type { PeerSession, SessionOptions } from './wire/types.ts'

/** Makes the service. Nothing runs before `start`. */
export function createSwarm(deps: SwarmDeps, options: SwarmOptions = {}): Swarm {
  return new SwarmService(deps, options)
}

class SwarmService implements Swarm {
  readonly #deps: SwarmDeps
  readonly #options: SwarmOptions
  readonly #budget: Budget
  readonly #dialler: Dialler
  /** Undefined: nobody could connect to this node, or there is no DHT. */
  readonly #announcer: Announcer | undefined
  readonly #models = new Map<string, ModelSwarm>()
  readonly #descriptions = new Descriptions()
  /** Models whose blob is being opened. */
  readonly #opening = new Map<string, Promise<ModelSwarm>>()
  /** Parties that get nothing here any more, the oldest first. */
  readonly #banned = new Set<string>()
  readonly #ending = new AbortController()
  readonly #tasks = new Set<Promise<unknown>>()
  #pulls = 0
  #hasStarted = false

  constructor(deps: SwarmDeps, options: SwarmOptions) {
    this.#deps = deps
    this.#options = options
    this.#budget = new Budget(deps.clock, options.rates ?? {})
    const { clock, random, log, host, bittorrent, dht } = deps
    this.#dialler = new Dialler({ clock, log, host, bittorrent })
    const port = options.listenPort
    if (dht !== undefined && port !== undefined) this.#announcer = new Announcer({ clock, random, log, dht }, { port })
  }

  start(): void {
    if (this.#hasStarted) return
    this.#hasStarted = true
    const { clock, host } = this.#deps
    host.handle(PROTOCOLS.pieces, stream => this.#serve(stream))
    host.onPeer(({ kind, peer }) => {
      if (kind !== 'joined') return
      this.#descriptions.peerJoined(peer.id)
      for (const model of this.#models.values()) model.peerJoined(peer.id)
    })
    this.#own(repeat(clock, () => this.#round(), { periodMs: ROUND_MS, signal: this.#ending.signal }))
  }

  async stop(): Promise<void> {
    this.#ending.abort(stopped())
    await this.#announcer?.stop()
    await Promise.all([...this.#models.values()].map(model => model.end(stopped())))
    while (this.#tasks.size > 0) await Promise.allSettled(this.#tasks)
    this.#models.clear()
  }

  share({ core, manifest, blob }: SharedModel): void {
    this.#assertRunning()
    const before = this.#models.get(parseCore(core).id)
    const isSame = before?.options.store.blob === blob
    // Another file holds it now. Whoever was reading or writing the one before could not go on.
    if (before !== undefined && !isSame) this.#end(before)
    const model = before !== undefined && isSame ? before : this.#add({ core, manifest }, blob)
    model.isShared = true
    model.manifest = manifest ?? model.manifest
  }

  unshare(id: string): void {
    const model = this.#models.get(id)
    if (model === undefined) return
    model.isShared = false
    this.#endIfUnused(model)
  }

  async pull(options: PullOptions): Promise<PullResult> {
    try {
      this.#assertRunning()
      if (this.#pulls >= PULLS_MAX) throw busy('too many pulls are under way')
      this.#pulls++
      const task = this.#pull(options)
      this.#own(task.catch(() => undefined))
      return await task.finally(() => this.#pulls--)
    } finally {
      // Those that a pull never came to are closed too; closing twice does nothing.
      await Promise.all((options.origins ?? []).map(origin => origin.close()))
    }
  }

  accept(session: PeerSession, infoHash: Uint8Array): boolean {
    const model = this.#modelOf(infoHash)
    if (model !== undefined && !this.#isBanned(session.party)) return model.adopt(session, { isOurs: false })
    session.close('nothing of it is here')
    return false
  }

  sessionOptions(infoHash: Uint8Array): SessionOptions | undefined {
    return this.#modelOf(infoHash)?.sessionOptions()
  }

  votesChanged(model: string): void {
    this.#models.get(model)?.votesChanged()
  }

  setRates(rates: SwarmRates): void {
    this.#budget.set(rates)
  }

  facts(): readonly SwarmModelFacts[] {
    return [...this.#models.values()].map(model => model.facts())
  }

  async #pull(options: PullOptions): Promise<PullResult> {
    const signal = AbortSignal.any([options.signal, this.#ending.signal])
    signal.throwIfAborted()
    const known = await this.#describe(options, signal)
    const model = await this.#open(known)
    model.users++
    try {
      model.isShared ||= options.isShared === true
      const { noPeersMs = NO_PEERS_MS, piecesMissingMs = PIECES_MISSING_MS } = this.#options
      return await runPull({ clock: this.#deps.clock, model }, { ...options, signal, noPeersMs, piecesMissingMs })
    } finally {
      model.users--
      this.#endIfUnused(model)
    }
  }

  /** @throws SwarmError SWARM_NO_PEERS, SWARM_CORE_MISSING; the signal's reason */
  async #describe(options: PullOptions, signal: AbortSignal): Promise<Described> {
    const { subject, from = [], onProgress } = options
    if ('core' in subject) return { core: subject.core, manifest: subject.manifest }
    const infoHash = 'infoHash' in subject ? subject.infoHash : undefined
    const id = 'model' in subject ? toHex(modelBytes(subject.model)) : undefined
    const here = id === undefined ? this.#modelOf(infoHash ?? new Uint8Array(0)) : this.#models.get(id)
    if (here !== undefined) return { core: here.options.coreBytes, manifest: here.manifest }
    onProgress?.({ phase: 'manifest', doneBytes: 0, totalBytes: 0, rate: 0, sources: 0, peers: 0 })
    const says = { listenPort: this.#options.listenPort }
    return this.#descriptions.find(
      {
        ...this.#searchDeps(),
        dial: (address, signal) => this.#dialler.dial({ address, model: id, infoHash, session: { says } }, signal),
      },
      { model: id, infoHash, from, waitMs: this.#options.noPeersMs ?? NO_PEERS_MS, signal },
    )
  }

  /** The state of a model, which all pulls of it share. */
  async #open(known: Described): Promise<ModelSwarm> {
    const core = parseCore(known.core)
    const here = this.#models.get(core.id) ?? this.#opening.get(core.id)
    if (here !== undefined) return here
    const [file] = core.files
    if (file === undefined) throw new SwarmError({ code: 'SWARM_CORE_INVALID' }, 'the core names no file')
    const opening = this.#deps.blobs.open(file).then(blob => {
      this.#assertRunning()
      return this.#models.get(core.id) ?? this.#add(known, blob)
    })
    this.#opening.set(core.id, opening)
    return opening.finally(() => this.#opening.delete(core.id))
  }

  #add({ core: coreBytes, manifest }: Described, blob: Blob): ModelSwarm {
    if (this.#models.size >= MODELS_MAX) throw busy('too many models are shared or pulled')
    const core = parseCore(coreBytes)
    const torrent = torrentOf(coreBytes)
    const { votesOf, onVotes, blobs } = this.#deps
    const model = new ModelSwarm(
      {
        ...this.#searchDeps(),
        blobs,
        budget: this.#budget,
        votesOf: votesOf ?? (() => []),
        onVotes: onVotes ?? (() => undefined),
        dial: (model, address, signal) => {
          const session = model.sessionOptions()
          return this.#dialler.dial({ address, model: core.id, infoHash: torrent.infoHash, session }, signal)
        },
        hasRoom: party => this.#hasRoom(party),
      },
      {
        core,
        coreBytes,
        torrent,
        store: new ModelStore(torrent, coreBytes, blob),
        manifest,
        listenPort: this.#options.listenPort,
      },
    )
    this.#models.set(core.id, model)
    return model
  }

  #searchDeps() {
    const { clock, random, log, host, findPeers, dht } = this.#deps
    return {
      clock,
      random,
      log,
      host,
      findPeers,
      dht,
      isBanned: (party: string) => this.#isBanned(party),
      onBlame: (party: string, why: SwarmBlame) => this.#blame(party, why),
    }
  }

  /** A stream that a node has opened. */
  async #serve(stream: ByteStream): Promise<void> {
    const { clock, log } = this.#deps
    const party = stream.peer
    const accepted = await acceptPieces({ clock, logger: log }, stream, model => {
      const found = this.#models.get(toHex(model))
      if (found === undefined || this.#ending.signal.aborted || this.#isBanned(party)) return 'unknown-model'
      return this.#hasRoom(party) ? found.sessionOptions() : 'busy'
    })
    if ('blame' in accepted) {
      log.debug('no session about pieces came about', { party, what: accepted.what })
      if (accepted.blame === 'peer') this.#blame(party, 'malformed')
      return
    }
    const model = this.#models.get(toHex(accepted.model))
    if (model === undefined) accepted.session.close('nothing of it is here any more')
    else model.adopt(accepted.session, { isOurs: false })
  }

  #round(): void {
    const now = this.#deps.clock.monotonic()
    for (const model of this.#models.values()) model.round(now)
    this.#announcer?.round([...this.#models.values()])
  }

  #hasRoom(party: string): boolean {
    let all = 0
    let own = 0
    for (const model of this.#models.values()) {
      all += model.linkCount
      own += model.linksWith(party)
    }
    return all < PEERS_MAX && own < SESSIONS_PER_PARTY_MAX
  }

  #isBanned(party: string): boolean {
    return this.#banned.has(party) || this.#deps.isBanned(party)
  }

  /** Once for each party: what it does from here on reaches nobody. */
  #blame(party: string, why: SwarmBlame): void {
    if (this.#banned.has(party)) return
    this.#deps.log.warn('a party of the swarm is left out', { party, why })
    this.#banned.add(party)
    const [oldest] = this.#banned
    if (this.#banned.size > BANNED_MAX && oldest !== undefined) this.#banned.delete(oldest)
    for (const model of this.#models.values()) model.drop(party, why)
    this.#deps.onBlame(party, why)
  }

  #modelOf(infoHash: Uint8Array): ModelSwarm | undefined {
    if (infoHash.byteLength < SHORT_HASH_BYTES) return undefined
    for (const model of this.#models.values()) if (isPrefix(infoHash, model.options.torrent.infoHash)) return model
    return undefined
  }

  #endIfUnused(model: ModelSwarm): void {
    if (!model.isShared && model.users === 0 && this.#models.get(model.model) === model) this.#end(model)
  }

  #end(model: ModelSwarm): void {
    this.#models.delete(model.model)
    const end = model.end(stopped()).catch((error: unknown) => {
      this.#deps.log.error('a model could not be closed', { error: messageOf(error) })
    })
    this.#own(end)
  }

  #assertRunning(): void {
    if (!this.#hasStarted || this.#ending.signal.aborted) throw stopped()
  }

  #own(task: Promise<unknown>): void {
    const owned = task.finally(() => this.#tasks.delete(owned))
    this.#tasks.add(owned)
  }
}

function busy(what: string): SwarmError {
  return new SwarmError({ code: 'SWARM_BUSY' }, what)
}
