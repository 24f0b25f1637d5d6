/**
 * Who is here: joined peers, each with one session or several (when both sides dialled at once, or a dead connection
 * has not been noticed yet). A peer joins with its first session and leaves with its last.
 */
import { abortable, assert, type Logger } from '#base'
import { type KnownPeer, type NodeOffer, PEER_ADDRESSES_MAX } from '#wire'
import { addressesOf } from './address.ts'
import { rankOf } from './paths.ts'
import type { Connections, Traffic } from './life/connections.ts'
import { Listeners } from './life/listeners.ts'
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
  readonly #life: Pick<Connections<Session>, 'stateOf' | 'holdsOf'>
  readonly #entries = new Map<string, Entry>()
  readonly #listeners: Listeners<PeerEvent>

  constructor(
    deps: { readonly log: Logger; readonly life: Pick<Connections<Session>, 'stateOf' | 'holdsOf'> },
    options: { readonly self: string },
  ) {
    this.#life = deps.life
    this.#listeners = new Listeners(deps.log, 'peer events')
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
    return this.#listeners.add(listener)
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

  /** Whether new streams use this session. */
  isPreferred(session: Pick<Session, 'peer'>): boolean {
    return this.session(session.peer) === session
  }

  /** Where a peer may be found again. */
  addresses(peer: string): readonly string[] {
    const entry = this.#entries.get(peer)
    return entry === undefined ? [] : this.#describe(entry).addresses
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
      this.#listeners.tell({ kind: 'changed', peer: this.#describe(entry) })
      return false
    }
    const joined = { sessions: [session], connectedAt: session.joinedAt, announcement }
    this.#entries.set(session.peer, joined)
    this.#listeners.tell({ kind: 'joined', peer: this.#describe(joined) })
    return true
  }

  update(session: Session, announcement?: Announcement): void {
    const entry = this.#entries.get(session.peer)
    if (entry?.sessions.includes(session) !== true) return
    if (announcement !== undefined) entry.announcement = announcement
    this.#listeners.tell({ kind: 'changed', peer: this.#describe(entry) })
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
    this.#listeners.tell({ kind: 'left', peer })
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
    return session.streams.libp2p + session.streams.plane === 0
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

  /** Both sides choose alike: the best path; of those the connection that the smaller peer id dialled, the newest. */
  #preferred(entry: Entry): Session | undefined {
    const isRightful = ({ direction, peer }: Session): boolean =>
      direction === 'outbound' ? this.#self < peer : peer < this.#self
    const [first, ...others] = entry.sessions
    return others.reduce<Session | undefined>((best, session) => {
      if (best === undefined) return session
      const byPath = rankOf(session.path) - rankOf(best.path)
      if (byPath !== 0) return byPath < 0 ? session : best
      return isRightful(session) || !isRightful(best) ? session : best
    }, first)
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
      path: session.path,
      state: this.#life.stateOf(session),
      holds: this.#life.holdsOf(session.peer),
      connectedAt: entry.connectedAt,
      ...(session.rttMs === undefined ? {} : { rttMs: session.rttMs }),
      pingFailures: session.pingFailures,
      offer: entry.announcement.offer,
      streams: streamsOf(entry.sessions),
      traffic: trafficOf(entry.sessions),
      protocol,
    }
  }
}

function streamsOf(sessions: readonly Session[]): Peer['streams'] {
  const sum = (count: (session: Session) => number): number => sessions.reduce((all, one) => all + count(one), 0)
  return { plane: sum(({ streams }) => streams.plane), libp2p: sum(({ streams }) => streams.libp2p) }
}

function trafficOf(sessions: readonly Session[]): Traffic {
  const sum = (count: (session: Session) => number): number => sessions.reduce((all, one) => all + count(one), 0)
  return { bytesIn: sum(({ traffic }) => traffic.bytesIn), bytesOut: sum(({ traffic }) => traffic.bytesOut) }
}
