/**
 * WebSocket as a transport of libp2p, for networks that let nothing else through: only where an address says so. What is
 * mended about the package: its listeners have no bounds, and a malformed frame ends the process; its connections stay open when they are aborted, since 1006 is a
 * code that nobody may send; and they do not stop reading when they are told to: those that came in can be made to; for those that we
 * dialled Node has no such call, so they get room for what may come in a moment in which nobody reads.
 */
import type { Server } from 'node:net'
import type { Listener, MultiaddrConnection, Transport, Upgrader } from '@libp2p/interface'
import { webSockets } from '@libp2p/websockets'
import { WEBSOCKET_MESSAGE_BYTES_MAX, WEBSOCKET_READ_BYTES_MAX } from './limits.ts'

type Components = Parameters<ReturnType<typeof webSockets>>[0]

/** What is used of a connection of the package, none of which its types show. */
type WebSocketConnection = {
  readonly websocket?: {
    pause?(): void
    resume?(): void
    terminate?(): void
    close(): void
    on?(event: 'error', listener: () => void): unknown
  }
  maxReadBufferLength?: number
  sendReset?: () => void
  sendPause?: () => void
  sendResume?: () => void
}

/** Of a listener of the package, what its types do not show. */
type WebSocketListener = {
  readonly server?: Server
  readonly wsServer?: { readonly options: { maxPayload?: number } }
}

export type WebSocketOptions = {
  /** Bytes that wait in a socket before writers are told to pause. */
  readonly writeBytesMax: number
  /** Sockets of a listener. */
  readonly connectionsMax: number
  /** How long a socket may take to become a WebSocket. */
  readonly timeoutMs: number
}

/** A transport for `createLibp2p`. */
export function webSocket(options: WebSocketOptions): (components: Components) => Transport {
  const { timeoutMs, connectionsMax } = options
  const http = { headersTimeout: timeoutMs, requestTimeout: timeoutMs, connectionsCheckingInterval: timeoutMs }
  const make = webSockets({ maxBufferedAmount: options.writeBytesMax, http })
  return components => {
    const transport = make(components)
    const dial = transport.dial.bind(transport)
    const createListener = transport.createListener.bind(transport)
    transport.dial = (address, given) => dial(address, { ...given, upgrader: mending(given.upgrader) })
    transport.createListener = given => {
      const listener: Listener & WebSocketListener = createListener({ ...given, upgrader: mending(given.upgrader) })
      bound(listener, { connectionsMax, timeoutMs })
      return listener
    }
    return transport
  }
}

/** The package lets anybody come, say nothing, and then send 100 MiB in one message. */
function bound(
  { server, wsServer }: WebSocketListener,
  { connectionsMax, timeoutMs }: Pick<WebSocketOptions, 'connectionsMax' | 'timeoutMs'>,
): void {
  if (wsServer !== undefined) wsServer.options.maxPayload = WEBSOCKET_MESSAGE_BYTES_MAX
  if (server === undefined) return
  server.maxConnections = connectionsMax
  // Such as no more file descriptors: that passes.
  server.on('error', () => undefined)
  // The timeout is taken back when the socket becomes a WebSocket.
  server.prependListener('connection', socket => socket.setTimeout(timeoutMs, () => socket.destroy()))
}

function mending(upgrader: Upgrader): Upgrader {
  // Bound one by one: a copy of the object would lose the methods of its class.
  const upgradeInbound: Upgrader['upgradeInbound'] = (connection, options) => {
    mend(connection)
    return upgrader.upgradeInbound(connection, options)
  }
  const upgradeOutbound = ((connection: MultiaddrConnection, options: never) => {
    mend(connection)
    return upgrader.upgradeOutbound(connection, options)
  }) as Upgrader['upgradeOutbound']
  return {
    upgradeInbound,
    upgradeOutbound,
    createInboundAbortSignal: signal => upgrader.createInboundAbortSignal(signal),
    getConnectionEncrypters: () => upgrader.getConnectionEncrypters(),
    getStreamMuxers: () => upgrader.getStreamMuxers(),
  }
}

function mend(connection: MultiaddrConnection): void {
  const inside: MultiaddrConnection & WebSocketConnection = connection
  const { websocket } = inside
  // A frame that breaks the protocol is an event that ends the process where nobody listens; the close that follows will do.
  websocket?.on?.('error', () => undefined)
  inside.maxReadBufferLength = WEBSOCKET_READ_BYTES_MAX
  inside.sendReset = () => (websocket?.terminate === undefined ? websocket?.close() : websocket.terminate())
  if (websocket?.pause === undefined) return
  inside.sendPause = () => websocket.pause?.()
  inside.sendResume = () => websocket.resume?.()
}
