/**
 * From addresses to a joined peer: one dial at a time for each, however many wait for it, and none to those whose circuit
 * breaker is open.
 */
import type { Connection } from '@libp2p/interface'
import { abortable, assert, type Clock, type Logger, messageOf, TimeoutError, withDeadline } from '#base'
import type { Address } from './address.ts'
import type { AdoptOptions, BytePipe } from './adopt.ts'
import { dialAny, type DialTarget, notAllowed } from './dialler.ts'
import { lost, NetError, resting, stopped } from './errors.ts'
import type { Breakers } from './life/breakers.ts'
import { DIALS_PER_PEER_MAX } from './limits.ts'
import type { Paths } from './paths.ts'
import type { Session } from './session.ts'
import type { NetSettings } from './settings.ts'
import type { PeerPath, Transport } from './types.ts'

export type ConnectorDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly settings: NetSettings
  /** Whether we may talk to this peer at all. */
  readonly allows: (peer: string) => boolean
  /** Our own peer id. */
  readonly self: string
  /** Aborts when the host stops. */
  readonly stopping: AbortSignal
  readonly dial: (address: Address, options: { readonly signal: AbortSignal }) => Promise<Connection>
  /** Of peers and of addresses (multiaddrs without a peer id). */
  readonly breakers: Breakers
  /** What this node dials over. */
  readonly transports: ReadonlySet<Transport>
  readonly isHere: (peer: string) => boolean
  readonly adopt: (pipe: BytePipe, options: AdoptOptions) => Promise<Connection | undefined>
  readonly paths: Paths
  /** The session of a connection that we dialled, made and begun where there is none yet. */
  readonly sessionOf: (connection: Connection, options: { readonly makes: boolean }) => Session | undefined
}

/** What is known of bytes that become a connection. */
export type Adoption = {
  readonly peer: string
  /** Where the other end is: a multiaddr without a peer id. */
  readonly address: string
  readonly path: PeerPath
  /** One side is outbound, the other inbound. */
  readonly direction: 'inbound' | 'outbound'
  readonly signal: AbortSignal
}

export class Connector {
  readonly #deps: ConnectorDeps
  /** Dials on their way, by peer id, or by address where the id is not known yet. */
  readonly #connecting = new Map<string, { readonly texts: Set<string>; readonly dials: Set<Promise<string>> }>()

  constructor(deps: ConnectorDeps) {
    this.#deps = deps
  }

