/** What discovery needs of others, and what it gives to them. */
import type { ByteStream, LayerRange } from '#base'
import type { KnownPeerRow } from '#storage'
import type { ProtocolId } from '#wire'
import type { PeerFault } from './errors.ts'

export type AbortOptions = { readonly signal?: AbortSignal }

/** A connected peer. */
export type ConnectedPeer = { readonly id: string; readonly addresses: readonly string[] }

/** What discovery uses of the network host. */
export interface DiscoveryHost {
  /** Our own peer id. */
  readonly id: string
  /** Admitted peers that are connected. */
  peers(): readonly ConnectedPeer[]
  onPeer(
    listener: (event: { readonly kind: 'joined' | 'changed' | 'left'; readonly peer: ConnectedPeer }) => void,
  ): void
  open(peer: string, protocol: ProtocolId, options?: AbortOptions): Promise<ByteStream>
  handle(protocol: ProtocolId, handler: (stream: ByteStream) => void | Promise<void>): void
  /** Dials a multiaddr, checks the identity and admits. @returns the peer id */
  connect(address: string, options?: AbortOptions): Promise<string>
  /** Multiaddrs of ours that others can dial. */
  addresses(): readonly string[]
  /**
   * Lets go of a connection that nothing uses, so that a newcomer finds a place. @returns whether it did
   * @default connections are never let go, and a full node refuses newcomers
   */
  release?(peer: string): boolean
}

/** What discovery uses of Kademlia: provider records, and records of one kind under the peer that signs them. */
export interface KadRecords {
  /** Says that we have what the key stands for. @param key 20 bytes */
  provide(key: Uint8Array, options?: AbortOptions): Promise<void>
  /** Who says so. Hints, no proof. */
  findProviders(
    key: Uint8Array,
    options: AbortOptions,
  ): AsyncIterable<{ readonly peer: string; readonly addresses: readonly string[] }>
  put(record: { readonly kind: string; readonly payload: Uint8Array }, options?: AbortOptions): Promise<void>
  /** The newest payload that this peer has put; undefined: none was found. */
  get(kind: string, peer: string, options?: AbortOptions): Promise<Uint8Array | undefined>
}

/** How we know of a peer: from itself, from another peer, or from an earlier life of ours with the first of these. */
export type PeerSource = KnownPeerRow['source']

/** A service that a peer announces: a stage of a model, or something else under a name. */
export type Service = {
  /** 'stage', or a name of one's own: lower case, digits, dots and dashes. */
  readonly service: string
  /** Model id, 64 hexadecimal digits. */
  readonly model?: string
  readonly modelName?: string
  readonly layers?: LayerRange
  readonly layerCount?: number
}

/** What is looked for. */
export type ServiceQuery = {
  readonly service: string
  /** Model id, or a prefix of it of 8 digits or more, or the model's name. */
  readonly model?: string
}

/** A service that was found; its announcement was signed by the peer and is in force. */
export type FoundService = Service & {
  readonly peer: string
  readonly addresses: readonly string[]
  /** Number of the announcement. */
  readonly sequence: number
  /** Unix milliseconds. */
  readonly expiresAt: number
  /** Who has told us. */
  readonly via: 'self' | 'peer' | 'kad' | 'mainline'
}

export type DiscoveryEvent =
  /** A peer that was not known before. */
  | { readonly kind: 'discovered'; readonly peer: string; readonly source: PeerSource }
  | {
      readonly kind: 'exchanged'
      readonly peer: string
      readonly sentBytes: number
      readonly receivedBytes: number
      /** Peers that were new to us. */
      readonly learned: number
    }
  /** Our own metadata is with so many nodes. */
  | { readonly kind: 'published'; readonly sequence: number; readonly stored: number }
  | { readonly kind: 'announced'; readonly sequence: number }
  | { readonly kind: 'fault'; readonly peer: string; readonly fault: PeerFault }
