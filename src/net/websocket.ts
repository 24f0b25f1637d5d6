/**
 * WebSocket as a transport of libp2p, for networks that let nothing else through: only where an address says so. Two
 * things are mended about the package's connections. They stay open when they are aborted, since 1006 is a code that
 * nobody may send. And they do not stop reading when they are told to: those that came in can be made to; for those that we
 * dialled Node has no such call, so they get room for what may come in a moment in which nobody reads.
 */
import type { MultiaddrConnection, Transport, Upgrader } from '@libp2p/interface'
import { webSockets } from '@libp2p/websockets'
import { WEBSOCKET_READ_BYTES_MAX } from './limits.ts'

type Components = Parameters<ReturnType<typeof webSockets>>[0]

/** What is used of a connection of the package, none of which its types show. */
type WebSocketConnection = {
  readonly websocket?: { pause?(): void; resume?(): void; terminate?(): void; close(): void }
  maxReadBufferLength?: number
  sendReset?: () => void
  sendPause?: () => void
  sendResume?: () => void
}

/** @param options.writeBytesMax bytes that wait in a socket before writers are told to pause */
export function webSocket(options: { readonly writeBytesMax: number }): (components: Components) => Transport {
  const make = webSockets({ maxBufferedAmount: options.writeBytesMax })
  return components => {
    const transport = make(components)
    const dial = transport.dial.bind(transport)
    const createListener = transport.createListener.bind(transport)
    transport.dial = (address, given) => dial(address, { ...given, upgrader: mending(given.upgrader) })
    transport.createListener = given => createListener({ ...given, upgrader: mending(given.upgrader) })
    return transport
  }
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
  const inside: WebSocketConnection = connection as object
  const { websocket } = inside
  inside.maxReadBufferLength = WEBSOCKET_READ_BYTES_MAX
  inside.sendReset = () => (websocket?.terminate === undefined ? websocket?.close() : websocket.terminate())
  if (websocket?.pause === undefined) return
  inside.sendPause = () => websocket.pause?.()
  inside.sendResume = () => websocket.resume?.()
}
