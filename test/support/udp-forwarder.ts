/** Stands between two ends of UDP on loopback, as a NAT does: one client, whose port towards the server can change. */
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'

export type UdpForwarder = {
  /** Where the client sends to. */
  readonly port: number
  /** Resolves when the server has been sent something. */
  readonly used: Promise<void>
  /** From now on the server sees another port, as after a NAT forgot the old one. */
  rebind(): Promise<void>
  /** Nothing comes back from the server any more. */
  mute(): void
}

type Cleaner = { after(action: () => Promise<void>): void }

/** @param serverPort on 127.0.0.1 */
export async function startUdpForwarder(test: Cleaner, serverPort: number): Promise<UdpForwarder> {
  const inside = await bound()
  const sockets = new Set([inside])
  let client: number | undefined
  let isMute = false
  const open = async (): Promise<Socket> => {
    const socket = await bound()
    sockets.add(socket)
    socket.on('message', bytes => {
      if (client !== undefined && !isMute) inside.send(bytes, client, '127.0.0.1')
    })
    return socket
  }
  const used = Promise.withResolvers<void>()
  let outside = await open()
  inside.on('message', (bytes, { port }) => {
    client = port
    outside.send(bytes, serverPort, '127.0.0.1', () => used.resolve())
  })
  test.after(async () => {
    for (const socket of sockets) socket.close()
  })
  return {
    port: inside.address().port,
    used: used.promise,
    rebind: async () => {
      const before = outside
      outside = await open()
      sockets.delete(before)
      before.close()
    },
    mute: () => {
      isMute = true
    },
  }
}

async function bound(): Promise<Socket> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1')
  await once(socket, 'listening')
  // A socket that is closed while bytes for it are under way has nothing to say about them.
  socket.on('error', () => undefined)
  return socket
}
