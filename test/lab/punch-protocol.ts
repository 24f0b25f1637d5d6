/** What a test tells a node in a lab (`punch-node.ts`), and what that says. */
export type NodeOptions = {
  readonly listen: readonly string[]
  /** Address of a STUN server; without one there is no way by UDP. */
  readonly stun?: string
  /** Addresses of this public node, which serves. */
  readonly public?: readonly string[]
  /** Whether streams may take sockets of their own. @default true */
  readonly plane?: boolean
  /** What the node says of its NAT. */
  readonly nat?: 'symmetric' | 'unknown'
}

export type NodeRequest =
  | { readonly what: 'connect'; readonly address: string }
  | {
      readonly what: 'relay'
      readonly peer: string
      readonly direction: 'inbound' | 'outbound'
      readonly host: string
      readonly port: number
      readonly room: string
      readonly via: string
    }
  | { readonly what: 'drop'; readonly peer: string }
  | { readonly what: 'send'; readonly peer: string; readonly bytes: number }

export type NodeEvent = {
  readonly event: string
  readonly peer?: string
  readonly path?: string
  readonly transport?: string
  readonly afterMs?: number
  readonly message?: string
  readonly id?: string
  readonly addresses?: readonly string[]
  readonly room?: number
  readonly bytes?: number
  readonly tookMs?: number
  readonly error?: string
}
