/**
 * Announces what this node serves: every minute, and at once where it changes, to every connected peer and as its record
 * in Kademlia; and now and then under the keys of its services, where strangers look, in Kademlia and Mainline.
 */
import { type CancelTimer, type Clock, type Logger, messageOf, withDeadline } from '#base'
import type { KeyProvider } from '#identity'
import type { MainlineNode } from '#mainline'
import { type Announcement, assertServices, signAnnouncement } from './announcement.ts'
import type { AnnouncementTable } from './announcement-table.ts'
import { stopped } from './errors.ts'
import { serviceKey } from './keys.ts'
import {
  ANNOUNCE_MS,
  ANNOUNCEMENT_LIFE_MS,
  FIND_PARALLEL_MAX,
  SERVICE_STREAM_MS_MAX,
  TOPIC_ANNOUNCE_MS,
  TOPIC_MS_MAX,
} from './limits.ts'
import { tell } from './service-stream.ts'
import type { DiscoveryHost, KadRecords, Service } from './types.ts'

/** The kind of announcements among the records of a peer in Kademlia. */
export const ANNOUNCEMENT_KIND = 'services'

export type AnnouncerDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly signer: KeyProvider
  readonly host: Pick<DiscoveryHost, 'peers' | 'open'>
  readonly table: AnnouncementTable
  readonly kad?: Pick<KadRecords, 'provide' | 'put'> | undefined
  readonly mainline?: Pick<MainlineNode, 'announce'> | undefined
  /** TCP port that strangers can dial; undefined: none, so Mainline is told nothing. */
  readonly tcpPort: () => number | undefined
  readonly onAnnounced?: (sequence: number) => void
}

export type AnnouncerOptions = {
  readonly topic: string
  /** @default 60 s */
  readonly announceMs?: number
}

export class Announcer {
  readonly #deps: AnnouncerDeps
  readonly #options: AnnouncerOptions
  readonly #ended = new AbortController()
  #services: readonly Service[] = []
  #current: Announcement | undefined
  #cancelTimer: CancelTimer | undefined
  #work: Promise<void> = Promise.resolve()
  #isBusy = false
  #hasChanged = false
  /** Clock.monotonic() of the last announcement under each key, as hexadecimal. */
  #announcedAt = new Map<string, number>()

  constructor(deps: AnnouncerDeps, options: AnnouncerOptions) {
    this.#deps = deps
    this.#options = options
  }

  /** What was announced last. */
  get current(): Announcement | undefined {
    return this.#current
  }

  /**
   * Replaces what is announced. An empty list takes it back.
   * @throws DiscoveryError DISCOVERY_ANNOUNCEMENT_INVALID, DISCOVERY_STOPPED
   */
  announce(services: readonly Service[]): void {
    if (this.#ended.signal.aborted) throw stopped()
    assertServices(services)
    this.#services = services
    this.#hasChanged = true
    this.#begin()
  }

  /** A peer has come: it is told at once. */
  async greet(peer: string): Promise<void> {
    if (this.#current !== undefined && this.#current.services.length > 0) await this.#tell(peer, this.#current)
  }

  /** Resolves when nothing is under way. */
  async stop(): Promise<void> {
    this.#ended.abort(stopped())
    this.#cancelTimer?.()
    await this.#work
    this.#announcedAt.clear()
  }

  #begin(): void {
    if (this.#isBusy || this.#ended.signal.aborted) return
    this.#isBusy = true
    this.#cancelTimer?.()
    this.#cancelTimer = undefined
    this.#work = this.#refresh().finally(() => {
      this.#isBusy = false
      if (this.#ended.signal.aborted) return
      if (this.#hasChanged) this.#begin()
      else if (this.#services.length > 0) {
        const wait = this.#options.announceMs ?? ANNOUNCE_MS
        this.#cancelTimer = this.#deps.clock.after(wait, () => this.#begin())
      }
    })
  }

  async #refresh(): Promise<void> {
    const { clock, log, signer, table } = this.#deps
    this.#hasChanged = false
    const services = this.#services
    // The time of signing is a number that grows over restarts too, without anything to be kept.
    const sequence = Math.max((this.#current?.sequence ?? -1) + 1, clock.now())
    try {
      const expiresAt = clock.now() + ANNOUNCEMENT_LIFE_MS
      this.#current = await signAnnouncement(signer, { sequence, expiresAt, services })
      table.add(this.#current)
      await this.#spread(this.#current)
      this.#deps.onAnnounced?.(sequence)
    } catch (error) {
      if (!this.#ended.signal.aborted) log.warn('services could not be announced', { error: messageOf(error) })
    }
  }

  async #spread(announcement: Announcement): Promise<void> {
    const peers = this.#deps.host.peers().map(({ id }) => id)
    const next = peers.values()
    const worker = async (): Promise<void> => {
      for (const peer of next) await this.#tell(peer, announcement)
    }
    await Promise.all([
      ...Array.from({ length: Math.min(FIND_PARALLEL_MAX, peers.length) }, worker),
      this.#publish(announcement),
    ])
  }

  async #tell(peer: string, announcement: Announcement): Promise<void> {
    const { clock, host, log } = this.#deps
    const { signal } = this.#ended
    try {
      const deadline = { what: 'a stream about services', timeoutMs: SERVICE_STREAM_MS_MAX, signal }
      const open = (inner: AbortSignal) => host.open(peer, '/koinon/services/1', { signal: inner })
      await tell(await withDeadline(clock, deadline, open), announcement, { clock, signal })
    } catch (error) {
      // The peer has gone, or is of a version without services.
      if (!signal.aborted) log.debug('a peer was not told of the services', { error: messageOf(error) })
    }
  }

  async #publish(announcement: Announcement): Promise<void> {
    const { kad, mainline, tcpPort } = this.#deps
    const { bytes: payload, services } = announcement
    await this.#attempt(async signal => kad?.put({ kind: ANNOUNCEMENT_KIND, payload }, { signal }))
    const due = this.#dueKeys(services)
    for (const key of due) {
      await this.#attempt(async signal => kad?.provide(key, { signal }))
      const port = tcpPort()
      if (port !== undefined) await this.#attempt(async signal => mainline?.announce(key, port, { signal }))
    }
  }

  /** Keys that were not announced for a while. */
  #dueKeys(services: readonly Service[]): Uint8Array[] {
    const now = this.#deps.clock.monotonic()
    const { topic } = this.#options
    const keys = new Map<string, Uint8Array>()
    for (const { service, model } of services) {
      keys.set(service, serviceKey(topic, { service }))
      if (model !== undefined) keys.set(`${service}/${model}`, serviceKey(topic, { service, model }))
    }
    const before = this.#announcedAt
    this.#announcedAt = new Map()
    const due: Uint8Array[] = []
    for (const [name, key] of keys) {
      const at = before.get(name)
      const isDue = at === undefined || now - at >= TOPIC_ANNOUNCE_MS
      if (isDue) due.push(key)
      this.#announcedAt.set(name, isDue ? now : at)
    }
    return due
  }

  async #attempt(task: (signal: AbortSignal) => Promise<unknown>): Promise<void> {
    const { clock, log } = this.#deps
    const { signal } = this.#ended
    try {
      await withDeadline(clock, { what: 'an announcement', timeoutMs: TOPIC_MS_MAX, signal }, task)
    } catch (error) {
      // The next turn comes in a minute.
      if (!signal.aborted) log.debug('a DHT was not told of the services', { error: messageOf(error) })
    }
  }
}
