/**
 * WebSocket as a transport of libp2p, for networks that let nothing else through: only where an address says so. The
 * package's connections do not stop reading when they are told to. Those that came in can be made to; for those that we
 * dialled Node has no such call, so they get room for what may come in a moment in which nobody reads.
 */
import type { MultiaddrConnection, Transport, Upgrader } from '@libp2p/interface'
import { webSockets } from '@libp2p/websockets'
import { WEBSOCKET_READ_BYTES_MAX } from './limits.ts'

type Components = Parameters<ReturnType<typeof webSockets>>[0]

/** What is used of a connection of the package, none of which its types show. */
type WebSocketConnection = {
  readonly websocket?: { pause?(): void; resume?(): void }
  maxReadBufferLength?: number
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
    transport.dial = (address, given) => dial(address, { ...given, upgrader: readingLess(given.upgrader) })
    transport.createListener = given => createListener({ ...given, upgrader: readingLess(given.upgrader) })
    return transport
  }
}

function readingLess(upgrader: Upgrader): Upgrader {
  // Bound one by one: a copy of the object would lose the methods of its class.
  const upgradeInbound: Upgrader['upgradeInbound'] = (connection, options) => {
    pauseWhereAsked(connection)
    return upgrader.upgradeInbound(connection, options)
  }
  const upgradeOutbound = ((connection: MultiaddrConnection, options: never) => {
    pauseWhereAsked(connection)
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

function pauseWhereAsked(connection: MultiaddrConnection): void {
  const inside: WebSocketConnection = connection as object
  const { websocket } = inside
  inside.maxReadBufferLength = WEBSOCKET_READ_BYTES_MAX
  if (websocket?.pause === undefined) return
  inside.sendPause = () => websocket.pause?.()
  inside.sendResume = () => websocket.resume?.()
}
