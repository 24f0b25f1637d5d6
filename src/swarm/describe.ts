/**
 * The core of a model, and its manifest, from whoever has them: the first answer that is what the id or the info-hash stands
 * for is taken. These conversations are about nothing else, since without the core nothing is known of the pieces.
 */
import { abortable, repeat, toHex, withDeadline } from '#base'
import { sha256 } from '#crypto'
import { decodeCore, torrentOf } from '#formats'
import { DocumentExchange } from './documents.ts'
import { SwarmError } from './errors.ts'
import { DESCRIBE_MS_MAX, DESCRIBERS_MAX, ROUND_MS } from './limits.ts'
import { PeerSearch, type PeerSearchDeps } from './peer-search.ts'
import { noPeers } from './pull.ts'
import { StockCore } from './stock-core.ts'
import type { PeerAddress } from './swarm-types.ts'
import type { PeerSession, ReceivedMessage } from './wire/types.ts'

export type DescribeDeps = Omit<PeerSearchDeps, 'adopt' | 'isLinked'>

type About = {
  readonly model: string | undefined
  readonly infoHash: Uint8Array | undefined
  /** How long nobody at all may be there who gives it. */
  readonly waitMs: number
}

export type DescribeOptions = About & {
  readonly from: readonly PeerAddress[]
  readonly signal: AbortSignal
}

export type Described = {
  readonly core: Uint8Array<ArrayBuffer>
  readonly manifest: Uint8Array | undefined
}

type Description = { readonly describer: Describer; readonly result: Promise<Described>; users: number }

/**
 * The descriptions that are looked for, one per model: peers keep one session with a party about a model, so that two pulls
 * which asked by themselves would end one another's.
 */
export class Descriptions {
  readonly #open = new Map<string, Description>()

  /** @throws SwarmError SWARM_NO_PEERS, SWARM_CORE_MISSING; the signal's reason */
  async find(deps: DescribeDeps, options: DescribeOptions): Promise<Described> {
    const { from, signal } = options
    const key = options.model ?? toHex(options.infoHash ?? new Uint8Array(0))
    const description = this.#open.get(key) ?? this.#begin(key, deps, options)
    description.users++
    description.describer.join(from)
    try {
      return await abortable(description.result, signal)
    } finally {
      description.users--
      if (description.users === 0) {
        this.#forget(key, description)
        await description.describer.stop()
      }
    }
  }

  peerJoined(peer: string): void {
    for (const { describer } of this.#open.values()) describer.peerJoined(peer)
  }

  #begin(key: string, deps: DescribeDeps, about: About): Description {
    const describer = new Describer(deps, about)
    const description = { describer, result: describer.run(), users: 0 }
    this.#open.set(key, description)
    const forget = (): void => this.#forget(key, description)
    description.result.then(forget, forget)
    return description
  }

  #forget(key: string, description: Description): void {
    if (this.#open.get(key) === description) this.#open.delete(key)
  }
}

class Describer {
  readonly #deps: DescribeDeps
  readonly #about: About
  readonly #search: PeerSearch
  readonly #sessions = new Map<string, PeerSession>()
  readonly #found = Promise.withResolvers<Described>()
  readonly #ended = new AbortController()
  #hasAsked = false
  #idleSince: number

  constructor(deps: DescribeDeps, about: About) {
    this.#deps = deps
    this.#about = about
    this.#idleSince = deps.clock.monotonic()
    this.#search = new PeerSearch(
      { ...deps, isLinked: party => this.#sessions.has(party), adopt: session => this.#adopt(session) },
      about,
    )
  }

  /** One more waits for it, and knows peers. */
  join(from: readonly PeerAddress[]): void {
    this.#idleSince = this.#deps.clock.monotonic()
    for (const address of from) this.#search.add(address)
    this.#round()
  }

  peerJoined(peer: string): void {
    this.#search.add({ kind: 'koinon', peer, addresses: [] })
  }

