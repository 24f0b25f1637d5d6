/** What services see of the network: a host that dials, listens, admits peers and carries streams. */
import type { Connection } from '@libp2p/interface'
import type { ByteStream } from '#base'
import type { KeyProvider } from '#identity'
import type { LinkFacts, RefusalFacts } from '#protocol'
import type { NodeOffer, Priority, ProtocolId, RefusalReason, RelayMode } from '#wire'
import type { BreakerFacts } from './life/breakers.ts'
import type { ConnectionEvent, ConnectionFacts, Traffic } from './life/connections.ts'
import type { HoldReason } from './life/holds.ts'
import type { ConnectionState } from './life/life.ts'
import type { HostRelay } from './relay/types.ts'
import type { NetSettings } from './settings.ts'

export type HostOptions = {
  /** Multiaddrs to listen on. @default ['/ip4/127.0.0.1/tcp/0'] */
  readonly listen: readonly string[]
  /** TCP port of the data plane, at the same hosts. 0: any that is free. 'off': streams go over libp2p. @default 0 */
  readonly planePort?: number | 'off'
  /** Peers must prove that they know it before they may do anything else. Undefined: an open swarm. */
  readonly secret?: Uint8Array
  /** Look for peers on the local network. @default false */
  readonly mdns: boolean
  /** Sign handshakes with ML-DSA-65 beside Ed25519, where the identity has such a key. @default false */
  readonly hybridSignatures?: boolean
  /** Relay for others. @default 'auto' */
  readonly relay?: RelayMode
  /** How many reservations at relays this node holds while others cannot dial it. @default 2 */
  readonly relaysHeld?: number
  /** Where in the world this node is, in words of its owner's choice: relays of the same region are taken for a bit nearer. */
  readonly region?: string
  /** Tell peers of one another, and dial those that peers tell of. @default whether there is a secret */
  readonly meet?: boolean
  /** What connections run on. @default 'dual' */
  readonly transport?: TransportMode
  /** Settings that are not the defaults. See `checkSettings`. */
  readonly settings?: Partial<NetSettings>
  /** Peer ids. Where there are any, nobody else is dialled or let in. @default everybody may come */
  readonly allow?: readonly string[]
  /** What else runs on the libp2p node. @default nothing */
  readonly services?: HostServices
}

/** What a service on our libp2p node is given, so that it talks to admitted peers alone. */
export type HostInside = {
  /** The connection of an admitted peer, dialled where there is none. @throws NetError */
  readonly connection: (
    peer: string,
    addresses: readonly string[],
    options: { readonly signal: AbortSignal },
  ) => Promise<Connection>
  readonly isAdmitted: (connection: Connection) => boolean
}

/** Makes services of libp2p by their names: each is given libp2p's components, started and stopped with it. */
export type HostServices = (inside: HostInside) => Readonly<Record<string, (components: never) => object>>

/**
 * QUIC and TCP beside one another (and TCP alone, with a warning, where QUIC cannot be had); QUIC alone, and no data plane;
 * TCP alone. WebSocket goes with TCP, where an address names it.
 */
export type TransportMode = 'dual' | 'quic' | 'tcp'

/** What carries bytes below a connection. */
export type Transport = 'tcp' | 'quic' | 'ws'

/**
 * How a connection came about, the best first: dialled where the peer listens; TCP from both sides through their NATs at
 * once; QUIC over a UDP path that ICE found; through a third node.
 */
export type PathKind = 'direct' | 'punched' | 'ice' | 'relayed'

export type PeerPath = {
  readonly kind: PathKind
  readonly transport: Transport
  /** Peer id of the relay. */
  readonly via?: string
}

