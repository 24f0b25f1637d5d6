/** UDP sockets of the system: the one file of this module that imports `node:dgram`. */
import { createSocket } from 'node:dgram'
import { networkInterfaces } from 'node:os'
import { NatError } from './errors.ts'
import type { Endpoint, UdpOptions, UdpSocket } from './types.ts'

/**
 * Opens a UDP socket.
 * @throws NatError NAT_SOCKET_FAILED where the address or port cannot be had
 */
export async function openUdp(options: UdpOptions = {}): Promise<UdpSocket> {
  const address = options.address ?? '0.0.0.0'
  const isIpv6 = address.includes(':')
  const socket = createSocket({ type: isIpv6 ? 'udp6' : 'udp4', ipv6Only: isIpv6 })
  const listeners = new Set<(bytes: Uint8Array, from: Endpoint) => void>()
  const bound = Promise.withResolvers<void>()
  const ended = Promise.withResolvers<void>()
  let isClosed = false
  // After the bind, errors are about single datagrams that could not be sent or were sent back: they count as lost.
  socket.on('error', error => bound.reject(error))
  socket.on('close', () => ended.resolve())
  socket.on('message', (buffer, from) => {
    // A plain array: a Buffer's `slice` would be a view where everybody expects a copy.
    const bytes = new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)
    const source = { address: withoutZone(from.address), port: from.port }
    for (const listener of listeners) listener(bytes, source)
  })
  socket.bind({ port: options.port ?? 0, address, exclusive: true }, () => bound.resolve())
  try {
    await bound.promise
    if (options.isMulticast === true) socket.setMulticastInterface(address)
  } catch (error) {
    socket.close()
    throw new NatError({ code: 'NAT_SOCKET_FAILED' }, 'the UDP socket could not be opened', { cause: error })
  }
  const local = { address: socket.address().address, port: socket.address().port }
  return {
    local,
    send: (bytes, to) => {
      if (isClosed || to.port < 1 || to.address.includes(':') !== isIpv6) return
      // With a callback, a failure is told there and not thrown at the process.
      socket.send(bytes, to.port, to.address, () => undefined)
    },
    onMessage: listener => {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    close: () => {
      if (!isClosed) socket.close()
      isClosed = true
      listeners.clear()
      return ended.promise
    },
  }
}

/** This machine's addresses, loopback and link-local ones left out. */
export function localAddresses(): string[] {
  return Object.values(networkInterfaces())
    .flatMap(infos => infos ?? [])
    .filter(info => !info.internal && !/^(?:169\.254\.|fe80:)/i.test(info.address))
    .map(info => info.address)
}

/** Node writes the interface behind link-local addresses. */
function withoutZone(address: string): string {
  const at = address.indexOf('%')
  return at < 0 ? address : address.slice(0, at)
}
