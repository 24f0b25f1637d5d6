/** What the parts of coming to a direct connection hand each other, and what they are given from outside. */
import type { PunchIceOffer, PunchMessage, PunchMethod, PunchNatKind } from '#wire'
import type { Endpoint, LocalNetwork } from './endpoints.ts'

/** That another node sees a socket of ours at an endpoint. */
export type TcpObservation = {
  readonly localPort: number
  /** Where the connection went. */
  readonly remote: Endpoint
  readonly observed: Endpoint
}

/** Where the next connection from the same local port will seem to come from. */
export type TcpForesight = {
  readonly mapping: 'stable' | 'foreseen' | 'random' | 'unknown'
  readonly address: string | undefined
  readonly ports: readonly number[]
}

/** Datagrams to and from one peer: neither encrypted nor authenticated, at most 1200 bytes each. */
export interface DatagramPath {
  /** False where it did not leave. */
  send(bytes: Uint8Array): boolean
  onMessage(listener: (bytes: Uint8Array) => void): () => void
  /** Resolves when the path is gone. */
  readonly closed: Promise<void>
}

/** One side's part of an ICE connection. */
export interface PunchIce {
  gather(): Promise<IceDescription>
  connect(remote: unknown, options: { readonly signal: AbortSignal }): Promise<DatagramPath>
  /** Ends the path too. Idempotent; never rejects. */
  close(): Promise<void>
}

type IceDescription = Omit<PunchIceOffer, 'candidates'> & {
  readonly candidates: readonly Readonly<PunchIceOffer['candidates'][number]>[]
}

/** What a host is given, so that it can make direct connections through NATs. */
export type PunchTools = {
  /** What others' views of our sockets say of the next one. */
  readonly foresee: (observations: readonly TcpObservation[]) => TcpForesight
  /** Makes an ICE agent. Without it there is no way by UDP. */
  readonly createIce?: (role: 'controlling' | 'controlled') => Promise<PunchIce>
  /** The NAT that UDP meets here, as far as it is known. A node with a TURN server says `unknown`: it works with all. */
  readonly natKind: () => PunchNatKind
  /** Networks in which private addresses of peers may be called. @default those of the interfaces, loopback aside */
  readonly networks?: () => readonly LocalNetwork[]
  /** Where this node tells others how it sees them: two TCP ports that must be reachable from outside. @default any */
  readonly observerPorts?: readonly number[]
}

export type PunchRole = 'caller' | 'callee'
export type PunchOffer = Extract<PunchMessage, { type: 'offer' }>
export type PunchConnect = Extract<PunchMessage, { type: 'connect' }>

/** What is known once both have said what they can do. */
export type PunchContext = {
  readonly peer: string
  readonly role: PunchRole
  /** Whether we are the side that speaks first on the new connection. The two sides differ. */
  readonly isOutbound: boolean
  readonly signal: AbortSignal
}

/** One way to a direct connection. */
export interface PunchWay {
  readonly method: PunchMethod
  readonly attemptsMax: number
  /** Longest time that `join` is given. */
  readonly joinMsMax: number
  /** Before each attempt. Undefined: there is nothing to offer. */
  prepare(context: PunchContext): Promise<PreparedWay | undefined>
  /** Resolves when nothing that was prepared is left, once the host stops. Never rejects. */
  settled?(): Promise<void>
}

export interface PreparedWay {
  readonly offer: PunchOffer
  /**
   * Whether the attempt can work, from both offers alone: both sides must come to the same answer.
   * @param attempt from 0
   */
  can(theirs: PunchOffer, attempt: number): boolean
  /** Resolves once a session has joined over the new connection. @throws where it comes to nothing */
  join(theirs: PunchOffer, options: { readonly attempt: number; readonly signal: AbortSignal }): Promise<void>
  /** Gives back what was prepared, connections that were made aside. Idempotent. */
  release(): void
}
