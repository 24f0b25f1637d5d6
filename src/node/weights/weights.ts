/**
 * What this node does about the weights of models, its own and others': keeps them, shares them, fetches what its layers
 * need, and nothing more. The files themselves are `storage`'s, the moving of them `swarm`'s.
 */
import { type Clock, formatLayers, type LayerRange, type Logger, messageOf, toHex } from '#base'
import {
  describeModel,
  type HashedFile,
  layerCountOf,
  modelId,
  parseCore,
  readGguf,
  type TestVector,
  torrentOf,
  type WantedParts,
  wantedRanges,
} from '#formats'
import type { KeyProvider } from '#identity'
import { openVote, signManifest, signVote } from '#protocol'
import { type BlobStore, type ManifestStore, openFileSource, type VoteStore } from '#storage'
import type { Origin, Origins, PeerAddress, PullResult, Swarm } from '#swarm'
import type {
  AddModelRequest,
  ModelDetails,
  ModelHolding,
  PullEnd,
  PullRequest,
  WeightsOptions,
  WeightsService,
} from '#wire'
import { NodeError } from '../errors.ts'
import { describeDetails, describeHolding, torrentBytesOf } from './describe.ts'
import { nameOf, ownPiecesOf, type Shelf, type ShelvedModel, type Shelving } from './shelf.ts'
import { createHashProgress } from './hash-progress.ts'
import type { TrialTask } from './test-vector.ts'
import { keep, type Kept, KeptParts } from './kept-parts.ts'
import { ModelUses } from './model-uses.ts'
import {
  bitTorrentOff,
  findSubject,
  type FoundSubject,
  peerAddressOf,
  type SubjectDeps,
  withoutBitTorrent,
} from './subject.ts'
import { checking, Trials } from './trials.ts'

export type WeightsDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly shelf: Shelf
  readonly swarm: Swarm
  readonly stores: { readonly models: ManifestStore; readonly votes: VoteStore; readonly blobs: BlobStore }
  readonly signer: Pick<KeyProvider, 'publicKey' | 'sign'>
  /** Our own peer id. */
  readonly self: () => string
  readonly lookUp: SubjectDeps['lookUp']
  /** Dials a node by its address. @returns its peer id */
  readonly connect: (address: string, options: { readonly signal: AbortSignal }) => Promise<string>
  /** What the owner has configured beside peers. */
  readonly origins: Origins
  /** What the parts of a model answer to a fixed input, for its card. @throws EngineError ENGINE_TRIAL_FAILED */
  readonly measure: (task: TrialTask) => Promise<TestVector>
  /** Runs parts of a model once. @throws EngineError ENGINE_TRIAL_FAILED, ENGINE_TRIAL_MISMATCH */
  readonly tryModel: (task: TrialTask & { readonly vector: TestVector | undefined }) => Promise<void>
  /** What is shared has changed. */
  readonly onShared: () => void
  /** Whether BitTorrent clients can be asked. */
  readonly hasBitTorrent: boolean
  /** Whether models are shared unless somebody says otherwise. */
  readonly sharesByDefault: boolean
}

/** Parts of one model that are to be here. */
export type Provision = { readonly id: string; readonly parts: WantedParts }

/** A model that is being fetched: it stays on the shelf until `leave`. */
type Begun = {
  readonly model: ShelvedModel
  readonly from: readonly PeerAddress[]
  readonly pieceLayer: Uint8Array | undefined
  readonly leave: () => void
}

export class Weights implements WeightsService {
  readonly #deps: WeightsDeps
  readonly #trials: Trials
  readonly #uses = new ModelUses()
  /** Of models that run here. */
  readonly #kept: KeptParts
  readonly #ending = new AbortController()
  readonly #tasks = new Set<Promise<unknown>>()

  constructor(deps: WeightsDeps) {
    this.#deps = deps
    const { clock, stores, tryModel } = deps
    this.#kept = new KeptParts(stores.blobs)
    this.#trials = new Trials({ clock, models: stores.models, tryModel })
  }

