/**
 * Carries UDP datagrams between an ICE path and this machine's QUIC, which knows sockets only and takes none that is there
 * already. On the side that dials, QUIC dials the shuttle's port; on the other, the shuttle speaks to QUIC's listener.
 * Both ends of the path see a peer at a loopback address.
 *
 * A datagram is lost where it does not fit the path (QUIC finds the size by trying), where too many wait, and where it comes
 * from another local socket than the first. QUIC encrypts and authenticates all of it, so nothing is checked here.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import { once } from 'node:events'
import type { CancelTimer, Clock } from '#base'
import { SHUTTLE_DATAGRAMS_MAX, SHUTTLE_IDLE_MS } from '../limits.ts'
import type { DatagramPath } from './types.ts'

/** Datagrams of QUIC version 1 that every path carries (RFC 9000, 14.1), and all that an ICE path does. */
const DATAGRAM_BYTES_MAX = 1_200

export type ShuttleOptions = {
  /** QUIC's listener on this machine; undefined: QUIC dials us. */
  readonly listener?: { readonly host: string; readonly port: number }
}

export class Shuttle {
  /** Where QUIC sees the peer. */
  readonly address: string
  /** Resolves when it has ended. */
  readonly ended: Promise<void>
  readonly #clock: Clock
  readonly #path: DatagramPath
  readonly #socket: Socket
  readonly #unlisten: () => void
  readonly #ending = Promise.withResolvers<void>()
  #quic: { readonly host: string; readonly port: number } | undefined
  #isActive = true
  #isEnded = false
  #cancel: CancelTimer | undefined

  /** @param socket bound to a loopback address */
  private constructor(deps: { readonly clock: Clock }, socket: Socket, given: ShuttleOptions & { path: DatagramPath }) {
    this.#clock = deps.clock
    this.#socket = socket
    this.#path = given.path
    this.#quic = given.listener
    this.ended = this.#ending.promise
    const { address, port } = socket.address()
    this.address = `/ip4/${address}/udp/${port}/quic-v1`
    socket.on('error', () => undefined) // What could not be sent is lost.
    socket.on('message', (bytes, from) => this.#toPath(bytes, from))
    this.#unlisten = this.#path.onMessage(bytes => this.#toQuic(bytes))
    void this.#path.closed.then(() => this.end())
    this.#watch()
  }

  static async open(
    deps: { readonly clock: Clock },
    path: DatagramPath,
    options: ShuttleOptions = {},
  ): Promise<Shuttle> {
    const socket = createSocket({ type: 'udp4', recvBufferSize: 1 << 20, sendBufferSize: 1 << 20 })
    // A listener at one address of the machine answers from it, not from loopback.
    const { host = '127.0.0.1' } = options.listener ?? {}
    socket.bind({ address: host, port: 0, exclusive: true })
    await once(socket, 'listening')
    return new Shuttle(deps, socket, { ...options, path })
  }

  /** Idempotent. */
  end(): void {
    if (this.#isEnded) return
    this.#isEnded = true
    this.#cancel?.()
    this.#unlisten()
    this.#socket.close(() => this.#ending.resolve())
  }

  #toPath(bytes: Uint8Array, { address, port }: RemoteInfo): void {
    this.#quic ??= { host: address, port }
    if (this.#quic.host !== address || this.#quic.port !== port) return
    this.#isActive = true
    if (bytes.byteLength <= DATAGRAM_BYTES_MAX) this.#path.send(bytes)
  }

  #toQuic(bytes: Uint8Array): void {
    const quic = this.#quic
    if (quic === undefined || this.#isEnded || this.#socket.getSendQueueCount() >= SHUTTLE_DATAGRAMS_MAX) return
    this.#socket.send(bytes, quic.port, quic.host)
  }

  /** Our QUIC keeps every connection alive that it has; when it is silent there is none. */
  #watch(): void {
    this.#cancel = this.#clock.after(SHUTTLE_IDLE_MS, () => {
      if (!this.#isActive) return this.end()
      this.#isActive = false
      this.#watch()
    })
  }
}
