/** The gateways of this machine: from the routing table where Linux shows it, else guessed. IPv4: IPv6 has no NAT to map. */
import { readFile } from 'node:fs/promises'
import { type NetworkInterfaceInfo, networkInterfaces } from 'node:os'
import { addressOfBytes, bytesOfAddress, isPrivate } from '../ip.ts'
import { UPNP_GATEWAYS_MAX } from '../limits.ts'

export type Gateway = {
  readonly address: string
  /** This machine's address on the gateway's network. */
  readonly localAddress: string
}

type Interfaces = Readonly<Record<string, readonly NetworkInterfaceInfo[] | undefined>>

/** The default gateways, at most `UPNP_GATEWAYS_MAX`. Without a routing table: the first address of each private network. */
export async function findGateways(): Promise<Gateway[]> {
  const interfaces = networkInterfaces()
  // Other systems have no such file, and sandboxes may hide it.
  const table = await readFile('/proc/net/route', 'utf8').catch(() => undefined)
  const gateways = table === undefined ? guessGateways(interfaces) : gatewaysOf(table, interfaces)
  return gateways.slice(0, UPNP_GATEWAYS_MAX)
}

/**
 * The default routes of `/proc/net/route`: lines of interface, destination, gateway and flags, and the mask as the eighth;
 * addresses as hexadecimal numbers in the byte order of the machine.
 */
export function gatewaysOf(table: string, interfaces: Interfaces): Gateway[] {
  return table
    .split('\n')
    .slice(1)
    .map(line => line.trim().split(/\s+/))
    .filter(([, destination, gateway, , , , , mask]) => {
      return destination === '00000000' && mask === '00000000' && /^[0-9A-F]{8}$/.test(gateway ?? '')
    })
    .flatMap(([name = '', , gateway = '']) => {
      const address = addressOfBytes(
        Uint8Array.from([6, 4, 2, 0], at => Number.parseInt(gateway.slice(at, at + 2), 16)),
      )
      const local = interfaces[name]?.find(info => info.family === 'IPv4')
      return local === undefined || address === '0.0.0.0' ? [] : [{ address, localAddress: local.address }]
    })
}

/** Home routers have the first address of their network. */
export function guessGateways(interfaces: Interfaces): Gateway[] {
  return Object.values(interfaces)
    .flatMap(infos => infos ?? [])
    .filter(info => info.family === 'IPv4' && !info.internal && isPrivate(info.address))
    .flatMap(info => {
      const address = bytesOfAddress(info.address)
      const mask = bytesOfAddress(info.netmask)
      if (address === undefined || mask === undefined) return []
      const first = address.map((byte, index) => byte & (mask[index] ?? 255))
      first[3] = (first[3] ?? 0) | 1
      const gateway = addressOfBytes(first)
      return gateway === info.address ? [] : [{ address: gateway, localAddress: info.address }]
    })
}