  /** Puts up and shares what earlier lives have left. */
  async start(): Promise<void> {
    await this.#deps.shelf.load()
    for (const model of this.#deps.shelf.list()) this.#share(model)
  }

  /** Ends what is being fetched, tried or hashed; resolves when nothing of it runs any more. Idempotent. */
  async stop(): Promise<void> {
    this.#ending.abort(new NodeError({ code: 'NODE_STOPPED' }, 'the node is stopping'))
    while (this.#tasks.size > 0) await Promise.allSettled(this.#tasks)
  }

  list(): readonly ModelHolding[] {
    const facts = new Map(this.#deps.swarm.facts().map(each => [each.model, each]))
    return this.#deps.shelf.list().map(model => describeHolding(model, facts.get(model.known.id)))
  }

  details(name: string): ModelDetails {
    const model = this.#deps.shelf.find(name)
    const facts = this.#deps.swarm.facts().find(each => each.model === model.known.id)
    return describeDetails(model, { facts, votes: this.#deps.stores.votes.of(model.known.id) })
  }

  add(request: AddModelRequest, options: WeightsOptions): Promise<ModelDetails> {
    return this.#run(options, inner => this.#add(request, inner))
  }

  /** A file that this node runs: known and shared from now on, without words about it that nobody has said. */
  async adopt(file: {
    readonly path: string
    readonly core: Uint8Array
    readonly hashed?: HashedFile | undefined
  }): Promise<void> {
    this.#share(await this.#put({ core: file.core, file, isShared: this.#isToBeShared(parseCore(file.core).id) }))
  }

  pull(request: PullRequest, options: WeightsOptions): Promise<PullEnd> {
    const { layers, edges } = request
    const parts: WantedParts = layers === undefined && edges !== true ? 'all' : partsOf(layers, edges === true)
    return this.#run(options, async inner => {
      const { model, result } = await this.#pull(request, parts, inner).catch((error: unknown) => {
        throw this.#deps.hasBitTorrent ? error : withoutBitTorrent(error, request)
      })
      return { ...endOf(result), name: nameOf(model) }
    })
  }

  /** Fetches what is missing of a model by any of its names. @returns the model, with these parts here */
  obtain(request: PullRequest, parts: WantedParts, options: WeightsOptions): Promise<ShelvedModel> {
    return this.#run(options, async inner => (await this.#pull(request, parts, inner)).model)
  }

  /**
   * Sees to it that parts of a known model are here, and stay as long as this node uses them: those of before may go once
   * these are here. Does nothing where a user's file has it all.
   * @throws NodeError NODE_QUOTA_FULL where they do not fit, whatever goes; then those of before stay
   */
  provide(provision: Provision, options: WeightsOptions): Promise<void> {
    return this.#run(options, inner => this.#provide(provision, inner))
  }

  verify(name: string, options: WeightsOptions): ReturnType<WeightsService['verify']> {
    return this.#run(options, ({ signal, onProgress }) => {
      const { blob } = this.#deps.shelf.find(name)
      const progress = createHashProgress(this.#deps.clock, onProgress)
      return blob.verify({ signal, onProgress: progress })
    })
  }

