/**
 * A UDP path to a peer through NATs and firewalls, by ICE (RFC 8445) with STUN and TURN (RFC 8656): both sides gather
 * candidates, exchange descriptions by some other way, and try all pairs until one works.
 *
 * The agent is werift's. Around it: our own bounds and deadlines; several STUN servers and never one of somebody else's;
 * `ice-guard.ts` before its sockets; names and passwords of the length that the RFC wants; and a TURN allocation is given back
 * at the end. It is loaded when the first agent is made: it takes a fifth of a second and 40 MB.
 *
 * What crosses is datagrams: not encrypted, not authenticated, in any order, perhaps twice, perhaps never.
 */
import type * as WeriftModule from 'werift'
import type { Candidate, CandidatePair, Connection, StunOverTurnProtocol, StunProtocol } from 'werift'
import type { Clock, Logger, Random } from '#base'
import { messageOf, toHex, withDeadline } from '#base'
import { closed, NatError } from './errors.ts'
import { type IceCandidate, type IceDescription, isLoopback, parseIceDescription } from './ice-description.ts'
import { IceGuard } from './ice-guard.ts'
import { decodeIp } from './ip.ts'
import {
  ICE_CANDIDATES_MAX,
  ICE_CHECKS_BURST_MAX,
  ICE_CLOSE_MS_MAX,
  ICE_CONNECT_MS_MAX,
  ICE_DATAGRAM_BYTES_MAX,
  ICE_GATHER_MS_MAX,
  ICE_SERVER_MS_MAX,
  ICE_STUN_SERVERS_MAX,
} from './limits.ts'
import { StunClient } from './stun/client.ts'
import { looksLikeStun } from './stun/codec.ts'
import type { Endpoint, OpenUdp } from './types.ts'
import { localAddresses } from './udp.ts'

export type IceDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly openUdp: OpenUdp
}

export type IceOptions = {
  /** Who made the first description decides which pair is used. */
  readonly role: 'controlling' | 'controlled'
  /** At most `ICE_STUN_SERVERS_MAX` are asked. @default none */
  readonly stunServers?: readonly Endpoint[]
  readonly turn?: { readonly server: Endpoint; readonly username: string; readonly password: string }
  /** Only the TURN server's address is told and used: the peer does not learn ours. @default false */
  readonly isRelayOnly?: boolean
  /** This machine's addresses to offer. @default all but loopback and link-local ones */
  readonly hostAddresses?: readonly string[]
}

/** The pair of candidates that is in use. */
export type IceSelectedPair = {
  readonly local: Endpoint
  readonly remote: Endpoint
  /** `relay`: through a TURN server; `reflexive`: through a NAT; `host`: neither, as far as this side sees. */
  readonly kind: 'host' | 'reflexive' | 'relay'
}

/** Datagrams to and from one peer. */
export interface IcePath {
  readonly selected: IceSelectedPair
  /**
   * Sends one datagram, at most `ICE_DATAGRAM_BYTES_MAX` bytes. It must not look like STUN (a first byte below 64 and the
   * magic cookie in bytes 4 to 7). False where it did not leave: the path is closed, or the datagram looks like STUN.
   * @throws NatError NAT_DATAGRAM_SIZE
   */
  send(bytes: Uint8Array): boolean
  /** Every datagram goes to every listener. Returns a function that ends it. Listeners must not throw. */
  onMessage(listener: (bytes: Uint8Array) => void): () => void
  /** Resolves when the path is closed, by us or because the peer has not agreed for 30 s (RFC 7675). */
  readonly closed: Promise<void>
}

export interface IceAgent {
  /** Gathers candidates, once. What has not come by `ICE_GATHER_MS_MAX` is left out. @throws NatError NAT_ICE_STATE, NAT_CLOSED */
  gather(): Promise<IceDescription>
  /**
   * Connects to the peer, once, after `gather`. `remote` is what the peer sent: anything.
   * @throws NatError NAT_ICE_DESCRIPTION_INVALID, NAT_ICE_FAILED, NAT_ICE_STATE, NAT_CLOSED; the signal's reason
   */
  connect(remote: unknown, options?: { readonly timeoutMs?: number; readonly signal?: AbortSignal }): Promise<IcePath>
  /** Ends the path too. Idempotent; never rejects. */
  close(): Promise<void>
}

type Werift = typeof WeriftModule
type State = 'new' | 'gathering' | 'gathered' | 'connecting' | 'connected' | 'closed'