  /**
   * Several callers may wait for one dial; each may give up alone.
   * @returns the peer id @throws NetError: NET_PEER_RESTING at once where the peer or all its addresses are left alone
   */
  async connect(wanted: DialTarget, options: { readonly signal?: AbortSignal }): Promise<string> {
    const { peer } = wanted
    if (peer === this.#deps.self) {
      throw new NetError({ code: 'NET_DIAL_FAILED', peer }, 'this is the address of this very node')
    }
    if (peer !== undefined && !this.#deps.allows(peer)) throw notAllowed(peer)
    if (peer !== undefined && this.#deps.isHere(peer)) return peer
    const target = this.#dialable(wanted)
    const connecting = this.#begin(target)
    return options.signal === undefined ? connecting : abortable(connecting, options.signal)
  }

  /** Joins what is on its way to the peer; addresses that are not being dialled yet are dialled beside. @throws NetError */
  #begin(target: DialTarget): Promise<string> {
    const { peer } = target
    const key = peer ?? target.addresses.map(({ text }) => text).join(' ')
    const known = this.#connecting.get(key)
    if (known === undefined && peer !== undefined) {
      const restsForMs = this.#deps.breakers.enter(peer)
      if (restsForMs !== undefined) throw resting(peer, restsForMs)
    }
    const { texts, dials } = known ?? { texts: new Set<string>(), dials: new Set<Promise<string>>() }
    this.#connecting.set(key, { texts, dials })
    const fresh = target.addresses.filter(({ text }) => !texts.has(text))
    if (dials.size === 0 || (fresh.length > 0 && dials.size < DIALS_PER_PEER_MAX)) {
      for (const { text } of fresh) texts.add(text)
      const dial = this.#connect({ ...target, addresses: fresh }).finally(() => {
        dials.delete(dial)
        if (dials.size === 0) this.#connecting.delete(key)
      })
      dial.catch(() => undefined) // Those who still wait hear of it.
      dials.add(dial)
    }
    return firstOf([...dials])
  }

  /** Without the addresses of transports that this node does not use. @throws NetError where none is left */
  #dialable(target: DialTarget): DialTarget {
    const { transports } = this.#deps
    const addresses = target.addresses.filter(
      ({ transport, relay }) => relay !== undefined || transports.has(transport),
    )
    if (addresses.length > 0 || target.addresses.length === 0) return { ...target, addresses }
    const fault = { code: 'NET_DIAL_FAILED', ...(target.peer === undefined ? {} : { peer: target.peer }) } as const
    const sentence = `the peer has no address of a transport that this node uses: ${[...transports].join(', ')}`
    throw new NetError(fault, sentence)
  }

  /**
   * Makes a connection of bytes that came about in another way than by dialling, beside those that there are. Where we are
   * the outbound side it resolves once the peer has joined over it, else once it is secured.
   * @throws where it comes to nothing; the pipe is aborted then
   */
  async adopt(pipe: BytePipe, adoption: Adoption): Promise<void> {
    const { peer, address, path, direction, signal } = adoption
    if (!this.#deps.allows(peer)) {
      pipe.abort(notAllowed(peer))
      throw notAllowed(peer)
    }
    const unmark = this.#deps.paths.mark(address, path)
    try {
      const options = { direction, remoteAddress: `${address}/p2p/${peer}`, signal }
      const connection = await this.#deps.adopt(pipe, options)
      if (connection === undefined) return
      const session = this.#deps.sessionOf(connection, { makes: true })
      assert(session !== undefined, 'a session is made where it is wanted')
      await abortable(session.joined, signal).catch((error: unknown) => {
        session.end(lost(peer))
        throw error
      })
    } finally {
      // From here on the session knows.
      unmark()
    }
  }

  /** Dials a peer beside the connections that there are, for a better path; resolves once it has joined over it. @throws */
  async dialBeside(
    target: DialTarget & { readonly peer: string },
    options: { readonly signal: AbortSignal },
  ): Promise<void> {
    const connection = await dialAny(this.#deps, target, options)
    const session = this.#deps.sessionOf(connection, { makes: true })
    assert(session !== undefined, 'a session is made where it is wanted')
    await abortable(session.joined, options.signal).catch((error: unknown) => {
      session.end(lost(target.peer))
      throw error
    })
  }

  get isDialling(): boolean {
    return this.#connecting.size > 0
  }

  /** Resolves when no dial is on its way. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#connecting.values()].flatMap(({ dials }) => [...dials]))
  }

  async #connect(target: DialTarget): Promise<string> {
    const { breakers, clock, stopping, settings } = this.#deps
    const options = { what: 'connecting', timeoutMs: settings.dialTimeoutMs, signal: stopping }
    try {
      const peer = await withDeadline(clock, options, signal => this.#dialAndJoin(target, signal))
      breakers.succeeded(peer)
      return peer
    } catch (error) {
      // Somebody else's connection came to something meanwhile.
      if (target.peer !== undefined && this.#deps.isHere(target.peer)) return target.peer
      const failure = this.#failureOf(target, error)
      if (target.peer === undefined) throw failure
      const { fault } = failure
      // Where nobody was dialled nothing was found out: the peer is due when its address is.
      if (fault.code === 'NET_PEER_RESTING') breakers.gaveUp(target.peer, fault.retryAfterMs)
      else if (fault.code === 'NET_STOPPED') breakers.gaveUp(target.peer)
      else breakers.failed(target.peer)
      throw failure
    }
  }

  #failureOf(target: DialTarget, error: unknown): NetError {
    if (error instanceof NetError) return error
    if (this.#deps.stopping.aborted) return stopped()
    const fault = { code: 'NET_DIAL_FAILED', ...(target.peer === undefined ? {} : { peer: target.peer }) } as const
    return new NetError(fault, `the peer could not be reached: ${messageOf(error)}`, { cause: error })
  }

  /** Dials one address, unless it is left alone. */
  readonly #dial = async (address: Address, options: { readonly signal: AbortSignal }): Promise<Connection> => {
    const { breakers, dial } = this.#deps
    // What is dialled tells circuits of one relay not apart.
    const key = address.relay === undefined ? address.target.toString() : address.text
    const restsForMs = breakers.enter(key)
    if (restsForMs !== undefined) throw resting(key, restsForMs)
    try {
      const connection = await dial(address, options)
      breakers.succeeded(key)
      return connection
    } catch (error) {
      // Another address was quicker, or nobody wants it any more.
      const { aborted, reason } = options.signal
      if (aborted && !(reason instanceof TimeoutError)) breakers.gaveUp(key)
      else breakers.failed(key)
      throw error
    }
  }

  async #dialAndJoin(target: DialTarget, signal: AbortSignal): Promise<string> {
    return this.#join(await dialAny({ ...this.#deps, dial: this.#dial }, target, { signal }), signal)
  }

  async #join(connection: Connection, signal: AbortSignal): Promise<string> {
    const { isHere, sessionOf } = this.#deps
    const peer = connection.remotePeer.toString()
    const isWanted = !isHere(peer) && !signal.aborted
    const session = sessionOf(connection, { makes: isWanted })
    if (session === undefined) {
      assert(!isWanted, 'a session is made where it is wanted')
      connection.abort(new Error('the connection is not needed any more'))
      signal.throwIfAborted()
      return peer
    }
    try {
      await abortable(session.joined, signal)
    } catch (error) {
      session.end(lost(peer))
      if (!isHere(peer)) throw error
      // The peer dialled us at the same time, and that connection came to something.
    }
    return peer
  }
}

/** What the first that succeeds comes to; where none does, why the last one that was begun has failed. */
async function firstOf(dials: readonly Promise<string>[]): Promise<string> {
  try {
    return await Promise.any(dials)
  } catch (error) {
    throw error instanceof AggregateError ? error.errors.at(-1) : error
  }
}