/** A peer that was admitted and is connected. */
export type Peer = {
  readonly id: string
  readonly addresses: readonly string[]
  readonly direction: 'inbound' | 'outbound'
  /** How the connection that new streams use reaches the peer. */
  readonly path: PeerPath
  /** Of that connection. */
  readonly state: ConnectionState
  /** Why it is to stay, however quiet it is. */
  readonly holds: readonly HoldReason[]
  /** Where the peer is on its connection: a multiaddr without a peer id. Undefined: behind a relay. */
  readonly remoteAddress?: string
  /** Where the peer says that it sees us on that connection. Not checked: it may be wrong, or no multiaddr at all. */
  readonly observedAddress?: string
  /** Clock.monotonic() at admission. */
  readonly connectedAt: number
  /** Smoothed round-trip time of the last pings, in milliseconds. */
  readonly rttMs?: number
  /** Pings in a row that it has not answered in time: a peer in trouble, as long as it is not 0. */
  readonly pingFailures: number
  /** The latest offer that the peer sent. */
  readonly offer: NodeOffer
  /** Open streams of the services: over the data plane, and over libp2p. */
  readonly streams: { readonly plane: number; readonly libp2p: number }
  /** Bytes of streams over the connections that there are, the control streams among them. */
  readonly traffic: Readonly<Traffic>
  /** What is spoken on the connection that new streams use. */
  readonly protocol: LinkFacts
}

/** A message of a session that is not the host's own business: a command, or an answer to one. */
export type HostMessage = { readonly peer: string; readonly type: number; readonly body: Uint8Array }

export type PeerEvent =
  | { readonly kind: 'joined'; readonly peer: Peer }
  | { readonly kind: 'changed'; readonly peer: Peer }
  | { readonly kind: 'left'; readonly peer: Peer }

/** A peer whose last connection has ended. */
export type LostPeer = {
  readonly peer: string
  /** Where it was, multiaddrs with its id. */
  readonly addresses: readonly string[]
  /** What was said at the end, by either side, if anything: 0x100 where nobody used the connection. */
  readonly code?: number
  /** Why it was to stay. Whoever holds a peer wants it back. */
  readonly holds: readonly HoldReason[]
}

/** What a host is connected with, for people. */
export type HostNetwork = {
  /** What the host listens on, wildcards expanded. */
  readonly listening: readonly string[]
  /** Where others can dial it. */
  readonly addresses: readonly string[]
  readonly transports: readonly Transport[]
  /** TCP port of the data plane. */
  readonly planePort?: number
  readonly connections: readonly ConnectionFacts[]
  /** Circuit breakers that are not closed. */
  readonly breakers: readonly BreakerFacts[]
  readonly settings: NetSettings
}
/** An address of a peer that is to be tried. */
export type ProbeTarget = {
  readonly peer: string
  /** A multiaddr; of a data plane: `/ip4/HOST/tcp/PORT`. */
  readonly address: string
  /** Whether the peer's data plane listens there, for which there has to be a session with the peer. @default false */
  readonly isPlane?: boolean
}

export type ProbeOptions = { readonly protocol: ProtocolId; readonly signal: AbortSignal }

export type Probe = { readonly stream: ByteStream; end(): Promise<void> }

export type ProbeHandler = (
  stream: ByteStream,
  from: { readonly address: string; readonly isPlane: boolean },
) => void | Promise<void>

