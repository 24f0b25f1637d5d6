/**
 * Tells peers where their TCP sockets are seen. An admitted peer asks over its session and gets two ports and a word; what
 * connects there and says the word is the peer's, and the peer is told where it came from. So nobody is told about
 * sockets of others, strangers learn nothing, and the node sends nothing to anybody who has not connected to it.
 */
import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import { type Clock, type Logger, messageOf, type Random, toHex, withDeadline } from '#base'
import { PUNCH_TOKEN_BYTES } from '#wire'
import { OBSERVE_MS_MAX, OBSERVED_MS_MAX, OBSERVED_PEERS_MAX, OBSERVER_SOCKETS_MAX } from '../limits.ts'
import { type Endpoint, plainAddress } from './endpoints.ts'
import type { PunchTalk } from './talk.ts'

export type ObserverDeps = { readonly clock: Clock; readonly random: Random; readonly log: Logger }

export type ObserverOptions = {
  /** Where to listen; the first that can be had. */
  readonly hosts: readonly string[]
  /** 0: any port. */
  readonly ports: readonly number[]
}

type Asking = { readonly sockets: Set<Socket>; readonly onSeen: (port: number, from: Endpoint) => void }

/** Sockets for each port that one peer may have seen: one, and another for a word that was lost. */
const SOCKETS_PER_PEER_MAX = 4

export class Observer {
  readonly #deps: ObserverDeps
  readonly #options: ObserverOptions
  readonly #asking = new Map<string, Asking>()
  readonly #peers = new Set<string>()
  readonly #sockets = new Set<Socket>()
  #servers: Promise<readonly Server[]> | undefined
  #isStopped = false

  constructor(deps: ObserverDeps, options: ObserverOptions) {
    this.#deps = deps
    this.#options = options
  }

  /** Serves one peer that has asked, until it has enough. @throws NetError NET_PUNCH_FAILED where there is no room */
  async serve(talk: PunchTalk): Promise<void> {
    const { peer } = talk
    if (this.#isStopped || this.#peers.has(peer) || this.#peers.size >= OBSERVED_PEERS_MAX) throw talk.failure('busy')
    this.#peers.add(peer)
    const token = this.#deps.random.bytes(PUNCH_TOKEN_BYTES)
    const asking: Asking = {
      sockets: new Set(),
      onSeen: (port, from) => talk.send({ type: 'observed', port, from: { ...from } }),
    }
    try {
      this.#servers ??= this.#listen()
      const ports = (await this.#servers).map(portOf)
      if (ports.length === 0 || this.#isStopped) throw talk.failure('busy')
      this.#asking.set(toHex(token), asking)
      talk.send({ type: 'observing', ports, token })
      await talk.ended({ timeoutMs: OBSERVED_MS_MAX })
    } finally {
      this.#peers.delete(peer)
      this.#asking.delete(toHex(token))
      for (const socket of asking.sockets) socket.destroy()
    }
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    const servers = (await this.#servers) ?? []
    for (const socket of this.#sockets) socket.destroy()
    await Promise.all(servers.map(server => new Promise<void>(resolve => server.close(() => resolve()))))
  }

  async #listen(): Promise<readonly Server[]> {
    const servers: Server[] = []
    for (const port of this.#options.ports) {
      const server = await this.#listenAt(port)
      if (server !== undefined) servers.push(server)
    }
    return servers
  }

  async #listenAt(port: number): Promise<Server | undefined> {
    for (const host of this.#options.hosts) {
      const server = createServer(socket => void this.#onSocket(socket))
      server.maxConnections = OBSERVER_SOCKETS_MAX
      try {
        server.listen({ host, port })
        await once(server, 'listening')
        return server
      } catch (error) {
        this.#deps.log.debug('a port to observe at cannot be had', { error: messageOf(error) })
      }
    }
    return undefined
  }

  async #onSocket(socket: Socket): Promise<void> {
    socket.on('error', () => undefined) // Whoever came has gone: 'close' follows.
    this.#sockets.add(socket)
    socket.once('close', () => this.#sockets.delete(socket))
    const { remoteAddress, remotePort, localPort } = socket
    const deadline = { what: 'a word', timeoutMs: OBSERVE_MS_MAX }
    try {
      const word = await withDeadline(this.#deps.clock, deadline, () => readWord(socket))
      const asking = this.#asking.get(word)
      if (asking === undefined || remoteAddress === undefined || remotePort === undefined || localPort === undefined) {
        throw new Error('nobody that was asked for')
      }
      if (asking.sockets.size >= SOCKETS_PER_PEER_MAX) throw new Error('seen often enough')
      // It stays open for as long as the peer asks: a NAT may forget the mapping of a connection that has ended.
      asking.sockets.add(socket)
      asking.onSeen(localPort, { address: plainAddress(remoteAddress), port: remotePort })
    } catch {
      socket.destroy()
    }
  }
}

function readWord(socket: Socket): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  let word = new Uint8Array(0)
  socket.on('data', (bytes: Uint8Array) => {
    if (word.byteLength >= PUNCH_TOKEN_BYTES) return
    word = Uint8Array.of(...word, ...bytes.subarray(0, PUNCH_TOKEN_BYTES - word.byteLength))
    if (word.byteLength === PUNCH_TOKEN_BYTES) resolve(toHex(word))
  })
  socket.once('close', () => reject(new Error('closed')))
  return promise
}

function portOf(server: Server): number {
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}
