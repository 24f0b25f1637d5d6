/**
 * Who is here: joined peers, each with one session or several (when both sides dialled at once, or a dead connection
 * has not been noticed yet). A peer joins with its first session and leaves with its last.
 */
import { abortable, assert, type Logger, messageOf } from '#base'
import { type KnownPeer, type NodeOffer, PEER_ADDRESSES_MAX } from '#wire'
import { addressesOf, remoteAddressOf } from './address.ts'
import { CONNECTIONS_PER_PEER_MAX, PEERS_MAX, SETTLED_MS } from './limits.ts'
import type { Announcement, Session } from './session.ts'
import type { Peer, PeerEvent } from './types.ts'

type Entry = {
  /** Oldest first. */
  readonly sessions: Session[]
  readonly connectedAt: number
  announcement: Announcement
}

export class PeerTable {
  readonly #self: string
  readonly #log: Logger
  readonly #entries = new Map<string, Entry>()
  readonly #listeners = new Set<(event: PeerEvent) => void>()

  constructor(deps: { readonly log: Logger }, options: { readonly self: string }) {
    this.#log = deps.log
    this.#self = options.self
  }

  get size(): number {
    return this.#entries.size
  }

  has(peer: string): boolean {
    return this.#entries.has(peer)
  }

  hasRoom(peer: string): boolean {
    const entry = this.#entries.get(peer)
    return entry === undefined ? this.size < PEERS_MAX : entry.sessions.length < CONNECTIONS_PER_PEER_MAX
  }

  peers(): Peer[] {
    return [...this.#entries.values()].map(entry => this.#describe(entry))
  }

  /** @returns how to stop listening */
  onPeer(listener: (event: PeerEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Resolves once the peer is not here. Rejects with the signal's reason. */
  async left(peer: string, options: { readonly signal: AbortSignal }): Promise<void> {
    if (!this.has(peer)) return
    const { promise, resolve } = Promise.withResolvers<void>()
    const stop = this.onPeer(event => {
      if (event.kind === 'left' && event.peer.id === peer) resolve()
    })
    await abortable(promise, options.signal).finally(stop)
  }

  /** The session that new streams use. */
  session(peer: string): Session | undefined {
    const entry = this.#entries.get(peer)
    return entry === undefined ? undefined : this.#preferred(entry)
  }

  /** The latest offer of a joined peer. */
  offer(peer: string): NodeOffer | undefined {
    return this.#entries.get(peer)?.announcement.offer
  }

  /** @returns whether the peer is new */
  join(session: Session, announcement: Announcement): boolean {
    const entry = this.#entries.get(session.peer)
    if (entry !== undefined) {
      entry.sessions.push(session)
      entry.announcement = announcement
      this.#emit({ kind: 'changed', peer: this.#describe(entry) })
      return false
    }
    const joined = { sessions: [session], connectedAt: session.joinedAt, announcement }
    this.#entries.set(session.peer, joined)
    this.#emit({ kind: 'joined', peer: this.#describe(joined) })
    return true
  }

  update(session: Session, announcement?: Announcement): void {
    const entry = this.#entries.get(session.peer)
    if (entry?.sessions.includes(session) !== true) return
    if (announcement !== undefined) entry.announcement = announcement
    this.#emit({ kind: 'changed', peer: this.#describe(entry) })
  }

  /** @returns whether the peer has left */
  leave(session: Session): boolean {
    const entry = this.#entries.get(session.peer)
    const index = entry?.sessions.indexOf(session) ?? -1
    if (entry === undefined || index < 0) return false
    const peer = this.#describe(entry)
    entry.sessions.splice(index, 1)
    if (entry.sessions.length > 0) return false
    this.#entries.delete(session.peer)
    this.#emit({ kind: 'left', peer })
    return true
  }

  /**
   * Whether we may close it: we dialled it, it carries nothing, and the connection that both sides prefer is old enough
   * to be known to both.
   */
  isRedundant(session: Session, nowMs: number): boolean {
    const entry = this.#entries.get(session.peer)
    if (entry === undefined || session.direction !== 'outbound') return false
    const preferred = this.#preferred(entry)
    if (preferred === undefined || preferred === session || nowMs - preferred.joinedAt < SETTLED_MS) return false
    return session.connection.streams.length <= 1 && session.planeStreams.size === 0
  }

  /** Others that the peer may like to meet: those that have signed where they are. */
  introductions(peer: string): KnownPeer[] {
    const others = [...this.#entries.keys()].filter(other => other !== peer)
    return others.map(other => this.knownPeer(other)).filter(known => known !== undefined)
  }

  /** A peer as others are told of it; undefined where it has not signed where it is. */
  knownPeer(peer: string): KnownPeer | undefined {
    const record = this.#entries.get(peer)?.announcement.record
    return record === undefined ? undefined : { id: peer, record }
  }

  /** Both sides choose alike: the connection that the smaller peer id dialled, the newest of them. */
  #preferred(entry: Entry): Session | undefined {
    const rightful = entry.sessions.filter(session => {
      const dialler = session.direction === 'outbound' ? this.#self : session.peer
      return dialler < (dialler === this.#self ? session.peer : this.#self)
    })
    return rightful.at(-1) ?? entry.sessions.at(-1)
  }

  #describe(entry: Entry): Peer {
    const session = this.#preferred(entry) as Session
    const protocol = session.facts
    assert(protocol !== undefined, 'a peer joins with an established session')
    const own = addressesOf(session.peer, entry.announcement.offer.addresses).map(address => address.text)
    const dialled = session.direction === 'outbound' ? [session.connection.remoteAddr.toString()] : []
    return {
      id: session.peer,
      addresses: [...new Set([...dialled, ...own])].slice(0, PEER_ADDRESSES_MAX),
      direction: session.direction,
      ...optional('remoteAddress', remoteAddressOf(session.connection)),
      ...optional('observedAddress', session.observedAddress),
      connectedAt: entry.connectedAt,
      ...(session.rttMs === undefined ? {} : { rttMs: session.rttMs }),
      offer: entry.announcement.offer,
      streams: streamsOf(entry.sessions),
      protocol,
    }
  }

  #emit(event: PeerEvent): void {
    for (const listener of this.#listeners) {
      try {
        listener(event)
      } catch (error) {
        this.#log.error('a listener to peer events failed', { event: event.kind, error: messageOf(error) })
      }
    }
  }
}

/** The control stream of a connection is none of them. */
function streamsOf(sessions: readonly Session[]): Peer['streams'] {
  const sum = (count: (session: Session) => number): number => sessions.reduce((all, one) => all + count(one), 0)
  return {
    plane: sum(({ planeStreams }) => planeStreams.size),
    libp2p: sum(({ connection }) => Math.max(0, connection.streams.length - 1)),
  }
}

function optional<K extends string, V>(key: K, value: V | undefined): { readonly [key in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { readonly [key in K]: V })
}
