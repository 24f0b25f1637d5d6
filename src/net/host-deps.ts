/** What a host is made with. */
import type { Clock, Logger, Random } from '#base'
import type { NodeIdentity } from '#identity'
import type { LinkDeps } from '#protocol'
import type { NodeOffer } from '#wire'
import type { Node } from './libp2p.ts'
import type { PeerGuard } from './peer-guard.ts'
import type { PunchTools } from './punch/types.ts'
import type { NetSettings } from './settings.ts'

export type HostDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly identity: NodeIdentity
  /** How the identity's key came to be what it is, the oldest statement first. */
  readonly handovers: readonly Uint8Array[]
  /** What peers are told that this node can do. */
  readonly capabilities: readonly string[]
  /** What sessions remember. */
  readonly memory: Pick<LinkDeps, 'sessions' | 'peerKeys' | 'replay' | 'audit'>
  readonly guard: PeerGuard
  /** Whether others can dial this node; undefined: not known. Without it: never known. */
  readonly isPublic?: () => boolean | undefined
  /** Whether a peer may use more of our relaying than strangers. Without it: those who have proved the secret. */
  readonly isTrusted?: (peer: string) => boolean
  /** What it takes to come from a relayed connection to a direct one. Without it relayed ones stay as they are. */
  readonly punch?: PunchTools
  /** What peers are told until the first `announce`. Without it: a node that serves nothing. */
  readonly offer?: NodeOffer
}

/** With what `createHost` has made of the options. */
export type HostParts = HostDeps & {
  readonly node: Node
  readonly settings: NetSettings
  readonly allows: (peer: string) => boolean
}
