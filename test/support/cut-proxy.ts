/**
 * A TCP proxy between two programs, which a test cuts: connections end at once, or it is gone for a while. It counts what comes
 * from the target.
 */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

export class CutProxy {
  readonly #target: { readonly host: string; readonly port: number }
  readonly #sockets = new Set<Socket>()
  #server: Server | undefined
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
      const onward = connect({ ...this.#target, noDelay: true })
      for (const [side, other] of [
        [socket, onward],
        [onward, socket],
      ] as const) {
        this.#sockets.add(side)
        side.pipe(other)
        side.on('error', () => undefined)
        if (side === onward) side.on('data', (bytes: Uint8Array) => this.#count(bytes.byteLength))
        side.on('close', () => {
          this.#sockets.delete(side)
          other.destroy()
        })
      }
    })
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    this.#server = server
    this.port = (server.address() as AddressInfo).port
  }

  /** Ends all connections: with a reset, or as if somebody had closed them. */
  cut(options: { readonly withReset?: boolean } = {}): void {
    for (const socket of this.#sockets) {
      if (options.withReset === true) socket.resetAndDestroy()
      else socket.destroy()
    }
  }

  /** Ends all connections, and takes no new ones. */
  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    this.cut()
    if (server !== undefined) await new Promise<void>(resolve => server.close(() => resolve()))
  }

  #count(bytes: number): void {
    this.received += bytes
    this.onReceived()
  }
}
