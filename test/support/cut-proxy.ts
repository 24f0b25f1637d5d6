/**
 * A TCP proxy between two programs, which a test cuts: connections end at once, or it is gone for a while. It counts what comes
 * from the target.
 */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

export class CutProxy {
  readonly #target: { readonly host: string; readonly port: number }
  readonly #sockets = new Set<Socket>()
  /** Sides of the target, and those of them that are not read. */
  readonly #onward = new Set<Socket>()
  readonly #held = new Set<Socket>()
  #server: Server | undefined
  /** Called for each connection that is turned away; undefined: none is. */
  #onTurnedAway: (() => void) | undefined
  port = 0
  /** Bytes that came from the target, over all connections. */
  received = 0
  /** Called after `received` has grown. */
  onReceived: () => void = () => undefined

  constructor(target: { readonly host: string; readonly port: number }) {
    this.#target = target
  }

  /** How many connections go through it now. */
  get connections(): number {
    return this.#sockets.size / 2
  }

  /** Listens at 127.0.0.1, at the same port as before where there was one. */
  async start(port = this.port): Promise<void> {
    const server = createServer({ noDelay: true }, socket => {
      if (this.#onTurnedAway !== undefined) {
        socket.on('error', () => undefined).resetAndDestroy()
        this.#onTurnedAway()
        return
      }
      const onward = connect({ ...this.#target, noDelay: true })
      for (const [side, other] of [
        [socket, onward],
        [onward, socket],
      ] as const) {
        this.#sockets.add(side)
        side.on('error', () => undefined)
        side.on('close', () => {
          this.#sockets.delete(side)
          other.destroy()
        })
      }
      socket.pipe(onward)
      this.#carry(onward, socket)
    })
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    this.#server = server
    this.port = (server.address() as AddressInfo).port
  }

  /**
   * Takes no more of what comes from the target, on the connections that there are: what was counted goes on to the other side
   * alone. @returns what ends that
   */
  hold(): () => void {
    const held = [...this.#onward]
    for (const onward of held) {
      this.#held.add(onward)
      onward.pause()
    }
    return () => {
      for (const onward of held) if (this.#held.delete(onward)) onward.resume()
    }
  }

  /** Ends all connections: with a reset, or as if somebody had closed them. */
  cut(options: { readonly withReset?: boolean } = {}): void {
    for (const socket of this.#sockets) {
      if (options.withReset === true) socket.resetAndDestroy()
      else socket.destroy()
    }
  }

  /** Ends all connections, and each new one as soon as it is made. Resolves with the first of these. */
  goAway(): Promise<void> {
    this.cut()
    return new Promise(resolve => {
      this.#onTurnedAway = resolve
    })
  }

  comeBack(): void {
    this.#onTurnedAway = undefined
  }

  /** Ends all connections, and takes no new ones. */
  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    this.cut()
    if (server !== undefined) await new Promise<void>(resolve => server.close(() => resolve()))
  }

  /** Not by `pipe`, which would go on reading where the other side has room again. */
  #carry(onward: Socket, socket: Socket): void {
    this.#onward.add(onward)
    onward.on('data', (bytes: Uint8Array) => {
      if (!socket.write(bytes)) onward.pause()
      this.#count(bytes.byteLength)
    })
    socket.on('drain', () => {
      if (!this.#held.has(onward)) onward.resume()
    })
    onward.on('end', () => socket.end())
    onward.on('close', () => {
      this.#onward.delete(onward)
      this.#held.delete(onward)
    })
  }

  #count(bytes: number): void {
    this.received += bytes
    this.onReceived()
  }
}