  run(): Promise<Described> {
    this.#search.start()
    const period = { periodMs: ROUND_MS, signal: this.#ended.signal }
    repeat(this.#deps.clock, () => this.#round(), period).catch(this.#found.reject)
    return this.#found.promise
  }

  async stop(): Promise<void> {
    this.#ended.abort()
    for (const session of this.#sessions.values()) session.close('the model is known')
    await this.#search.stop()
  }

  #round(): void {
    const now = this.#deps.clock.monotonic()
    this.#search.round(now, { most: DESCRIBERS_MAX - this.#sessions.size })
    if (this.#sessions.size > 0) this.#idleSince = now
    const { waitMs } = this.#about
    // Whoever is being dialled at the end may be the one; those who let everybody wait get no more than the time again.
    if (now - this.#idleSince < (this.#search.isDialling ? 2 * waitMs : waitMs)) return
    const missing = { code: 'SWARM_CORE_MISSING' } as const
    this.#found.reject(
      this.#hasAsked ? new SwarmError(missing, 'nobody who was asked could describe the model') : noPeers(),
    )
  }

  #adopt(session: PeerSession): boolean {
    if (this.#ended.signal.aborted || this.#sessions.has(session.party)) {
      session.close('not needed')
      return false
    }
    this.#hasAsked = true
    this.#sessions.set(session.party, session)
    const deadline = { what: 'the description of a model', timeoutMs: DESCRIBE_MS_MAX, signal: this.#ended.signal }
    withDeadline(this.#deps.clock, deadline, () => this.#ask(session)).then(this.#found.resolve, (error: unknown) => {
      const isLie = error instanceof SwarmError && error.code === 'SWARM_CORE_INVALID'
      if (isLie) this.#deps.onBlame(session.party, 'lied')
      session.close('it did not describe the model')
    })
    return true
  }

  #ask(session: PeerSession): Promise<Described> {
    const { infoHash } = this.#about
    const documents = new DocumentExchange({ send: message => session.send(message), documents: () => ({}) })
    const stock = session.kind === 'bittorrent' && infoHash !== undefined ? new StockCore(session, infoHash) : undefined
    const { promise, resolve, reject } = Promise.withResolvers<Described>()
    session.onMessage = message => {
      if (message.kind === 'extended-handshake') {
        const asked =
          stock === undefined ? this.#fromNode(documents, message) : this.#fromClient(stock, documents, message)
        asked.then(resolve, reject)
      } else if (message.kind === 'metadata') documents.received('metadata', message)
      else if (message.kind === 'core') documents.received(message.document, message)
      else stock?.received(message)
    }
    session.onEnd = () => {
      documents.end()
      stock?.ended('the client left')
      this.#sessions.delete(session.party)
      this.#search.ended(session, { isUseful: false })
      reject(missing('a peer left before it had described the model'))
    }
    session.start()
    session.send({ kind: 'have-none' })
    return promise
  }

  async #fromNode(
    documents: DocumentExchange,
    { coreBytes, manifestBytes }: Extract<ReceivedMessage, { kind: 'extended-handshake' }>,
  ): Promise<Described> {
    if (coreBytes === undefined) throw missing('a peer has no description of the model')
    const core = this.#checked(await documents.fetch('core', coreBytes))
    if (manifestBytes === undefined) return { core, manifest: undefined }
    // Its signatures are checked by whoever asked for the model. Without it the model is described all the same.
    const manifest = await documents.fetch('manifest', manifestBytes).catch(() => undefined)
    return { core, manifest }
  }

  async #fromClient(
    stock: StockCore,
    documents: DocumentExchange,
    { metadataBytes }: Extract<ReceivedMessage, { kind: 'extended-handshake' }>,
  ): Promise<Described> {
    if (metadataBytes === undefined) throw missing('a client does not know the torrent')
    return { core: this.#checked(await stock.fetch(documents, metadataBytes)), manifest: undefined }
  }

  /** @throws SwarmError SWARM_CORE_INVALID */
  #checked(core: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    const { model, infoHash } = this.#about
    const isIt = model === undefined || toHex(sha256(core)) === model
    const decoded = isIt ? decodeCore(core) : undefined
    const isCore = decoded !== undefined && 'tensors' in decoded
    const isTorrent = isCore && (infoHash === undefined || isPrefix(infoHash, torrentOf(core).infoHash))
    if (isTorrent) return core
    throw new SwarmError({ code: 'SWARM_CORE_INVALID' }, 'a peer gave a description of another model')
  }
}

export function isPrefix(prefix: Uint8Array, hash: Uint8Array): boolean {
  return prefix.byteLength <= hash.byteLength && prefix.every((byte, at) => byte === hash[at])
}

function missing(what: string): SwarmError {
  return new SwarmError({ code: 'SWARM_CORE_MISSING' }, what)
}
