/**
 * A relay in user space that delays and loses what passes: for tests on loopback, where no namespaces are to be had. What
 * comes to its address goes to the target from another one, so it is of no use where addresses matter (hole punching):
 * there `lab` has delayed links.
 */
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { CancelTimer, Clock, Random } from '#base'
import { createPath, type Impairment, type Path } from './impairment.ts'
import { PROXY_BYTES_IN_FLIGHT_MAX, PROXY_CLIENTS_MAX } from './limits.ts'

export type DelayProxyDeps = { readonly clock: Clock; readonly random: Random }

export type DelayProxyOptions = Impairment & {
  readonly protocol: 'udp' | 'tcp'
  /** Where everything goes. */
  readonly target: { readonly host: string; readonly port: number }
  /** Where it listens (127.0.0.1). */
  readonly host?: string
  /** 0, the default: any. */
  readonly port?: number
  /** TCP only: how much longer a "lost" part takes, as if sent again, in milliseconds (200). */
  readonly resendMs?: number
}

export type DelayProxy = {
  readonly port: number
  /** Packets (UDP) or parts of streams (TCP) so far; `dropped` found no room. */
  readonly counts: { readonly passed: number; readonly lost: number; readonly dropped: number }
  /** Closes all sockets and forgets what is on its way. */
  readonly close: () => Promise<void>
}

/** Starts a proxy. Each direction has its own path; both draw from the one generator that was given. */
export async function createDelayProxy(deps: DelayProxyDeps, options: DelayProxyOptions): Promise<DelayProxy> {
  return options.protocol === 'udp' ? udpProxy(deps, options) : tcpProxy(deps, options)
}

/** Work that waits for its time, counted in bytes. */
class InFlight {
  readonly #clock: Clock
  readonly #timers = new Set<CancelTimer>()
  #bytes = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  get isFull(): boolean {
    return this.#bytes >= PROXY_BYTES_IN_FLIGHT_MAX
  }

  later(delayMs: number, byteCount: number, action: () => void): void {
    this.#bytes += byteCount
    const cancel = this.#clock.after(delayMs, () => {
      this.#timers.delete(cancel)
      this.#bytes -= byteCount
      action()
    })
    this.#timers.add(cancel)
  }

  clear(): void {
    for (const cancel of this.#timers) cancel()
    this.#timers.clear()
  }
}

async function udpProxy(deps: DelayProxyDeps, options: DelayProxyOptions): Promise<DelayProxy> {
  const { host = '127.0.0.1', target } = options
  const counts = { passed: 0, lost: 0, dropped: 0 }
  const [there, back] = [createPath(deps, options), createPath(deps, options)]
  const type = host.includes(':') ? 'udp6' : 'udp4'
  const upstream = new Map<string, UdpSocket>()
  const inFlight = new InFlight(deps.clock)
  const front = createSocket(type)
  const pass = (path: Path, bytes: Uint8Array, action: () => void): void => {
    const { delayMs, isLost } = path(bytes.length)
    if (isLost) counts.lost += 1
    else if (inFlight.isFull) counts.dropped += 1
    else {
      inFlight.later(delayMs, bytes.length, () => {
        counts.passed += 1
        action()
      })
    }
  }
  const socketOf = (client: RemoteInfo): UdpSocket | undefined => {
    const key = `${client.address} ${client.port}`
    const known = upstream.get(key)
    if (known !== undefined || upstream.size >= PROXY_CLIENTS_MAX) return known
    const socket = createSocket(target.host.includes(':') ? 'udp6' : 'udp4')
    socket.on('error', () => undefined) // An unreachable target answers nothing, here as on a network.
    socket.on('message', bytes => pass(back, bytes, () => front.send(bytes, client.port, client.address)))
    upstream.set(key, socket)
    return socket
  }
  front.on('error', () => undefined)
  front.on('message', (bytes, client) => {
    const socket = socketOf(client)
    if (socket === undefined) counts.dropped += 1
    else pass(there, bytes, () => socket.send(bytes, target.port, target.host))
  })
  front.bind(options.port ?? 0, host)
  await once(front, 'listening')
  const close = async (): Promise<void> => {
    inFlight.clear()
    await Promise.all([front, ...upstream.values()].map(closeUdp))
  }
  return { port: front.address().port, counts, close: onceOnly(close) }
}

async function tcpProxy(deps: DelayProxyDeps, options: DelayProxyOptions): Promise<DelayProxy> {
  const { host = '127.0.0.1', target } = options
  const counts = { passed: 0, lost: 0, dropped: 0 }
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, near => {
    if (sockets.size >= 2 * PROXY_CLIENTS_MAX) {
      counts.dropped += 1
      near.resetAndDestroy()
      return
    }
    const far = connect({ host: target.host, port: target.port, allowHalfOpen: true })
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from)
      // A reset on one side is one on the other; a socket that is closed passes nothing on.
      from.on('error', () => to.resetAndDestroy())
      from.on('close', () => sockets.delete(from))
      relay(deps, options, { from, to, counts })
    }
  })
  server.listen(options.port ?? 0, host)
  await once(server, 'listening')
  const close = async (): Promise<void> => {
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, 'close')
  }
  return { port: (server.address() as AddressInfo).port, counts, close: onceOnly(close) }
}

type Relayed = {
  readonly from: Socket
  readonly to: Socket
  readonly counts: { passed: number; lost: number; dropped: number }
}

/** One direction of one connection. Order holds: a part waits for those before it, as behind a lost segment. */
function relay(deps: DelayProxyDeps, options: DelayProxyOptions, { from, to, counts }: Relayed): void {
  const path = createPath(deps, options)
  const inFlight = new InFlight(deps.clock)
  const waiting: (() => void)[] = []
  let lastAt = 0
  const inOrder = (delayMs: number, byteCount: number, action: () => void): void => {
    const now = deps.clock.monotonic()
    lastAt = Math.max(lastAt, now + delayMs)
    // Timers are only as exact as a millisecond: each lets go of the oldest part, whichever it was set for.
    waiting.push(action)
    inFlight.later(lastAt - now, byteCount, () => waiting.shift()?.())
  }
  from.on('data', (bytes: Uint8Array) => {
    const { delayMs, isLost } = path(bytes.length)
    if (isLost) counts.lost += 1
    inOrder(delayMs + (isLost ? (options.resendMs ?? 200) : 0), bytes.length, () => {
      counts.passed += 1
      const hasRoom = to.write(bytes)
      if (!hasRoom) from.pause()
      else if (!inFlight.isFull) from.resume()
    })
    if (inFlight.isFull) from.pause()
  })
  to.on('drain', () => {
    if (!inFlight.isFull) from.resume()
  })
  from.on('end', () => inOrder(options.delayMs ?? 0, 0, () => to.end()))
  to.on('close', () => inFlight.clear())
}

function closeUdp(socket: UdpSocket): Promise<void> {
  return new Promise(resolve => socket.close(() => resolve()))
}

function onceOnly(action: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined
  return () => (done ??= action())
}
