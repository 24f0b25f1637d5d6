/**
 * All connections of a host and how they live: every one has a state, every change is an event, and a sweep closes those
 * that nobody has used for long and nobody holds. A swarm of few peers is left as it is: finding one another again costs
 * more than a quiet connection.
 */
import { type Clock, type Logger, repeat } from '#base'
import type { PeerPath } from '../types.ts'
import { type HoldReason, Holds } from './holds.ts'
import { ConnectionLife, type ConnectionState } from './life.ts'
import { Listeners } from './listeners.ts'
import type { NetSettings } from '../settings.ts'

/** Said to the peer of a connection that is closed because nobody used it (GOODBYE, NET-6). */
export const CLOSE_CODE_IDLE = 0x100

/** Bytes of a connection's streams. Frames and TLS records around them are not counted. */
export type Traffic = { bytesIn: number; bytesOut: number }

/** What a session is to its life. */
export interface Living {
  readonly peer: string
  readonly direction: 'inbound' | 'outbound'
  readonly path: PeerPath
  readonly rttMs: number | undefined
  readonly traffic: Readonly<Traffic>
  /** Open streams of services: over the data plane, and over libp2p. */
  readonly streams: { readonly plane: number; readonly libp2p: number }
  /** Says goodbye, then ends. */
  retire(code: number): void
}

export type ConnectionEvent = {
  readonly peer: string
  readonly path: PeerPath
  readonly state: ConnectionState
  /** Undefined: the connection is new. */
  readonly before?: ConnectionState
  /** With `closed`: what was said at the end, by us or by the peer, if anything. */
  readonly code?: number
}

/** A connection, for people. */
export type ConnectionFacts = {
  readonly peer: string
  readonly state: ConnectionState
  readonly direction: 'inbound' | 'outbound'
  readonly path: PeerPath
  readonly rttMs?: number
  readonly ageMs: number
  /** Since it was of use last. */
  readonly idleMs: number
  readonly streams: { readonly plane: number; readonly libp2p: number }
  readonly traffic: Readonly<Traffic>
  readonly holds: readonly HoldReason[]
}

export type ConnectionsDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly peerCount: () => number
  /** Whether new streams of the peer use this connection. */
  readonly isPreferred: (connection: Living) => boolean
}

type Entry = { readonly life: ConnectionLife; readonly openedAt: number }

export class Connections<C extends Living = Living> {
  readonly #deps: ConnectionsDeps
  readonly #settings: NetSettings
  readonly #holds = new Holds()
  readonly #entries = new Map<C, Entry>()
  readonly #listeners: Listeners<ConnectionEvent>

  constructor(deps: ConnectionsDeps, settings: NetSettings) {
    this.#deps = deps
    this.#settings = settings
    this.#listeners = new Listeners(deps.log, 'connection events')
  }

  onConnection(listener: (event: ConnectionEvent) => void): () => void {
    return this.#listeners.add(listener)
  }

  /** Keeps a peer's connection, also where it is of no use for long. @returns ends the hold */
  hold(peer: string, reason: HoldReason): () => void {
    const release = this.#holds.hold(peer, reason)
    if (release === undefined) this.#deps.log.warn('too many peers are held; one more is not', { peer, reason })
    return release ?? ((): void => undefined)
  }

  holdsOf(peer: string): HoldReason[] {
    return this.#holds.of(peer)
  }

  opened(connection: C): void {
    const now = this.#now()
    this.#entries.set(connection, { life: new ConnectionLife(now), openedAt: now })
    const { peer, path } = connection
    this.#listeners.tell({ peer, path, state: 'connecting' })
  }

  joined(connection: C): void {
    this.#change(connection, life => life.joined(this.#now()))
  }

  /** A service's stream began or ended, or something was said that is no ping. */
  used(connection: C): void {
    this.#change(connection, life => life.used(this.#now()))
  }

  closed(connection: C, code?: number): void {
    this.#change(connection, life => life.closed(), code)
    this.#entries.delete(connection)
  }

  /** Looks at all connections, those that were of no use for longest first. */
  sweep(): void {
    const { sweepPeriodMs, idleLimitMs, peersFloor } = this.#settings
    const now = this.#now()
    const oldestUse = [...this.#entries].sort(([, a], [, b]) => a.life.usedAt - b.life.usedAt)
    // A peer that is asked to go leaves the table later, if at all within this sweep.
    let peersLeft = this.#deps.peerCount()
    for (const [connection, { life }] of oldestUse) {
      const isLast = this.#deps.isPreferred(connection)
      const isHeld = isLast && (this.#holds.has(connection.peer) || peersLeft <= peersFloor)
      const { plane, libp2p } = connection.streams
      const look = { now, streams: plane + libp2p, isHeld, idleAfterMs: sweepPeriodMs, idleLimitMs }
      if (this.#change(connection, () => life.looked(look)) !== 'stale') continue
      if (isLast) peersLeft--
      this.#deps.log.info('a connection of no use is closed', { peer: connection.peer, code: CLOSE_CODE_IDLE })
      connection.retire(CLOSE_CODE_IDLE)
    }
  }

  /** Sweeps until the signal aborts. */
  run(options: { readonly signal: AbortSignal }): Promise<void> {
    return repeat(this.#deps.clock, () => this.sweep(), { periodMs: this.#settings.sweepPeriodMs, ...options })
  }

  facts(): ConnectionFacts[] {
    const now = this.#now()
    return [...this.#entries].map(([connection, { life, openedAt }]) => {
      const { peer, direction, path, rttMs, streams, traffic } = connection
      return {
        peer,
        state: life.state,
        direction,
        path,
        ...(rttMs === undefined ? {} : { rttMs }),
        ageMs: now - openedAt,
        idleMs: now - life.usedAt,
        streams,
        traffic: { ...traffic },
        holds: this.#holds.of(peer),
      }
    })
  }

  /** Whether somebody is being admitted. */
  get isConnecting(): boolean {
    return [...this.#entries.values()].some(({ life }) => life.state === 'connecting')
  }

  stateOf(connection: C): ConnectionState {
    return this.#entries.get(connection)?.life.state ?? 'closed'
  }

  #change(
    connection: C,
    change: (life: ConnectionLife) => ConnectionState | undefined,
    code?: number,
  ): ConnectionState | undefined {
    const life = this.#entries.get(connection)?.life
    const before = life?.state
    const state = life === undefined ? undefined : change(life)
    if (before === undefined || state === undefined) return undefined
    const { peer, path } = connection
    this.#listeners.tell({ peer, path, state, before, ...(code === undefined ? {} : { code }) })
    return state
  }

  #now(): number {
    return this.#deps.clock.monotonic()
  }
}
