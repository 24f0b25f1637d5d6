/** What the Mainline DHT node shares with those who use it, and with its sockets. */
import type { BencodeValue } from '#formats'
import type { Clock, Logger, Random } from '#base'

/** IPv4 or IPv6: two networks with a table each (BEP 32). */
export type Family = 4 | 6

/** Where a UDP or TCP socket is. */
export type Endpoint = {
  /** An IP address as text. */
  readonly host: string
  readonly port: number
}

/** A node of the DHT. */
export type Contact = Endpoint & {
  /** 20 bytes. */
  readonly id: Uint8Array
}

/**
 * What bencode can say: integers that a double holds exactly, byte strings, lists, and dictionaries whose keys are UTF-8.
 */

/** A bound UDP socket, or something that is like one. */
export interface DatagramSocket {
  readonly local: Endpoint
  /** Sends once and does not say whether it arrives. Never throws. */
  send(bytes: Uint8Array, to: Endpoint): void
  /** Hands over every datagram from now on, with the sender's host in its one textual form. One listener. */
  onMessage(listener: (bytes: Uint8Array, from: Endpoint) => void): void
  close(): Promise<void>
}

/** Where a node gets its sockets from, so that a simulation can give it its own. */
export interface DatagramSockets {
  /** At most one for each family. @throws MainlineError `MAINLINE_LISTEN_FAILED` */
  open(): Promise<readonly DatagramSocket[]>
  /** The addresses of a name; a host that is an address is itself. None where it has none. Never rejects. */
  resolve(host: string): Promise<readonly string[]>
}

export type MainlineDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly sockets: DatagramSockets
}

/** So many at once, so many more a second. */
export type Rate = { readonly tokensMax: number; readonly perSecond: number }

export type MainlineOptions = {
  /** 20 bytes. Once others tell us our public address, ids that fit it take its place (BEP 42). @default random */
  readonly nodeId?: Uint8Array
  /** Asks, and does not answer; others do not put us into their tables (BEP 43). @default false */
  readonly isReadOnly?: boolean
  /** Leaves out nodes whose id does not fit their address (BEP 42). Private addresses always fit. @default false */
  readonly isNodeIdEnforced?: boolean
  /** Takes nodes on loopback addresses, any number of them: for tests and for one machine. @default false */
  readonly isLoopbackExempt?: boolean
  /** @default 2 */
  readonly bucketPrefixContactsMax?: number
  /** @default 3 */
  readonly tablePrefixContactsMax?: number
  /** Queries of one lookup under way at once: alpha. @default 3 */
  readonly lookupParallelMax?: number
  /** Time of one lookup. @default 30 s */
  readonly lookupMsMax?: number
  /** Datagrams that are taken of one address. @default 40, and 8 a second */
  readonly addressRate?: Rate
  /** Datagrams that are taken of all addresses together. @default 1000, and 400 a second */
  readonly totalRate?: Rate
}

export type AbortOptions = { readonly signal?: AbortSignal }

/** Signs with an Ed25519 key, in this process or elsewhere. */
export interface ItemSigner {
  /** 32 bytes. */
  readonly publicKey: Uint8Array
  /** @returns 64 bytes */
  sign(message: Uint8Array): Uint8Array | Promise<Uint8Array>
}

/** What is put under a public key and a salt (BEP 44). */
export type PutMutable = {
  readonly signer: ItemSigner
  /** At most 64 bytes. @default none */
  readonly salt?: Uint8Array
  /** Grows with every change; at least 0. */
  readonly seq: number
  /** Less than 1000 bytes in its bencoded form. */
  readonly value: BencodeValue
  /** Store only where the stored value has this number: compare and swap. */
  readonly cas?: number
}

/** A value whose signature was checked. */
export type MutableItem = {
  readonly value: BencodeValue
  /** The value in its bencoded form, as it was signed. */
  readonly valueBytes: Uint8Array
  readonly publicKey: Uint8Array
  readonly salt: Uint8Array
  readonly seq: number
  readonly signature: Uint8Array
}

