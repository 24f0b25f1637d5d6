/** What a way of mapping ports offers, whichever protocol the gateway speaks. */

export type MappingRequest = {
  readonly protocol: 'udp' | 'tcp'
  readonly internalPort: number
  /** The port outside that is wished for; the gateway may give another. @default the internal port */
  readonly externalPort?: number
}

export type PortMapping = MappingRequest & {
  readonly via: 'pcp' | 'nat-pmp' | 'upnp'
  /** The address outside, as the gateway says. */
  readonly externalAddress: string
  readonly externalPort: number
  /** False where the gateway's outside address is a private one: it is behind another NAT, so this mapping reaches nobody. */
  readonly isPublic: boolean
  /** From the grant to its end, in seconds; 0: until somebody takes it back. */
  readonly leaseSeconds: number
}

/** One way to one gateway. Calls may take as long as they like: callers give a signal. */
export interface MappingProtocol {
  /** For reasons and logs. */
  readonly name: string
  /** Maps, or renews what is mapped. Rejects where the gateway does not answer or does not want to. */
  map(
    request: MappingRequest,
    options: { readonly leaseSeconds: number; readonly signal: AbortSignal },
  ): Promise<PortMapping>
  /** Takes a mapping back. */
  unmap(mapping: PortMapping, options: { readonly signal: AbortSignal }): Promise<void>
}
