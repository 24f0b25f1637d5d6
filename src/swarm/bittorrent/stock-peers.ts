/** Stock BitTorrent clients on plain TCP: they connect to us, we connect to them, and both give sessions. */
import { connect, createServer, isIP, type AddressInfo, type Server, type Socket } from 'node:net'
import type { Random } from '#base'
import type { WireFault } from '../wire/errors.ts'
import { isFault, lost, timedOut } from '../wire/faults.ts'
import type { PeerSession, SessionDeps, SessionOptions } from '../wire/types.ts'
import { type ConnectionLimits, Connections } from './connections.ts'
import { acceptStockSession, openStockSession, peerIdOf } from './handshake.ts'
import { plainHost } from './host-group.ts'
import { DIAL_TIMEOUT_MS } from './limits.ts'
import { createSocketPipe } from './socket-pipe.ts'

const PEER_ID_RANDOM_BYTES = 12

export type StockDeps = SessionDeps & {
  readonly random: Random
  /** The torrent with this truncated info-hash (20 bytes) that others may ask for; undefined: there is none. */
  find(infoHash: Uint8Array): SessionOptions | undefined
  /** Whether connections with this IP address are refused. */
  isBanned(host: string): boolean
}

export type StockOptions = ConnectionLimits & {
  /** An IP address. */
  readonly host: string
  /** 0: any that is free. */
  readonly port: number
  /** A client has connected. The session is to be started, or closed. */
  readonly onSession: (session: PeerSession, infoHash: Uint8Array) => void
  /** A connection of another's came to nothing. */
  readonly onFault?: (fault: WireFault, host: string) => void
}

/** Where to, and about which torrent. */
export type StockDial = SessionOptions & {
  /** An IP address: names are not looked up. */
  readonly host: string
  readonly port: number
  /** Truncated, 20 bytes. */
  readonly infoHash: Uint8Array
  readonly signal?: AbortSignal | undefined
}

export interface StockPeers {
  /** @returns the port. @throws what listening throws: the port is taken, or not allowed */
  listen(): Promise<number>
  /** Never rejects. @returns a session that is to be started, or why there is none */
  dial(dial: StockDial): Promise<PeerSession | WireFault>
  readonly facts: { readonly connections: number; readonly handshakes: number }
  /** Cuts all connections. Idempotent. */
  stop(): Promise<void>
}

export function createStockPeers(deps: StockDeps, options: StockOptions): StockPeers {
  return new TcpPeers(deps, options)
}

class TcpPeers implements StockPeers {
  readonly #deps: StockDeps
  readonly #options: StockOptions
  readonly #connections: Connections
  readonly #peerId: Uint8Array
  #server: Server | undefined
  #isStopped = false

  constructor(deps: StockDeps, options: StockOptions) {
    this.#deps = deps
    this.#options = options
    this.#connections = new Connections(options)
    this.#peerId = peerIdOf(deps.random.bytes(PEER_ID_RANDOM_BYTES))
  }

  get facts(): { readonly connections: number; readonly handshakes: number } {
    return { connections: this.#connections.count, handshakes: this.#connections.handshakes }
  }

  async listen(): Promise<number> {
    const server = createServer({ noDelay: true }, socket => void this.#accept(socket)) // Never rejects.
    const { host, port } = this.#options
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ host, port }, () => {
        server.off('error', reject)
        resolve()
      })
    })
    // Failures to accept (no descriptors left) concern one connection, which is gone then.
    server.on('error', error => this.#deps.logger.warn('a connection was not accepted', { error: error.message }))
    this.#server = server
    return (server.address() as AddressInfo).port
  }

  async dial(dial: StockDial): Promise<PeerSession | WireFault> {
    const host = plainHost(dial.host)
    if (this.#isStopped || isIP(host) === 0 || this.#deps.isBanned(host)) return lost('the address may not be dialled')
    if (!this.#connections.hasRoomFor(host)) return NO_ROOM
    const socket = connect({ host, port: dial.port, noDelay: true })
    const shaken = this.#connections.add(socket, host)
    try {
      const fault = await this.#connected(socket, dial.signal)
      if (fault !== undefined) return fault
      const party = { pipe: createSocketPipe(this.#deps.clock, socket), host, peerId: this.#peerId }
      return await openStockSession(this.#deps, party, dial)
    } finally {
      shaken()
    }
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    this.#connections.cutAll()
    const server = this.#server
    this.#server = undefined
    if (server !== undefined) await new Promise<void>(resolve => server.close(() => resolve()))
  }

  async #accept(socket: Socket): Promise<void> {
    const host = plainHost(socket.remoteAddress ?? '')
    if (this.#isStopped || host === '' || this.#deps.isBanned(host) || !this.#connections.hasRoomFor(host)) {
      socket.destroy()
      return
    }
    const shaken = this.#connections.add(socket, host)
    const party = { pipe: createSocketPipe(this.#deps.clock, socket), host, peerId: this.#peerId }
    const outcome = await acceptStockSession(this.#deps, party, infoHash => this.#deps.find(infoHash))
    shaken()
    if (isFault(outcome)) this.#options.onFault?.(outcome, host)
    else this.#options.onSession(outcome.session, outcome.infoHash)
  }

  #connected(socket: Socket, signal: AbortSignal | undefined): Promise<WireFault | undefined> {
    return new Promise(resolve => {
      const end = (fault: WireFault | undefined): void => {
        cancel()
        signal?.removeEventListener('abort', onAbort)
        if (fault !== undefined) socket.destroy()
        resolve(fault)
      }
      const onAbort = (): void => end(lost('the dial was given up'))
      const cancel = this.#deps.clock.after(DIAL_TIMEOUT_MS, () => end(timedOut('no connection came about')))
      socket.once('connect', () => end(undefined))
      socket.once('error', () => end(lost('no connection came about')))
      if (signal?.aborted === true) onAbort()
      else signal?.addEventListener('abort', onAbort, { once: true })
    })
  }
}

const NO_ROOM: WireFault = {
  code: 'SWARM_BUSY',
  blame: 'nobody',
  what: 'there are as many connections as there may be',
}
