/**
 * The program that a probe runs on a host of the lab: real UDP and TCP sockets, told what to do by lines of JSON on
 * standard input, answering by lines of JSON. It ends with its input. `probe-client.ts` is the other end.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { abortable, BoundedQueue, codeOf, sleep, systemClock } from '#base'
import type { Endpoint, ProbeAnswer, ProbeRequest, TcpResult, UdpMessage } from './probe-protocol.ts'

const MESSAGES_MAX = 1_000
const RETRY_MS = 25
const EXCHANGE_MS = 20_000

const udpSockets = new Map<number, { readonly socket: UdpSocket; readonly received: BoundedQueue<UdpMessage> }>()
const listeners = new Map<number, { readonly server: Server; readonly accepted: BoundedQueue<Promise<TcpResult>> }>()
let handle = 0

async function answer(request: ProbeRequest): Promise<ProbeAnswer> {
  switch (request.what) {
    case 'udp-open':
      return openUdp(request.port, request.ipv6)
    case 'udp-send':
      return sendUdp(request.socket, request.to, request.text)
    case 'udp-next':
      return { message: await orNothing(request.timeoutMs, signal => udp(request.socket).received.take({ signal })) }
    case 'close':
      udpSockets.get(request.socket)?.socket.close()
      udpSockets.delete(request.socket)
      listeners.get(request.socket)?.server.close()
      listeners.delete(request.socket)
      return {}
    case 'tcp-listen':
      return listenTcp(request.port, request.token)
    case 'tcp-accepted':
      return { result: await accepted(request.socket, request.timeoutMs) }
    case 'tcp-connect':
      break
  }
  return { result: await connectTcp(request) }
}

async function openUdp(port: number, ipv6: boolean): Promise<ProbeAnswer> {
  const socket = createSocket({ type: ipv6 ? 'udp6' : 'udp4', ipv6Only: ipv6 })
  const received = new BoundedQueue<UdpMessage>(MESSAGES_MAX)
  socket.on('message', (bytes, { address, port }) => {
    received.push({ text: bytes.toString('utf8'), from: { address, port } })
  })
  socket.on('error', () => undefined) // An ICMP error says that nobody listens: no answer says the same.
  socket.bind(port)
  await once(socket, 'listening')
  handle += 1
  udpSockets.set(handle, { socket, received })
  return { socket: handle, port: socket.address().port }
}

function udp(socket: number): { readonly socket: UdpSocket; readonly received: BoundedQueue<UdpMessage> } {
  const found = udpSockets.get(socket)
  if (found === undefined) throw new Error('no such socket')
  return found
}

async function sendUdp(handle: number, to: Endpoint, text: string): Promise<ProbeAnswer> {
  const { promise, resolve } = Promise.withResolvers<ProbeAnswer>()
  udp(handle).socket.send(text, to.port, to.address, error =>
    resolve({ code: error === null ? undefined : codeOf(error) }),
  )
  return promise
}

async function listenTcp(port: number, token: string): Promise<ProbeAnswer> {
  const accepted = new BoundedQueue<Promise<TcpResult>>(MESSAGES_MAX)
  const server = createServer({ allowHalfOpen: false }, socket => {
    accepted.push(exchange(socket, token, AbortSignal.timeout(EXCHANGE_MS)).catch(refused))
  })
  server.listen(port)
  await once(server, 'listening')
  handle += 1
  listeners.set(handle, { server, accepted })
  const address = server.address()
  return { socket: handle, port: typeof address === 'object' && address !== null ? address.port : 0 }
}

async function accepted(socket: number, timeoutMs: number): Promise<TcpResult> {
  const listener = listeners.get(socket)
  if (listener === undefined) throw new Error('no such listener')
  const result = await orNothing(timeoutMs, signal => listener.accepted.take({ signal }))
  return result ?? { code: 'TIMEOUT' }
}

/** Connects from a port of its own choice, again and again until the time is over: a refusal is no reason to stop. */
async function connectTcp(request: Extract<ProbeRequest, { what: 'tcp-connect' }>): Promise<TcpResult> {
  const deadline = AbortSignal.timeout(request.timeoutMs)
  let last: TcpResult = { code: 'TIMEOUT' }
  while (!deadline.aborted) {
    const { address: host, port } = request.to
    const socket = connect({ host, port, ...(request.localPort > 0 && { localPort: request.localPort }) })
    try {
      const result = await exchange(socket, request.token, deadline)
      return result
    } catch (error) {
      last = refused(error)
    } finally {
      // With a reset, so that the port is free for the next attempt.
      socket.resetAndDestroy()
    }
    if (!request.again) break
    await sleep(systemClock, RETRY_MS, { signal: deadline }).catch(() => undefined)
  }
  return last
}

/** Says a word and hears the other's: only then are the two connected with each other. */
async function exchange(socket: Socket, token: string, signal: AbortSignal): Promise<TcpResult> {
  socket.on('error', () => undefined) // Seen by once() below; later ones belong to a socket that is done with.
  if (socket.connecting) await once(socket, 'connect', { signal })
  const remote = { address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 }
  socket.write(`${token}\n`)
  const lines = createInterface({ input: socket })
  const ended = once(socket, 'close', { signal }).then(() => [undefined])
  const [peer] = (await Promise.race([once(lines, 'line', { signal }), ended])) as [string | undefined]
  if (peer === undefined) throw new Error('closed before a word')
  // The other end must have heard too: it answers the end of this one.
  socket.end()
  await abortable(ended, signal).catch(() => undefined)
  return { peer, remote }
}

function refused(error: unknown): TcpResult {
  const cause = error instanceof Error && error.name === 'AbortError' ? 'TIMEOUT' : undefined
  return { code: cause ?? codeOf(error) ?? 'CLOSED' }
}

async function orNothing<T>(timeoutMs: number, task: (signal: AbortSignal) => Promise<T>): Promise<T | undefined> {
  const signal = AbortSignal.timeout(timeoutMs)
  try {
    return await task(signal)
  } catch (error) {
    if (signal.aborted) return undefined
    throw error
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { id, ...request } = JSON.parse(line) as ProbeRequest & { readonly id: number }
  answer(request as ProbeRequest).then(
    result => process.stdout.write(`${JSON.stringify({ id, ...result })}\n`),
    (error: unknown) => process.stdout.write(`${JSON.stringify({ id, fault: String(error) })}\n`),
  )
}
process.exit(0)
