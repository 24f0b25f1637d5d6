/** What the parts of this module hand each other and their users. */

/** An IP address (IPv4 dotted, IPv6 in the canonical form of RFC 5952, no zone) and a port. */
export type Endpoint = { readonly address: string; readonly port: number }

/** A UDP socket: datagrams in, datagrams out, no promise that any arrives. */
export interface UdpSocket {
  /** Where it is bound. The address is `0.0.0.0` or `::` where it is bound to all of them. */
  readonly local: Endpoint
  /** Sends what can be sent; what the system refuses counts as lost on the way. */
  send(bytes: Uint8Array, to: Endpoint): void
  /** Every datagram goes to every listener. Returns a function that ends it. Listeners must not throw. */
  onMessage(listener: (bytes: Uint8Array, from: Endpoint) => void): () => void
  /** Idempotent. Resolves when the port is free. */
  close(): Promise<void>
}

export type UdpOptions = {
  /** The local IP address. @default all IPv4 addresses */
  readonly address?: string
  /** @default one that is free */
  readonly port?: number
  /** Whether packets to groups leave through the interface that has `address`. @default the system chooses one */
  readonly isMulticast?: boolean
}

/** @throws NatError NAT_SOCKET_FAILED */
export type OpenUdp = (options?: UdpOptions) => Promise<UdpSocket>

/** How a NAT chooses the outside endpoint of an inside one (RFC 4787, 4.1). */
export type MappingBehaviour =
  /** There is no translation. */
  | 'direct'
  /** The same for every destination. */
  | 'endpoint-independent'
  /** Another one for each destination address. */
  | 'address-dependent'
  /** Another one for each destination address and port. */
  | 'address-and-port-dependent'
  /** Another one for other destinations; which part of the destination matters was not seen. */
  | 'endpoint-dependent'
  | 'unknown'

/** Which packets from outside a NAT or firewall lets in on a mapping (RFC 4787, 5). */
export type FilteringBehaviour = 'endpoint-independent' | 'address-dependent' | 'address-and-port-dependent' | 'unknown'

/** The kinds of RFC 3489 by which people know them. `docs/reference/nat.md` says what each allows. */
export type NatKind = 'none' | 'full-cone' | 'restricted' | 'port-restricted' | 'symmetric' | 'blocked' | 'unknown'
