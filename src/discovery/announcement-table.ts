/**
 * The announcements that are in force, one for each peer. The one with the higher number counts; two with the same number
 * and different contents are a fault of the peer that signed both, and the first stays.
 */
import { type Clock, toHex } from '#base'
import { sha256 } from '#crypto'
import { type Announcement, isAnswerTo } from './announcement.ts'
import type { PeerFault } from './errors.ts'
import { ANNOUNCEMENTS_MAX } from './limits.ts'
import type { ServiceQuery } from './types.ts'

export class AnnouncementTable {
  readonly #clock: Clock
  readonly #countMax: number
  readonly #announcements = new Map<string, Announcement>()

  constructor(deps: { readonly clock: Clock }, options: { readonly countMax?: number } = {}) {
    this.#clock = deps.clock
    this.#countMax = options.countMax ?? ANNOUNCEMENTS_MAX
  }

  get size(): number {
    return this.#announcements.size
  }

  /** In force; undefined: none. */
  get(peer: string): Announcement | undefined {
    const announcement = this.#announcements.get(peer)
    return announcement !== undefined && announcement.expiresAt > this.#clock.now() ? announcement : undefined
  }

  /** Whether it is news; a fault where its peer contradicts itself. */
  add(announcement: Announcement): boolean | PeerFault {
    const known = this.get(announcement.peer)
    if (known !== undefined && known.sequence > announcement.sequence) return false
    if (known?.sequence === announcement.sequence) {
      if (toHex(sha256(known.bytes)) === toHex(sha256(announcement.bytes))) return false
      return { code: 'DISCOVERY_ANNOUNCEMENT_CONFLICT', what: 'two announcements under one number' }
    }
    this.#announcements.set(announcement.peer, announcement)
    if (this.#announcements.size > this.#countMax) this.#evict(announcement)
    return true
  }

  /** Announcements in force with a service that was asked for. */
  *find(query: ServiceQuery): Generator<Announcement, void, undefined> {
    const now = this.#clock.now()
    for (const announcement of this.#announcements.values()) {
      if (announcement.expiresAt <= now) continue
      if (announcement.services.some(service => isAnswerTo(service, query))) yield announcement
    }
  }

  /** Forgets those that have expired. */
  sweep(): void {
    const now = this.#clock.now()
    for (const [peer, { expiresAt }] of this.#announcements) if (expiresAt <= now) this.#announcements.delete(peer)
  }

  clear(): void {
    this.#announcements.clear()
  }

  #evict(newcomer: Announcement): void {
    this.sweep()
    if (this.#announcements.size <= this.#countMax) return
    let first: Announcement | undefined
    for (const announcement of this.#announcements.values()) {
      if (announcement !== newcomer && (first === undefined || announcement.expiresAt < first.expiresAt)) {
        first = announcement
      }
    }
    if (first !== undefined) this.#announcements.delete(first.peer)
  }
}