  async remove(name: string): Promise<number> {
    const { shelf } = this.#deps
    await this.#uses.removalOf(shelf.find(name).known.id)
    const model = shelf.find(name)
    const { id } = model.known
    if (this.#kept.has(id)) throw inUse('this node runs that model: stop it first, or serve another one')
    if (this.#uses.isUsed(id))
      throw inUse('that model is being fetched or added: wait for its end, or give it up first')
    return this.#uses.remove(id, () => this.#remove(model))
  }

  async #remove(model: ShelvedModel): Promise<number> {
    const { shelf, swarm, onShared } = this.#deps
    swarm.unshare(model.known.id)
    try {
      return await shelf.remove(model)
    } catch (error) {
      // Something of it is pinned: it stays as it was.
      this.#share(model)
      throw error
    } finally {
      onShared()
    }
  }

  async share(name: string, isShared: boolean): Promise<ModelDetails> {
    const { shelf, swarm, onShared } = this.#deps
    const { known } = shelf.find(name)
    const model = await this.#put({ core: known.core, isShared })
    if (isShared) this.#share(model)
    else swarm.unshare(known.id)
    onShared()
    return this.details(known.id)
  }

  torrent(name: string): Uint8Array {
    return torrentBytesOf(this.#deps.shelf.find(name))
  }

  async vote(name: string, vote: { readonly isTrusted: boolean; readonly comment: string }): Promise<ModelDetails> {
    const { shelf, stores, signer, self, clock } = this.#deps
    const { id } = shelf.find(name).known
    const sequence = (stores.votes.sequenceOf(id, self()) ?? 0) + 1
    const bytes = await signVote(signer, { model: id, ...vote, sequence, at: clock.now() })
    if (stores.votes.put(bytes) === undefined) {
      throw new NodeError({ code: 'NODE_VOTE_REFUSED' }, 'the vote could not be kept')
    }
    this.#deps.swarm.votesChanged(id)
    return this.details(id)
  }

  /** Votes that a peer has told: each is checked when it is kept. What is new here is told to others. */
  takeVotes(model: string, records: readonly Uint8Array[]): void {
    const { stores, swarm } = this.#deps
    let hasNews = false
    for (const record of records) {
      const opened = openVote(record)
      if ('code' in opened || opened.vote.model !== model) continue
      if (stores.votes.put(record) !== undefined) hasNews = true
    }
    if (hasNews) swarm.votesChanged(model)
  }

  /** Models that peers may fetch here, for announcements. */
  shared(): readonly { readonly id: string; readonly name: string }[] {
    return this.#deps.shelf
      .list()
      .filter(({ known, blob }) => known.isShared && !blob.has.isEmpty)
      .map(model => ({ id: model.known.id, name: nameOf(model) }))
  }

  async #add(request: AddModelRequest, { signal, onProgress }: WeightsOptions): Promise<ModelDetails> {
    const { clock, signer, shelf, measure } = this.#deps
    const source = await openFileSource(request.file)
    try {
      const gguf = await readGguf(source)
      const config = describeModel(gguf)
      const progress = createHashProgress(clock, onProgress)
      const { core, pieces, leaves, id } = await modelId(source, gguf, { signal, onProgress: progress })
      const { path } = source.stamp
      onProgress(checking(source.size))
      const everything = { layers: { first: 0, last: config.layerCount }, edges: true }
      const testVector = await measure({ file: path, parts: everything, signal })
      const manifest = await signManifest(signer, {
        model: id,
        infoHash: toHex(torrentOf(core).infoHash),
        name: request.name ?? config.name,
        architecture: config.architecture,
        layerCount: layerCountOf(parseCore(core)),
        createdAt: clock.now(),
        ...(request.licence === undefined ? {} : { licence: request.licence }),
        ...(request.previous === undefined ? {} : { previous: shelf.find(request.previous).known.id }),
        card: {
          benchmarks: request.benchmarks ?? [],
          sources: [],
          testVector,
        },
      })
      const file = { path, hashed: { tree: pieces, leaves } }
      this.#share(await this.#put({ core, manifest, file, isShared: this.#deps.sharesByDefault }))
      return this.details(id)
    } finally {
      await source.close()
    }
  }

  async #pull(
    request: PullRequest,
    parts: WantedParts,
    options: WeightsOptions & { readonly unpin?: () => void },
  ): Promise<{ readonly model: ShelvedModel; readonly result: PullResult }> {
    const { shelf, swarm } = this.#deps
    const { signal, onProgress } = options
    const { model, from, pieceLayer, leave } = await this.#begin(request, signal)
    // From before they come to after they were tried nothing else may take their place.
    let own: Kept | undefined
    const unpin = (): void => {
      own?.release()
      options.unpin?.()
    }
    try {
      const wanted = checkedRanges(model, parts)
      own = keep(model, ownPiecesOf(model, wanted))
      const { known } = model
      const result = await swarm.pull({
        from,
        signal,
        onProgress,
        isShared: known.isShared,
        subject: { core: new Uint8Array(known.core), manifest: known.manifest?.bytes },
        wanted,
        origins: await this.#originsOf(model, request.sources ?? [], signal),
        ...(pieceLayer === undefined ? {} : { pieceLayer }),
      })
      await this.#try(model, parts, { ...options, unpin })
      const fresh = await shelf.refresh(known.id)
      this.#share(fresh)
      return { model: fresh, result }
    } finally {
      own?.release()
      leave()
    }
  }

  /** Finds the model, or learns of it, and keeps it from being removed. */
  async #begin(request: PullRequest, signal: AbortSignal): Promise<Begun> {
    const { shelf } = this.#deps
    let named: readonly PeerAddress[] | undefined
    for (;;) {
      signal.throwIfAborted()
      const found = await findSubject(this.#deps, request, { signal })
      named ??= await this.#addresses(request.from ?? [], signal)
      const from = [...found.from, ...named]
      const { id } = (found.shelved ?? (await this.#learn(found, { from, signal }))).known
      const model = shelf.get(id)
      const removal = this.#uses.removalOf(id)
      if (model !== undefined && removal === undefined)
        return { model, from, pieceLayer: found.pieceLayer, leave: this.#uses.begin(id) }
      // It was removed meanwhile, so it is to be found again.
      await removal
    }
  }

  async #provide({ id, parts }: Provision, options: WeightsOptions): Promise<void> {
    const { shelf } = this.#deps
    await this.#uses.removalOf(id)
    const model = shelf.find(id)
    if (model.known.file !== undefined && model.blob.has.isFull) return
    const leave = this.#uses.begin(id)
    const kept = keep(model, ownPiecesOf(model, wantedRanges(model.core, parts)))
    try {
      if (model.blob.has.contains(kept.pieces)) await this.#try(model, parts, { ...options, unpin: kept.release })
      else {
        this.#kept.giveWay(model, kept.pieces)
        await this.#pull({ model: id }, parts, { ...options, unpin: kept.release })
      }
      this.#kept.put(id, kept)
    } catch (error) {
      kept.release()
      throw error
    } finally {
      leave()
    }
  }

  /** What fails its trial is not kept, unless something else needs it. @param options.unpin lets go of it */
  #try(
    model: ShelvedModel,
    parts: WantedParts,
    { unpin, ...options }: WeightsOptions & { readonly unpin: () => void },
  ): Promise<void> {
    const onBad = async (): Promise<void> => {
      unpin()
      await model.blob.drop(ownPiecesOf(model, wantedRanges(model.core, parts)))
    }
    return this.#trials.run(model, parts, { ...options, onBad })
  }

  /** Gets a model's description, and keeps it: from then on it is known here. */
  async #learn(
    { subject }: FoundSubject,
    common: { readonly from: readonly PeerAddress[]; readonly signal: AbortSignal },
  ): Promise<ShelvedModel> {
    const { model, core, manifest } = await this.#deps.swarm.pull({ ...common, subject, wanted: [] })
    return this.#put({ core, manifest, isShared: this.#isToBeShared(model) })
  }

