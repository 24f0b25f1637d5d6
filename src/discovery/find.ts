/**
 * Looks for a service everywhere at once, and yields what is found as it comes: what this node has heard, what connected
 * peers know, whom Kademlia names, who has announced itself in Mainline. Whatever the way, a result is an announcement
 * that its own peer has signed and that is in force. Bounded in time, results, questions and dials.
 */
import { BoundedQueue, type Clock, type Logger, messageOf, withDeadline } from '#base'
import type { MainlineNode } from '#mainline'
import { type Announcement, isAnswerTo, openAnnouncement } from './announcement.ts'
import type { AnnouncementTable } from './announcement-table.ts'
import { ANNOUNCEMENT_KIND } from './announcer.ts'
import { endingIn } from './dial-plan.ts'
import { isFault, type PeerFault } from './errors.ts'
import { serviceKey } from './keys.ts'
import {
  DIAL_MS_MAX,
  FIND_CANDIDATES_MAX,
  FIND_MS_MAX,
  FIND_PARALLEL_MAX,
  FIND_RESULTS_MAX,
  SERVICE_STREAM_MS_MAX,
} from './limits.ts'
import { ask } from './service-stream.ts'
import type { DiscoveryHost, FoundService, KadRecords, ServiceQuery } from './types.ts'

export type FindDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly topic: string
  readonly host: Pick<DiscoveryHost, 'id' | 'peers' | 'open' | 'connect'>
  readonly table: AnnouncementTable
  readonly kad?: Pick<KadRecords, 'findProviders' | 'get'> | undefined
  readonly mainline?: Pick<MainlineNode, 'getPeers'> | undefined
  /** Addresses that a peer is known to have. */
  readonly addressesOf: (peer: string) => readonly string[]
  readonly onFault: (peer: string, fault: PeerFault) => void
}

export type FindOptions = {
  readonly signal: AbortSignal
  /** @default 15 s */
  readonly timeoutMs?: number
}

type Via = FoundService['via']

export async function* findServices(
  deps: FindDeps,
  query: ServiceQuery,
  options: FindOptions,
): AsyncGenerator<FoundService, void, undefined> {
  const left = new AbortController()
  const search = new Search(deps, query, AbortSignal.any([options.signal, left.signal]))
  const work = search.run(options.timeoutMs ?? FIND_MS_MAX)
  try {
    yield* search.results
    options.signal.throwIfAborted()
  } finally {
    left.abort(new Error('nobody looks any more'))
    await work
  }
}

class Search {
  readonly results = new BoundedQueue<FoundService>(FIND_RESULTS_MAX)
  readonly #deps: FindDeps
  readonly #query: ServiceQuery
  readonly #ended = new AbortController()
  readonly #signal: AbortSignal
  readonly #told = new Set<string>()
  readonly #asked = new Set<string>()
  #candidates = 0

  constructor(deps: FindDeps, query: ServiceQuery, signal: AbortSignal) {
    this.#deps = deps
    this.#query = query
    this.#signal = AbortSignal.any([signal, this.#ended.signal])
  }

