/**
 * Metadata of peers for a while, so that the DHT is asked once. One query for a peer at a time, a few at once; that a peer
 * has none is remembered too. The number of a peer's metadata never falls while the peer is in here: a DHT node that
 * still has an old value cannot bring it back.
 */
import { abortable, type Clock, withDeadline } from '#base'
import { DiscoveryError } from './errors.ts'
import {
  METADATA_ABSENT_MS,
  METADATA_CACHE_MAX,
  METADATA_FRESH_MS,
  METADATA_QUERIES_MAX,
  METADATA_QUERIES_WAITING_MAX,
  METADATA_QUERY_MS_MAX,
} from './limits.ts'
import type { VersionedMetadata } from './peer-metadata.ts'
import type { AbortOptions } from './types.ts'

export type MetadataCacheDeps = {
  readonly clock: Clock
  readonly fetch: (peer: string, options: { readonly signal: AbortSignal }) => Promise<VersionedMetadata | undefined>
}

export type MetadataCacheOptions = {
  /** @default 5 min */
  readonly freshMs?: number
  /** @default 1 min */
  readonly absentMs?: number
  /** @default 2000 */
  readonly entriesMax?: number
}

type Entry = { readonly found: VersionedMetadata | undefined; readonly until: number }

export class MetadataCache {
  readonly #deps: MetadataCacheDeps
  readonly #options: Required<MetadataCacheOptions>
  /** The least recently used first. */
  readonly #entries = new Map<string, Entry>()
  readonly #underWay = new Map<string, Promise<VersionedMetadata | undefined>>()
  readonly #waiting: (() => void)[] = []
  readonly #ended = new AbortController()
  #running = 0

  constructor(deps: MetadataCacheDeps, options: MetadataCacheOptions = {}) {
    this.#deps = deps
    this.#options = {
      freshMs: options.freshMs ?? METADATA_FRESH_MS,
      absentMs: options.absentMs ?? METADATA_ABSENT_MS,
      entriesMax: options.entriesMax ?? METADATA_CACHE_MAX,
    }
  }

  get size(): number {
    return this.#entries.size
  }

  /** Queries that run or wait. */
  get queries(): number {
    return this.#underWay.size
  }

  /** What is known without asking anybody, fresh or not. */
  peek(peer: string): VersionedMetadata | undefined {
    return this.#entries.get(peer)?.found
  }

  /**
   * From here where it is fresh, else from the network. Undefined: the peer has none, or nobody answered in time.
   * @throws DiscoveryError DISCOVERY_BUSY; the signal's reason
   */
  async get(peer: string, options: AbortOptions = {}): Promise<VersionedMetadata | undefined> {
    options.signal?.throwIfAborted()
    const entry = this.#entries.get(peer)
    if (entry !== undefined && entry.until > this.#deps.clock.monotonic()) {
      this.#entries.delete(peer)
      this.#entries.set(peer, entry)
      return entry.found
    }
    const query = this.#underWay.get(peer) ?? this.#begin(peer)
    return options.signal === undefined ? query : abortable(query, options.signal)
  }

  /** Many at once, as the answers come in; those that nothing was found of are left out. */
  async *getMany(
    peers: readonly string[],
    options: AbortOptions = {},
  ): AsyncGenerator<readonly [string, VersionedMetadata], void, undefined> {
    const waiting = new Map<string, Promise<readonly [string, VersionedMetadata | undefined]>>()
    const rest = [...new Set(peers)].values()
    const fill = (): void => {
      while (waiting.size < METADATA_QUERIES_MAX) {
        const next = rest.next()
        if (next.done === true) return
        const peer = next.value
        const query = this.get(peer, options).catch(() => undefined) // A peer that cannot be asked about is left out.
        waiting.set(
          peer,
          query.then(found => [peer, found] as const),
        )
      }
    }
    for (fill(); waiting.size > 0; fill()) {
      const [peer, found] = await Promise.race(waiting.values())
      waiting.delete(peer)
      options.signal?.throwIfAborted()
      if (found !== undefined) yield [peer, found]
    }
  }

  /** Takes what came another way; of two the one with the higher number stays. */
  put(peer: string, found: VersionedMetadata | undefined): VersionedMetadata | undefined {
    const known = this.#entries.get(peer)?.found
    const newest = known !== undefined && (found === undefined || found.sequence <= known.sequence) ? known : found
    const { freshMs, absentMs, entriesMax } = this.#options
    const until = this.#deps.clock.monotonic() + (found === undefined ? absentMs : freshMs)
    this.#entries.delete(peer)
    this.#entries.set(peer, { found: newest, until })
    const [oldest] = this.#entries.keys()
    if (this.#entries.size > entriesMax && oldest !== undefined) this.#entries.delete(oldest)
    return newest
  }

  /** The next `get` asks the network. */
  expire(peer: string): void {
    const entry = this.#entries.get(peer)
    if (entry !== undefined) this.#entries.set(peer, { ...entry, until: Number.NEGATIVE_INFINITY })
  }

  /** Ends the queries. Resolves when the last one has ended. */
  async stop(): Promise<void> {
    this.#ended.abort(new DiscoveryError({ code: 'DISCOVERY_STOPPED' }, 'discovery is not running'))
    for (const wake of this.#waiting.splice(0)) wake()
    await Promise.allSettled(this.#underWay.values())
    this.#entries.clear()
  }

  #begin(peer: string): Promise<VersionedMetadata | undefined> {
    if (this.#waiting.length >= METADATA_QUERIES_WAITING_MAX) {
      return Promise.reject(new DiscoveryError({ code: 'DISCOVERY_BUSY' }, 'too many queries for metadata at once'))
    }
    const query = this.#query(peer).finally(() => this.#underWay.delete(peer))
    query.catch(() => undefined) // Whoever asked hears of it; nobody may be left.
    this.#underWay.set(peer, query)
    return query
  }

  async #query(peer: string): Promise<VersionedMetadata | undefined> {
    if (this.#running >= METADATA_QUERIES_MAX) await new Promise<void>(resolve => this.#waiting.push(resolve))
    else this.#running++ // Who was woken has the place of the one that woke it.
    try {
      const { signal } = this.#ended
      const deadline = { what: 'a query for metadata', timeoutMs: METADATA_QUERY_MS_MAX, signal }
      const fetch = (inner: AbortSignal) => this.#deps.fetch(peer, { signal: inner })
      const found = await withDeadline(this.#deps.clock, deadline, fetch).catch(() => undefined)
      signal.throwIfAborted()
      return this.put(peer, found)
    } finally {
      const wake = this.#waiting.shift()
      if (wake === undefined) this.#running--
      else wake()
    }
  }
}