/** Makes an agent. It opens no socket before `gather`. */
export async function createIceAgent(deps: IceDeps, options: IceOptions): Promise<IceAgent> {
  return new WeriftAgent(deps, options, await import('werift'))
}

class WeriftAgent implements IceAgent {
  readonly #deps: IceDeps
  readonly #options: IceOptions
  readonly #werift: Werift
  readonly #connection: Connection
  readonly #guard: IceGuard
  readonly #guarded = new WeakSet<object>()
  readonly #closing = new AbortController()
  readonly #hostAddresses: readonly string[]
  readonly #ended = Promise.withResolvers<void>()
  #state: State = 'new'
  #closed: Promise<void> | undefined

  constructor(deps: IceDeps, options: IceOptions, werift: Werift) {
    this.#deps = deps
    this.#options = options
    this.#werift = werift
    this.#hostAddresses = options.hostAddresses ?? localAddresses()
    const { turn } = options
    const connection = new werift.Connection(options.role === 'controlling', {
      // Host addresses come from us alone.
      useIpv4: false,
      useIpv6: false,
      additionalHostAddresses: options.isRelayOnly === true ? [] : [...this.#hostAddresses],
      forceTurn: options.isRelayOnly === true,
      ...(turn === undefined ? {} : { turnUsername: turn.username, turnPassword: turn.password, turnTransport: 'udp' }),
    })
    // Without a server of ours it would ask one of Google's. Ours are asked in `#gatherReflexive`, all of them.
    delete connection.stunServer
    // Its own names have 16 random bits and its passwords 88; RFC 8445, 5.3, wants 24 and 128.
    connection.localUsername = toHex(deps.random.bytes(4))
    connection.localPassword = toHex(deps.random.bytes(16))
    connection.userHistory = { [connection.localUsername]: connection.localPassword }
    connection.onIceCandidate.subscribe(() => this.#guardSockets())
    connection.stateChanged.subscribe(state => {
      if (state === 'failed') void this.close() // Never rejects.
    })
    this.#connection = connection
    this.#guard = new IceGuard(deps, { ufrag: connection.localUsername, password: connection.localPassword })
  }

  async gather(): Promise<IceDescription> {
    this.#enter('new', 'gathering')
    const deadline = { what: 'gathering', timeoutMs: ICE_GATHER_MS_MAX, signal: this.#closing.signal }
    try {
      await withDeadline(this.#deps.clock, deadline, async signal => {
        await this.#useTurn(signal)
        const gathering = this.#connection.gatherCandidates()
        // Sockets at own addresses are open before the next turn of the event loop or two; TURN takes a round trip or more.
        await Promise.race([gathering, this.#socketsOpen()])
        await Promise.all([gathering, this.#gatherReflexive(signal)])
      })
    } catch (error) {
      if (this.#closing.signal.aborted) throw closed('the ICE agent')
      this.#deps.log.debug('candidates are missing', { error: messageOf(error) })
    }
    this.#enter('gathering', 'gathered')
    const { localUsername: ufrag, localPassword: password, localCandidates } = this.#connection
    const candidates = localCandidates.flatMap(candidate => this.#told(candidate) ?? [])
    return { ufrag, password, candidates: candidates.slice(0, ICE_CANDIDATES_MAX) }
  }

  async connect(
    remote: unknown,
    options: { readonly timeoutMs?: number; readonly signal?: AbortSignal } = {},
  ): Promise<IcePath> {
    this.#enter('gathered', 'connecting')
    const { signal } = options
    const timeoutMs = Math.min(options.timeoutMs ?? ICE_CONNECT_MS_MAX, ICE_CONNECT_MS_MAX)
    const both = signal === undefined ? this.#closing.signal : AbortSignal.any([signal, this.#closing.signal])
    try {
      const isLocal = this.#hostAddresses.some(isLoopback)
      const description = parseIceDescription(remote, { isLocal })
      await withDeadline(this.#deps.clock, { what: 'ICE', timeoutMs, signal: both }, () => this.#negotiate(description))
      const pair = this.#connection.nominated
      if (pair === undefined) throw new Error('no pair was nominated')
      this.#enter('connecting', 'connected')
      return this.#pathOver(pair)
    } catch (error) {
      await this.close()
      if (signal?.aborted === true || error instanceof NatError) throw error
      throw new NatError({ code: 'NAT_ICE_FAILED' }, 'no pair of candidates connects to the peer', { cause: error })
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    this.#state = 'closed'
    this.#closing.abort(closed('the ICE agent'))
    try {
      const deadline = { what: 'closing', timeoutMs: ICE_CLOSE_MS_MAX }
      await withDeadline(this.#deps.clock, deadline, () => this.#giveBackAllocation())
    } catch (error) {
      this.#deps.log.debug('the TURN server keeps the allocation until it ends', { error: messageOf(error) })
    }
    try {
      await withDeadline(this.#deps.clock, { what: 'closing', timeoutMs: ICE_CLOSE_MS_MAX }, () =>
        this.#connection.close(),
      )
    } catch (error) {
      this.#deps.log.warn('the ICE agent did not close', { error: messageOf(error) })
    }
    this.#ended.resolve()
  }

  #enter(from: State, to: State): void {
    if (this.#state === 'closed') throw closed('the ICE agent')
    if (this.#state !== from) {
      const state = this.#state
      throw new NatError({ code: 'NAT_ICE_STATE', state }, `the ICE agent is ${state}, not ${from}`)
    }
    this.#state = to
  }

  /**
   * Gives the agent the TURN server where that answers a STUN request. The agent would ask one that is not there for longer
   * than we wait, and its socket has nobody who hears its errors before there is an allocation.
   */
  async #useTurn(signal: AbortSignal): Promise<void> {
    const server = this.#options.turn?.server
    if (server === undefined) return
    const socket = await this.#deps.openUdp({ address: server.address.includes(':') ? '::' : '0.0.0.0' })
    const client = new StunClient({ ...this.#deps, socket })
    try {
      const answer = await client.binding(server, { timeoutMs: ICE_SERVER_MS_MAX, signal })
      if (answer.kind === 'silent') this.#deps.log.debug('the TURN server does not answer')
      else this.#connection.turnServer = [server.address, server.port]
    } finally {
      client.close()
      await socket.close()
    }
  }

  /** Resolves when each host address has its socket, or cannot have one. */
  #socketsOpen(): Promise<void> {
    const wanted = this.#options.isRelayOnly === true ? 0 : this.#hostAddresses.length
    return new Promise(resolve => {
      const look = (): void => {
        if (this.#hostProtocols().length >= wanted) resolve()
      }
      this.#connection.onIceCandidate.subscribe(look)
      look()
    })
  }

  /** Where our servers see the sockets. Never rejects; a server that says nothing costs one wait, at the same time as the others. */
  async #gatherReflexive(signal: AbortSignal): Promise<void> {
    const servers = (this.#options.stunServers ?? []).slice(0, ICE_STUN_SERVERS_MAX)
    const deadline = { what: 'a STUN server', timeoutMs: ICE_SERVER_MS_MAX, signal }
    const asked = this.#hostProtocols().flatMap(protocol =>
      servers.map(server => withDeadline(this.#deps.clock, deadline, () => this.#addReflexive(protocol, server))),
    )
    await Promise.allSettled(asked)
  }

  async #addReflexive(protocol: StunProtocol, server: Endpoint): Promise<void> {
    const isIpv6 = protocol.localCandidate?.host.includes(':') === true
    if (server.address.includes(':') !== isIpv6) return
    const candidate = await this.#werift.serverReflexiveCandidate(protocol, [server.address, server.port])
    if (candidate === undefined || this.#state !== 'gathering') return
    const { localCandidates } = this.#connection
    const isKnown = localCandidates.some(known => known.host === candidate.host && known.port === candidate.port)
    if (!isKnown) localCandidates.push(candidate)
  }

  async #negotiate(remote: IceDescription): Promise<void> {
    const connection = this.#connection
    connection.setRemoteParams({ iceLite: false, usernameFragment: remote.ufrag, password: remote.password })
    for (const { foundation, priority, address, port, type } of remote.candidates) {
      const candidate = new this.#werift.Candidate(foundation, 1, 'udp', priority, address, port, type)
      await connection.addRemoteCandidate(candidate)
    }
    await connection.addRemoteCandidate(undefined)
    await connection.connect()
  }

  #pathOver(pair: CandidatePair): IcePath {
    const { localCandidate: local, remoteCandidate: remote } = pair
    const isRelayed = local.type === 'relay' || remote.type === 'relay'
    const isReflexive = remote.type === 'srflx' || remote.type === 'prflx'
    const listeners = new Set<(bytes: Uint8Array) => void>()
    this.#connection.onData.subscribe(buffer => {
      const bytes = new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)
      for (const listener of listeners) listener(bytes)
    })
    return {
      selected: {
        local: { address: local.host, port: local.port },
        remote: { address: remote.host, port: remote.port },
        kind: isRelayed ? 'relay' : isReflexive ? 'reflexive' : 'host',
      },
      send: bytes => this.#send(bytes),
      onMessage: listener => {
        listeners.add(listener)
        return () => void listeners.delete(listener)
      },
      closed: this.#ended.promise,
    }
  }

  #send(bytes: Uint8Array): boolean {
    const { byteLength } = bytes
    if (byteLength > ICE_DATAGRAM_BYTES_MAX) {
      const fault = { code: 'NAT_DATAGRAM_SIZE', bytes: byteLength, bytesMax: ICE_DATAGRAM_BYTES_MAX } as const
      throw new NatError(fault, `a datagram of ${byteLength} bytes is too long`)
    }
    if (this.#state !== 'connected' || looksLikeStun(bytes)) return false
    // A copy, as the socket may send later. What fails there is lost, as datagrams are.
    this.#connection.send(Buffer.from(bytes)).catch(() => undefined)
    return true
  }

  #told(candidate: Candidate): IceCandidate | undefined {
    const { type, port, priority, foundation } = candidate
    const address = decodeIp(candidate.host)
    if (address === undefined || (type !== 'host' && type !== 'srflx' && type !== 'relay')) return undefined
    return { type, address, port, priority, foundation }
  }

  #hostProtocols(): StunProtocol[] {
    const { StunProtocol } = this.#werift
    return this.#protocols().filter((protocol): protocol is StunProtocol => protocol instanceof StunProtocol)
  }

  #relayProtocols(): StunOverTurnProtocol[] {
    const { StunOverTurnProtocol } = this.#werift
    return this.#protocols().filter(
      (protocol): protocol is StunOverTurnProtocol => protocol instanceof StunOverTurnProtocol,
    )
  }

  /** The agent's sockets. It has no public way to them, and there is none other to guard what they receive. */
  #protocols(): readonly unknown[] {
    return this.#connection['protocols']
  }

  /** Called when a candidate appears: in the same turn of the event loop as its socket, so that no packet comes before. */
  #guardSockets(): void {
    for (const { transport } of this.#hostProtocols()) {
      if (this.#guarded.has(transport)) continue
      this.#guarded.add(transport)
      const receive = transport.onData
      transport.onData = (bytes, addr) => {
        if (this.#admits(bytes, addr)) receive(bytes, addr)
      }
      this.#catchErrors(transport)
    }
    for (const { turn } of this.#relayProtocols()) {
      if (this.#guarded.has(turn)) continue
      this.#guarded.add(turn)
      const { transport } = turn
      const receive = transport.onData
      // Only the server may speak for peers.
      transport.onData = (bytes, addr) => {
        const server = turn.serverEndpoint
        if (transport.type !== 'udp' || (server?.[0] === addr[0] && server[1] === addr[1])) receive(bytes, addr)
      }
      const deliver = turn.onData.execute
      turn.onData.execute = (bytes, addr) => {
        if (this.#admits(bytes, addr)) deliver(bytes, addr)
      }
      this.#catchErrors(transport)
    }
  }

  #admits(bytes: Uint8Array, [address, port]: readonly [string, number]): boolean {
    if (!this.#guard.admits(bytes, { address, port })) return false
    // The agent keeps the id of every check for as long as the pair lives; only the latest ones are of use to it.
    if (this.#guard.checks % ICE_CHECKS_BURST_MAX === 0) {
      for (const pair of this.#connection.candidatePairs) pair['requestTransactionIds'].clear()
    }
    return true
  }

  /** An 'error' event without a listener ends the process, and the agent listens to none. */
  #catchErrors(transport: unknown): void {
    if (!(transport instanceof this.#werift.UdpTransport)) return
    transport.socket.on('error', error => this.#deps.log.debug('a datagram was not sent', { error: error.message }))
  }

  async #giveBackAllocation(): Promise<void> {
    const { Message, methods, classes } = this.#werift
    for (const { turn } of this.#relayProtocols()) {
      const refresh = new Message(methods.REFRESH, classes.REQUEST)
      refresh.setAttribute('LIFETIME', 0)
      await turn.requestWithRetry(refresh, turn.server)
    }
  }
}