export type FamilyStatus = {
  readonly family: Family
  /** 40 hexadecimal digits. */
  readonly nodeId: string
  readonly local: Endpoint
  /** Our own public address, as enough others see it. */
  readonly externalHost: string | undefined
  readonly contacts: number
  readonly goodContacts: number
  readonly replacements: number
}

export type MainlineStatus = {
  readonly isRunning: boolean
  readonly families: readonly FamilyStatus[]
  readonly storedPeers: number
  readonly storedItems: number
  readonly queriesInFlight: number
  readonly lookups: number
  /** Queries that we were asked, by name. */
  readonly asked: Readonly<Record<string, number>>
  /** Queries of ours, by name. */
  readonly sent: Readonly<Record<string, number>>
  /** Answers that fitted a query of ours. */
  readonly answers: number
  /** Queries of ours that nobody answered, or wrongly. */
  readonly unanswered: number
  /** Datagrams that were not looked at: too many. */
  readonly limited: number
  /** Datagrams that were not understood, or that nobody had asked for. */
  readonly dropped: number
  /** KRPC errors that we answered with. */
  readonly errors: number
}

/** A node of the Mainline DHT. */
export interface MainlineNode {
  /** Opens the sockets. @throws MainlineError `MAINLINE_LISTEN_FAILED` */
  start(): Promise<void>
  /** Ends all lookups and closes the sockets. What was stored for others is forgotten. */
  stop(): Promise<void>
  /**
   * Asks these nodes for others, then those for the ones nearest to us.
   * @param addresses `host:port` or `[IPv6]:port`
   * @returns contacts in the tables afterwards
   * @throws MainlineError `MAINLINE_ADDRESS_INVALID`, `MAINLINE_BUSY`, `MAINLINE_STOPPED`
   */
  bootstrap(addresses: readonly string[], options?: AbortOptions): Promise<number>
  /**
   * Says that we have something (BEP 5). It is forgotten after half an hour: announce again before.
   * @param infoHash 20 bytes
   * @param port of ours that peers shall connect to
   * @returns nodes that stored it
   * @throws MainlineError `MAINLINE_KEY_INVALID`, `MAINLINE_ADDRESS_INVALID`, `MAINLINE_BUSY`, `MAINLINE_STOPPED`
   */
  announce(infoHash: Uint8Array, port: number, options?: AbortOptions): Promise<number>
  /**
   * Who has announced this info hash, each once, as the answers come in. Anybody can announce anything: hints, no proof.
   * Leaving the loop ends the lookup.
   * @throws MainlineError `MAINLINE_KEY_INVALID`, `MAINLINE_BUSY`, `MAINLINE_STOPPED`, on the first step
   */
  getPeers(infoHash: Uint8Array, options?: AbortOptions): AsyncIterable<Endpoint>
  /**
   * Stores a signed value with the nodes nearest to its target (BEP 44), after it has asked them for theirs.
   * @returns nodes that stored it
   * @throws MainlineError `MAINLINE_ITEM_NEWER`, `MAINLINE_VALUE_INVALID`, `MAINLINE_BUSY`, `MAINLINE_STOPPED`; what the
   * signer throws
   */
  putMutable(item: PutMutable, options?: AbortOptions): Promise<number>
  /**
   * The newest value under this key and salt whose signature is right.
   * @throws MainlineError `MAINLINE_KEY_INVALID`, `MAINLINE_BUSY`, `MAINLINE_STOPPED`
   */
  getMutable(publicKey: Uint8Array, salt?: Uint8Array, options?: AbortOptions): Promise<MutableItem | undefined>
  /** @returns the target, and the nodes that stored it. @throws as `putMutable` */
  putImmutable(
    value: BencodeValue,
    options?: AbortOptions,
  ): Promise<{ readonly target: Uint8Array; readonly stored: number }>
  /** The value whose SHA-1 is the target. @throws as `getMutable` */
  getImmutable(target: Uint8Array, options?: AbortOptions): Promise<BencodeValue | undefined>
  /** Contacts that have answered, for a file that the next start reads. */
  contacts(): Contact[]
  /** Contacts of an earlier run: each is pinged, and enters the table when it answers. */
  addContacts(contacts: readonly Contact[]): void
  status(): MainlineStatus
}