export interface Host {
  /** Our own peer id. */
  readonly id: string
  /** How this node uses relays, and is one. */
  readonly relay: HostRelay
  start(): Promise<void>
  /** Resolves when every socket, stream and timer is gone. Idempotent. */
  stop(): Promise<void>
  /** Multiaddrs that others can dial, each ending in our peer id: those outside first, then where this host listens. */
  addresses(): readonly string[]
  /** Those where this host itself listens. */
  listening(): readonly string[]
  /** TCP port at which the data plane listens; undefined where there is none. */
  readonly planePort: number | undefined
  /**
   * Says where this node is seen from outside: mapped ports, what its owner says. They replace those that were said
   * before, go first in `addresses()`, and with them into offers and signed records. At most `EXTERNAL_ADDRESSES_MAX`
   * are taken. @throws NetError NET_ADDRESS_INVALID for one that cannot be dialled, or names another peer
   */
  setExternalAddresses(addresses: readonly string[]): void
  /**
   * Dials an address on a connection of its own, whoever is connected, and opens a stream there that `handleProbes`
   * takes. Nobody but the peer is talked to. The connection ends with `end`. @throws NetError, the signal's reason
   */
  probe(target: ProbeTarget, options: ProbeOptions): Promise<Probe>
  /**
   * Takes streams on connections that were made for them: never one on a connection that is a session's, so that who
   * opens one has dialled this node just now. `from` is the multiaddr where the dial came from.
   */
  handleProbes(protocol: ProtocolId, handler: ProbeHandler): void
  /** Dials, checks the identity and admits. @returns the peer id. @throws NetError */
  connect(address: string, options?: { readonly signal?: AbortSignal }): Promise<string>
  /**
   * Dials these until somebody is there, and again whenever they are gone, for as long as the host runs. Addresses that
   * are kept already are left as they are. @throws NetError NET_ADDRESS_INVALID
   */
  keepConnected(addresses: readonly string[]): void
  /** Opens a stream to an admitted peer; dials `addresses` first where there is no connection. @throws NetError */
  open(
    peer: string,
    protocol: ProtocolId,
    options?: { readonly signal?: AbortSignal; readonly addresses?: readonly string[] },
  ): Promise<ByteStream>
  /** Serves a protocol. Only admitted peers reach the handler. A handler that throws resets its stream. */
  handle(protocol: ProtocolId, handler: (stream: ByteStream) => void | Promise<void>): void
  /** Serves a protocol to connections that do not speak ours: a peer that opens such a stream first is a guest. */
  handleGuests(protocol: ProtocolId, handler: (stream: ByteStream) => void | Promise<void>): void
  peers(): readonly Peer[]
  /** Whether somebody is being dialled, or admitted, or was told of and is yet to be dialled: there may be a peer more soon. */
  isSomebodyComing(): boolean
  /** At most `LISTENERS_MAX` listen to each kind of event. @returns how to stop listening */
  onPeer(listener: (event: PeerEvent) => void): () => void
  /** Hears of every change in the life of every connection. */
  onConnection(listener: (event: ConnectionEvent) => void): () => void
  /** Hears of peers that are gone, and may be looked for. The host itself dials again those that are held. */
  onLost(listener: (lost: LostPeer) => void): () => void
  /** Keeps a peer's connection, however quiet it is, and dials the peer again when it is lost. @returns ends the hold */
  hold(peer: string, reason: HoldReason): () => void
  network(): HostNetwork
  /**
   * Hears of each peer that has left once no stream waits for its return any more: at once where none does, or where it
   * said goodbye. A peer that is back before that was never gone.
   */
  onGone(listener: (peer: string) => void): () => void
  /** Hears what joined peers say beyond admission, offers and pings. */
  onMessage(listener: (message: HostMessage) => void): void
  /**
   * Says something to a joined peer. False: it is not here, or does not read what it was sent before.
   * @throws SessionError PROTOCOL_MESSAGE_TOO_LONG
   */
  sendMessage(
    peer: string,
    message: { readonly type: number; readonly body: unknown },
    options?: { readonly priority?: Priority },
  ): boolean
  /** Tells a peer why, and closes its connections. */
  drop(peer: string, reason: RefusalReason, facts?: RefusalFacts): void
  /**
   * Resolves when few messages wait to be sent to the peer and it will bear more, or none can be sent any more. Whoever
   * sends many waits for it after each: a peer disconnects those who flood it.
   */
  room(peer: string): Promise<void>
  /** Signs with the statement's new key from now on, and tells every peer. Connections keep their peer id until the next start. */
  rotate(signer: KeyProvider, statement: Uint8Array): void
  /** Our addresses or the NAT have changed: peers that could not be reached directly are tried again. */
  networkChanged(): void
  /** Replaces our own offer and sends it to every admitted peer. */
  announce(offer: NodeOffer): void
}