  /** Never rejects: what fails leaves its results out. */
  async run(timeoutMs: number): Promise<void> {
    const cancelTimer = this.#deps.clock.after(timeoutMs, () => this.#ended.abort(new Error('the search is over')))
    for (const announcement of this.#deps.table.find(this.#query)) {
      this.#take(announcement, announcement.peer === this.#deps.host.id ? 'self' : 'peer')
    }
    await Promise.all([this.#askConnected(), this.#searchKad(), this.#searchMainline()])
    cancelTimer()
    this.results.end()
  }

  async #askConnected(): Promise<void> {
    const peers = this.#deps.host.peers().map(({ id }) => id)
    await this.#each(peers, peer => this.#ask(peer, 'peer'))
  }

  async #searchKad(): Promise<void> {
    const { kad } = this.#deps
    if (kad === undefined) return
    await this.#each(kad.findProviders(this.#key(), { signal: this.#signal }), async ({ peer, addresses }) => {
      if (peer === this.#deps.host.id) return
      const bytes = await kad.get(ANNOUNCEMENT_KIND, peer, { signal: this.#signal }).catch(() => undefined)
      const announcement = bytes === undefined ? undefined : openAnnouncement(bytes, this.#deps.clock.now())
      if (announcement !== undefined && !isFault(announcement) && announcement.peer === peer) {
        this.#take(announcement, 'kad')
      } else {
        const reached = await this.#connect(addresses.map(text => endingIn(text, peer)))
        if (reached === peer) await this.#ask(peer, 'kad')
      }
    })
  }

  async #searchMainline(): Promise<void> {
    const { mainline } = this.#deps
    if (mainline === undefined) return
    await this.#each(mainline.getPeers(this.#key(), { signal: this.#signal }), async ({ host, port }) => {
      const peer = await this.#connect([`${host.includes(':') ? '/ip6' : '/ip4'}/${host}/tcp/${port}`])
      if (peer !== undefined) await this.#ask(peer, 'mainline')
    })
  }

  /** Of a model's name or a prefix nobody makes a key: those who have the service at all are looked through then. */
  #key(): Uint8Array {
    const { service, model } = this.#query
    const isWhole = model !== undefined && /^[0-9a-f]{64}$/i.test(model)
    return serviceKey(this.#deps.topic, isWhole ? { service, model: model.toLowerCase() } : { service })
  }

  /** The first address that leads to somebody. */
  async #connect(addresses: readonly string[]): Promise<string | undefined> {
    const { clock, host } = this.#deps
    for (const address of addresses.slice(0, 4)) {
      try {
        const deadline = { what: 'a dial', timeoutMs: DIAL_MS_MAX, signal: this.#signal }
        return await withDeadline(clock, deadline, signal => host.connect(address, { signal }))
      } catch (error) {
        this.#deps.log.debug('somebody who was named could not be reached', { error: messageOf(error) })
      }
    }
    return undefined
  }

  async #ask(peer: string, via: Via): Promise<void> {
    if (this.#asked.has(peer)) return
    this.#asked.add(peer)
    const { clock, host, onFault } = this.#deps
    const signal = this.#signal
    const deadline = { what: 'a stream about services', timeoutMs: SERVICE_STREAM_MS_MAX, signal }
    const open = (inner: AbortSignal) => host.open(peer, '/koinon/services/1', { signal: inner })
    const stream = await withDeadline(clock, deadline, open)
    const onAnnouncement = (announcement: Announcement): void => this.#take(announcement, via)
    const fault = await ask(stream, this.#query, { clock, signal, onAnnouncement })
    if (fault !== undefined) onFault(peer, fault)
  }

  #take(announcement: Announcement, via: Via): void {
    const { table, onFault, addressesOf } = this.#deps
    const { peer, sequence, expiresAt, services } = announcement
    const outcome = table.add(announcement)
    if (typeof outcome === 'object') onFault(peer, outcome)
    // What is no news may be older than what we have: then that is what counts.
    if (table.get(peer)?.sequence !== sequence || typeof outcome === 'object') return
    for (const service of services) {
      const { model, layers } = service
      const name = JSON.stringify([peer, service.service, model, layers])
      if (!isAnswerTo(service, this.#query) || this.#told.has(name)) continue
      if (this.#told.size >= FIND_RESULTS_MAX) {
        this.#ended.abort(new Error('enough was found'))
        return
      }
      this.#told.add(name)
      this.results.push({ ...service, peer, addresses: addressesOf(peer), sequence, expiresAt, via })
    }
  }

  /** A few at a time. Never rejects. */
  async #each<T>(items: Iterable<T> | AsyncIterable<T>, action: (item: T) => Promise<void>): Promise<void> {
    const running = new Set<Promise<void>>()
    const { log } = this.#deps
    const run = async (item: T): Promise<void> => {
      try {
        await action(item)
      } catch (error) {
        if (!this.#signal.aborted) log.debug('somebody could not be asked for a service', { error: messageOf(error) })
      }
    }
    try {
      for await (const item of items) {
        if (this.#signal.aborted || ++this.#candidates > FIND_CANDIDATES_MAX) break
        const task: Promise<void> = run(item).finally(() => running.delete(task))
        running.add(task)
        if (running.size >= FIND_PARALLEL_MAX) await Promise.race(running)
      }
    } catch (error) {
      if (!this.#signal.aborted) log.debug('a DHT could not be asked for a service', { error: messageOf(error) })
    }
    await Promise.all(running)
  }
}