  /** Nothing is put back that is being removed. */
  async #put(shelving: Shelving): Promise<ShelvedModel> {
    const { id } = parseCore(shelving.core)
    for (let removal = this.#uses.removalOf(id); removal !== undefined; removal = this.#uses.removalOf(id))
      await removal
    const leave = this.#uses.begin(id)
    try {
      return await this.#deps.shelf.put(shelving)
    } finally {
      leave()
    }
  }

  /** What its owner has said of a model holds, whoever fetches it again. */
  #isToBeShared(model: string): boolean {
    return this.#deps.stores.models.find(model)?.isShared ?? this.#deps.sharesByDefault
  }

  /** @param action ends when the signal that it is given does, at the latest when the node stops */
  #run<T>(options: WeightsOptions, action: (options: WeightsOptions) => Promise<T>): Promise<T> {
    const signal = AbortSignal.any([options.signal, this.#ending.signal])
    const task = (async () => {
      signal.throwIfAborted()
      return await action({ ...options, signal })
    })()
    this.#tasks.add(task)
    return task.finally(() => this.#tasks.delete(task))
  }

  async #addresses(texts: readonly string[], signal: AbortSignal): Promise<PeerAddress[]> {
    const { connect, hasBitTorrent } = this.#deps
    const found = await Promise.all(texts.map(text => peerAddressOf(text, address => connect(address, { signal }))))
    const asksClients = found.some(({ kind }) => kind === 'bittorrent')
    if (asksClients && !hasBitTorrent) throw bitTorrentOff('this node asks no BitTorrent clients')
    return found
  }

  async #originsOf(model: ShelvedModel, named: readonly string[], signal: AbortSignal): Promise<readonly Origin[]> {
    const { origins } = this.#deps
    const wanted = { id: model.known.id, fileBytes: model.blob.length, name: nameOf(model) }
    // A source that the owner has named for this pull has to work.
    const onFault = (_name: string, error: Error): void => {
      throw error
    }
    if (named.length > 0) return origins.chosen(wanted, named, { signal, onFault })
    const suggested = model.known.manifest?.manifest.card.sources ?? []
    return [...(await origins.find(wanted, { signal })), ...origins.suggested(wanted, suggested)]
  }

  #share(model: ShelvedModel): void {
    const { swarm, onShared, log } = this.#deps
    if (!model.known.isShared) return
    try {
      swarm.share({
        core: new Uint8Array(model.known.core),
        manifest: model.known.manifest?.bytes,
        blob: model.blob,
      })
    } catch (error) {
      log.warn('a model cannot be shared', { model: model.known.id, reason: messageOf(error) })
    }
    onShared()
  }
}

function partsOf(layers: LayerRange | undefined, edges: boolean): WantedParts {
  return layers === undefined ? { edges } : { layers, edges }
}

/** @throws NodeError NODE_LAYERS_UNKNOWN */
function checkedRanges(model: ShelvedModel, parts: WantedParts): ReturnType<typeof wantedRanges> {
  if (parts !== 'all' && parts.layers !== undefined) {
    const layerCount = layerCountOf(model.core)
    const { first, last } = parts.layers
    if (last > layerCount || first >= last) {
      throw new NodeError(
        { code: 'NODE_LAYERS_UNKNOWN', layers: parts.layers, layerCount },
        `the model has layers 0-${layerCount}; ${formatLayers(parts.layers)} are not all among them`,
      )
    }
  }
  return wantedRanges(model.core, parts)
}

function inUse(message: string): NodeError {
  return new NodeError({ code: 'NODE_MODEL_IN_USE' }, message)
}

function endOf({
  model,
  wantedBytes,
  hadBytes,
  receivedBytes,
  wastedBytes,
  seconds,
  from,
}: PullResult): Omit<PullEnd, 'name'> {
  return { model, wantedBytes, hadBytes, receivedBytes, wastedBytes, seconds, from }
}
