/** What this module is given and what it gives. */
import type { Clock, Logger, Random } from '#base'
import type { Endpoint, MappingChange, OpenUdp, PortMapper } from '#nat'
import type { Host } from '#net'
import type { NatName, ReachReport, NodeType } from '#wire'

export type ReachHost = Pick<
  Host,
  | 'id'
  | 'listening'
  | 'planePort'
  | 'setExternalAddresses'
  | 'peers'
  | 'onPeer'
  | 'open'
  | 'handle'
  | 'probe'
  | 'handleProbes'
>

export type ReachDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly host: ReachHost
  readonly openUdp: OpenUdp
  /** This machine's addresses, loopback and link-local ones left out. */
  readonly localAddresses: () => readonly string[]
  /** Makes a port mapper for the network in which the machine is now. */
  readonly createMapper: (onChanged: (change: MappingChange) => void) => PortMapper
  /** The IP address of a name, IPv4 first; undefined where there is none. Does not reject. */
  readonly resolve: (name: string) => Promise<string | undefined>
}

export type StunName = { readonly host: string; readonly port: number }

export type ReachOptions = {
  /** Have the gateway map the ports where this node listens at private addresses. @default true */
  readonly mapPorts?: boolean
  /** STUN servers beside those of peers, by name or IP address; at most `STUN_SERVERS_MAX`. */
  readonly stun?: readonly StunName[]
  /** Multiaddrs at which this node can be reached, as its owner says: believed. */
  readonly external?: readonly string[]
  /** Which IP addresses are of the internet. @default public ones; tests on one machine have none */
  readonly isUsable?: (ip: string) => boolean
}

export type ReachChange = {
  readonly type: NodeType
  readonly mayRelay: boolean
  readonly nat: NatName
  readonly transports: ReachReport['transports']
  readonly stunPort: number | undefined
  /** IP addresses at which this node is seen. */
  readonly ips: readonly string[]
  /** Multiaddrs outside, without the peer id. */
  readonly external: readonly string[]
}

export interface Reach {
  readonly type: NodeType
  readonly mayRelay: boolean
  /** Port of this node's own STUN server, for the offer; public nodes have one. */
  readonly stunPort: number | undefined
  /** Begins. The host runs by now. @throws NetError NET_ADDRESS_INVALID for an address of the owner's */
  start(): void
  /** Takes back what was mapped, and ends everything. Idempotent; never rejects. */
  stop(): Promise<void>
  /** STUN servers that are known: those of public peers and those that the owner has named. */
  stunServers(): readonly Endpoint[]
  /** Everything that people may want to know. */
  status(): ReachReport
  /** One event for each change of type or addresses, once it has settled. @returns how to stop listening */
  onChange(listener: (change: ReachChange) => void): () => void
}
