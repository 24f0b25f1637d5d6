/** How many connections with stock clients there are, in all and with each host. */
import type { Socket } from 'node:net'
import { CONNECTIONS_A_HOST_MAX, CONNECTIONS_MAX, HANDSHAKES_MAX } from './limits.ts'
import { hostGroup } from './host-group.ts'

export type ConnectionLimits = {
  /** @default CONNECTIONS_MAX */
  readonly connectionsMax?: number | undefined
  /** @default CONNECTIONS_A_HOST_MAX */
  readonly connectionsAHostMax?: number | undefined
  /** @default HANDSHAKES_MAX */
  readonly handshakesMax?: number | undefined
}

export class Connections {
  readonly #limits: ConnectionLimits
  readonly #sockets = new Set<Socket>()
  readonly #hosts = new Map<string, number>()
  #handshakes = 0

  constructor(limits: ConnectionLimits) {
    this.#limits = limits
  }

  get count(): number {
    return this.#sockets.size
  }

  get handshakes(): number {
    return this.#handshakes
  }

  hasRoomFor(host: string): boolean {
    const { connectionsMax, connectionsAHostMax, handshakesMax } = this.#limits
    return (
      this.#sockets.size < (connectionsMax ?? CONNECTIONS_MAX) &&
      this.#handshakes < (handshakesMax ?? HANDSHAKES_MAX) &&
      (this.#hosts.get(hostGroup(host)) ?? 0) < (connectionsAHostMax ?? CONNECTIONS_A_HOST_MAX)
    )
  }

  /** Counts a socket until it is closed, and its handshake. @returns to be called when the handshake is over */
  add(socket: Socket, host: string): () => void {
    const group = hostGroup(host)
    this.#sockets.add(socket)
    this.#hosts.set(group, (this.#hosts.get(group) ?? 0) + 1)
    this.#handshakes++
    let isShaking = true
    const shaken = (): void => {
      if (isShaking) this.#handshakes--
      isShaking = false
    }
    socket.once('close', () => {
      shaken()
      this.#sockets.delete(socket)
      const left = (this.#hosts.get(group) ?? 1) - 1
      if (left === 0) this.#hosts.delete(group)
      else this.#hosts.set(group, left)
    })
    return shaken
  }

  cutAll(): void {
    for (const socket of this.#sockets) socket.destroy()
  }
}
