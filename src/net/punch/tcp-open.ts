/**
 * TCP from both sides at once (RFC 9293, 3.5; RFC 5128, 3.3): calls from one local port, and perhaps listens there, until
 * a socket leads to the other side. What answers may be anybody: each side says the word that the other has told it, and
 * only a socket with the right word counts. The side that will speak first says which one it is; the others are closed.
 */
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { type Clock, sleep } from '#base'
import { PUNCH_TOKEN_BYTES } from '#wire'
import { PUNCH_DIALS_MAX, PUNCH_LISTEN_AFTER_MS, PUNCH_REDIAL_MS, PUNCH_SOCKETS_MAX } from '../limits.ts'
import { type Endpoint, plainAddress } from './endpoints.ts'
import type { TcpPlan } from './tcp-plan.ts'

export type OpenOptions = {
  readonly localPort: number
  readonly isIpv6: boolean
  /** The word that the other side has told us: what we say. */
  readonly say: Uint8Array
  /** The word that we have told the other side. */
  readonly hear: Uint8Array
  /** Whether we say which socket is used. The two sides differ. */
  readonly chooses: boolean
  readonly signal: AbortSignal
}

/** Said behind the word on the socket that is used. */
const CHOSEN = Uint8Array.of(1)

/** A socket to the other side, and where that is. @throws the signal's reason; Error where all calls are over */
export async function openPunched(
  deps: { readonly clock: Clock },
  plan: TcpPlan,
  options: OpenOptions,
): Promise<{ readonly socket: Socket; readonly from: Endpoint }> {
  const opening = new Opening(deps, plan, options)
  const found = opening.run()
  try {
    return await found
  } finally {
    opening.end()
  }
}

class Opening {
  readonly #clock: Clock
  readonly #plan: TcpPlan
  readonly #options: OpenOptions
  readonly #sockets = new Set<Socket>()
  readonly #found = Promise.withResolvers<{ readonly socket: Socket; readonly from: Endpoint }>()
  readonly #ending = new AbortController()
  #server: Server | undefined
  #dials = 0
  #winner: Socket | undefined

  constructor(deps: { readonly clock: Clock }, plan: TcpPlan, options: OpenOptions) {
    this.#clock = deps.clock
    this.#plan = plan
    this.#options = options
  }

  async run(): Promise<{ readonly socket: Socket; readonly from: Endpoint }> {
    const { signal } = this.#options
    signal.throwIfAborted()
    const onAbort = (): void => this.#found.reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    const calls = this.#plan.targets.map(target => this.#call(target))
    void Promise.all(calls).then(() => this.#over())
    if (this.#plan.listens) void this.#listen()
    try {
      return await this.#found.promise
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  end(): void {
    this.#ending.abort()
    this.#server?.close()
    for (const socket of this.#sockets) if (socket !== this.#winner) socket.resetAndDestroy()
  }

  /** No call goes on. What was accepted, or will be, may still come to something. */
  #over(): void {
    if (!this.#plan.listens) this.#found.reject(new Error('every call was refused'))
  }

  async #call({ address, port }: Endpoint): Promise<void> {
    const { localPort, isIpv6 } = this.#options
    if (address.includes(':') !== isIpv6) return
    while (!this.#ending.signal.aborted && this.#dials++ < PUNCH_DIALS_MAX) {
      const localAddress = isIpv6 ? '::' : '0.0.0.0'
      const socket = connect({ host: address, port, localAddress, localPort, allowHalfOpen: false })
      this.#own(socket)
      const isConnected = await new Promise<boolean>(resolve => {
        socket.once('connect', () => resolve(true)).once('close', () => resolve(false))
      })
      if (isConnected) await this.#greet(socket)
      if (this.#winner !== undefined || !this.#plan.redials) return
      const { signal } = this.#ending
      await sleep(this.#clock, PUNCH_REDIAL_MS, { signal }).catch(() => undefined) // Aborted: the loop sees it.
    }
  }

  async #listen(): Promise<void> {
    const { localPort, isIpv6 } = this.#options
    try {
      await sleep(this.#clock, PUNCH_LISTEN_AFTER_MS, { signal: this.#ending.signal })
      const server = createServer(socket => {
        this.#own(socket)
        void this.#greet(socket)
      })
      server.maxConnections = PUNCH_SOCKETS_MAX
      this.#server = server
      server.listen({ host: isIpv6 ? '::' : '0.0.0.0', port: localPort, backlog: PUNCH_SOCKETS_MAX })
      await once(server, 'listening')
    } catch (error) {
      // Somebody else has the port by now, or it is over.
      this.#found.reject(error)
    }
  }

  #own(socket: Socket): void {
    if (this.#sockets.size >= PUNCH_SOCKETS_MAX || this.#ending.signal.aborted) {
      socket.on('error', () => undefined).destroy() // It was never looked at.
      return
    }
    this.#sockets.add(socket)
    socket.on('error', () => undefined) // 'close' follows, and says enough.
    socket.once('close', () => this.#sockets.delete(socket))
  }

  /** Exchanges words, and settles where this is the socket. Resolves when it is, or is closed. */
  async #greet(socket: Socket): Promise<void> {
    const { say, hear, chooses } = this.#options
    const { remoteAddress, remotePort } = socket
    socket.write(say)
    const isRight = sameBytes(await take(socket, PUNCH_TOKEN_BYTES), hear)
    if (!isRight || remoteAddress === undefined || remotePort === undefined) {
      socket.destroy()
      return
    }
    if (!chooses && !sameBytes(await take(socket, CHOSEN.byteLength), CHOSEN)) {
      socket.destroy()
      return
    }
    if (this.#winner !== undefined || this.#ending.signal.aborted) return
    this.#winner = socket
    if (chooses) socket.write(CHOSEN)
    this.#found.resolve({ socket, from: { address: plainAddress(remoteAddress), port: remotePort } })
  }
}

/** Takes so many bytes off a socket and leaves the rest to whoever reads next. Undefined where it ends before. */
async function take(socket: Socket, count: number): Promise<Uint8Array | undefined> {
  for (;;) {
    const taken = socket.read(count) as Uint8Array | null
    if (taken !== null) return taken.byteLength === count ? taken : undefined
    if (socket.readableEnded || socket.destroyed) return undefined
    const { promise, resolve } = Promise.withResolvers<void>()
    const wake = (): void => resolve()
    for (const event of ['readable', 'end', 'close']) socket.on(event, wake)
    await promise
    for (const event of ['readable', 'end', 'close']) socket.off(event, wake)
  }
}

function sameBytes(a: Uint8Array | undefined, b: Uint8Array): boolean {
  return a?.byteLength === b.byteLength && a.every((byte, index) => byte === b[index])
}
