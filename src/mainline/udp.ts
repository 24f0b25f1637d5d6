/** Real UDP sockets, and the names of hosts. Everything else of the module knows datagrams only. */
import { createSocket, type Socket } from 'node:dgram'
import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { type Clock, withDeadline } from '#base'
import { decodeEndpoint, familyOf } from './address.ts'
import { MainlineError } from './errors.ts'
import { BOOTSTRAP_ADDRESSES_MAX, RESOLVE_MS_MAX } from './limits.ts'
import type { DatagramSocket, DatagramSockets, Endpoint } from './types.ts'

/**
 * UDP sockets for a node.
 * @param options.listen at most one address for each family; port 0: any free one
 */
export function createUdpSockets(
  deps: { readonly clock: Clock },
  options: { readonly listen: readonly Endpoint[] },
): DatagramSockets {
  return {
    open: async () => {
      const opened: DatagramSocket[] = []
      try {
        for (const endpoint of options.listen) opened.push(await openSocket(endpoint))
      } catch (error) {
        await Promise.all(opened.map(socket => socket.close()))
        throw error
      }
      return opened
    },
    resolve: async host => {
      try {
        const found = await withDeadline(deps.clock, { what: 'a name', timeoutMs: RESOLVE_MS_MAX }, () =>
          lookup(host, { all: true }),
        )
        return found.slice(0, BOOTSTRAP_ADDRESSES_MAX).map(({ address }) => address)
      } catch {
        return [] // A name without an address, or no answer in time: there are others to begin with.
      }
    },
  }
}

async function openSocket({ host, port }: Endpoint): Promise<DatagramSocket> {
  const socket = createSocket(familyOf({ host }) === 4 ? { type: 'udp4' } : { type: 'udp6', ipv6Only: true })
  try {
    const bound = once(socket, 'listening')
    socket.bind(port, host)
    await bound
  } catch (cause) {
    socket.close()
    throw new MainlineError({ code: 'MAINLINE_LISTEN_FAILED', host }, `cannot listen on UDP port ${port} of ${host}`, {
      cause,
    })
  }
  return wrap(socket)
}

function wrap(socket: Socket): DatagramSocket {
  const { address: host, port } = socket.address()
  let isOpen = true
  // What the system reports of one datagram (no route, a refusal) is the same as its loss, which the timeout sees.
  socket.on('error', () => undefined)
  return {
    local: { host, port },
    send: (bytes, to) => {
      if (isOpen) socket.send(bytes, to.port, to.host, () => undefined)
    },
    onMessage: listener => {
      socket.on('message', (bytes, { address, port }) => {
        const from = decodeEndpoint(address, port)
        if (isOpen && from !== undefined) listener(new Uint8Array(bytes), from)
      })
    },
    close: async () => {
      if (!isOpen) return
      isOpen = false
      const closed = once(socket, 'close')
      socket.close()
      await closed
    },
  }
}
