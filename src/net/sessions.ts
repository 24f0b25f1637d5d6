/**
 * All sessions of a host, one a connection, from the first byte to the last: who may come at all, how many that have not
 * proved themselves, whom there is no room for. What a joined peer may do is the host's business.
 */
import type { Connection, Stream } from '@libp2p/interface'
import { type Clock, type Logger, type Random, repeat } from '#base'
import { type LinkDeps, type Party, type RefusalFacts, SessionClaims } from '#protocol'
import type { RefusalReason } from '#wire'
import type { Connections } from './life/connections.ts'
import { SILENCE_LOOK_MS, TURNED_AWAY_MAX, UNPROVEN_MAX } from './limits.ts'
import { crowdedOut } from './newcomers.ts'
import type { Paths } from './paths.ts'
import { type PeerGuard, subjectOfAddress, subjectsOf } from './peer-guard.ts'
import { Session, type SessionOwner, type SessionPhase } from './session.ts'
import type { NetSettings } from './settings.ts'

export type SessionsDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly settings: NetSettings
  /** What sessions remember. */
  readonly memory: Pick<LinkDeps, 'sessions' | 'peerKeys' | 'replay' | 'audit'>
  readonly guard: PeerGuard
  readonly paths: Paths
  readonly life: Connections<Session>
  readonly owner: SessionOwner
  /** Who we are in new sessions. */
  readonly party: () => Party
  /** Aborts when the host stops. */
  readonly stopping: AbortSignal
}

export class Sessions implements Iterable<Session> {
  readonly #deps: SessionsDeps
  readonly #secret: Uint8Array | undefined
  readonly #sessions = new Map<Connection, Session>()
  readonly #claims = new SessionClaims()

  constructor(deps: SessionsDeps, options: { readonly secret: Uint8Array | undefined }) {
    this.#deps = deps
    this.#secret = options.secret
    const look = (): void => {
      for (const session of this) session.lookForSilence()
    }
    void repeat(deps.clock, look, { periodMs: SILENCE_LOOK_MS, signal: deps.stopping })
  }

  [Symbol.iterator](): Iterator<Session> {
    return this.#sessions.values()
  }

  get(connection: Connection): Session | undefined {
    return this.#sessions.get(connection)
  }

  inPhase(phase: SessionPhase): Session[] {
    return [...this.#sessions.values()].filter(session => session.phase === phase)
  }

  /** Whether a new inbound socket finds no room, or its address has to wait: asked before any cryptography. */
  refusesInbound(from: string): boolean {
    const subject = this.subjectOfNewcomer(from)
    if (subject === undefined) return true
    if (this.#unproven().length < UNPROVEN_MAX) return false
    const leaving = crowdedOut(this.#unproven(), subject)
    leaving?.refuse('full')
    return leaving === undefined
  }

  /** Whom a new socket counts for; undefined: it is not wanted now, whatever room there is. */
  subjectOfNewcomer(from: string): string | undefined {
    const subject = subjectOfAddress(from)
    if (this.#deps.stopping.aborted || subject === undefined) return undefined
    return this.#deps.guard.refuses([subject]) === undefined ? subject : undefined
  }

  /** A secured connection. Those that we dialled become sessions where they were dialled, once the identity fits. */
  onConnection(connection: Connection): void {
    if (connection.direction !== 'inbound') return
    const session = this.#create(connection)
    const refused = this.#deps.guard.refuses(subjectsOf(session))
    if (refused !== undefined) this.#turnAway(session, refused.reason, { retryAfterMs: refused.retryAfterMs })
    else if (this.#unproven().length > UNPROVEN_MAX) this.#turnAway(session, 'full')
  }

  onControl(stream: Stream, connection: Connection): void {
    const session = this.#sessions.get(connection)
    if (session?.direction === 'inbound') session.attach(stream)
    else stream.abort(new Error('the dialler opens the control stream'))
  }

  /** The session of a connection that we dialled, made and begun where there is none yet. */
  dialled(connection: Connection, { makes }: { readonly makes: boolean }): Session | undefined {
    const known = this.#sessions.get(connection)
    if (known !== undefined || !makes) return known
    const session = this.#create(connection)
    void session.begin()
    return session
  }

  onJoined(session: Session): void {
    this.#deps.life.joined(session)
  }

  onEnded(session: Session, code?: number): void {
    this.#deps.life.closed(session, code)
    // Until its connection is gone a session counts against the bounds, and a host that stops waits for it.
    void session.ended().then(() => this.#sessions.delete(session.connection))
  }

  #unproven(): Session[] {
    return this.inPhase('proving')
  }

  #create(connection: Connection): Session {
    const { clock, random, log, memory, party, owner, paths, settings } = this.#deps
    const secret = this.#secret
    const session = new Session(
      { clock, random, log, settings, ...memory, party: party(), claims: this.#claims },
      { connection, path: paths.of(connection), owner, ...(secret === undefined ? {} : { secret }) },
    )
    this.#sessions.set(connection, session)
    this.#deps.life.opened(session)
    return session
  }

  /** Those that are turned away have places of their own for the moment in which they hear why. */
  #turnAway(session: Session, reason: RefusalReason, facts: RefusalFacts = {}): void {
    if (this.inPhase('turned-away').length < TURNED_AWAY_MAX) session.turnAway(reason, facts)
    else session.refuse(reason, facts)
  }
}
