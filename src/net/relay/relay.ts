/** Relaying on one host: the relay that it is, the reservations that it holds, the circuits that end at it. */
import type { Connection } from '@libp2p/interface'
import type { ByteStream, Clock, Logger, Random } from '#base'
import type { NodeOffer, RelayStatus } from '#wire'
import { type Address, decodeAddress } from '../address.ts'
import type { AdoptOptions, BytePipe } from '../adopt.ts'
import type { Connector } from '../connector.ts'
import { NetError } from '../errors.ts'
import { subjectOfAddress } from '../peer-guard.ts'
import type { PeerTable } from '../peer-table.ts'
import type { NetSettings } from '../settings.ts'
import type { Applicant } from './book.ts'
import { RelayClient } from './client.ts'
import { type Candidate, RelayKeeper } from './keeper.ts'
import { RELAY_ADDRESSES_MAX, RELAYS_HELD } from './limits.ts'
import { RelayStream } from './relay-stream.ts'
import { type HoldOptions, holdReservation, probeRelay } from './reservation.ts'
import { RelayServer, type RelayServerOptions } from './server.ts'
import type { HostRelay } from './types.ts'

export type RelayDeps = {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly settings: Pick<NetSettings, 'admissionTimeoutMs'>
  /** Our own peer id. */
  readonly self: string
  readonly isPublic: () => boolean | undefined
  /** Whether a peer is more than a stranger: larger circuits. */
  readonly isTrusted: (peer: string) => boolean
  readonly table: PeerTable
  readonly connector: () => Pick<Connector, 'connect' | 'adopt'>
  readonly adopt: (pipe: BytePipe, options: AdoptOptions) => Promise<Connection | undefined>
  /** Opens a relay stream to a peer that is here. */
  readonly open: (peer: string, options: { readonly signal: AbortSignal }) => Promise<ByteStream>
  /** Where this node listens itself. */
  readonly listening: () => readonly string[]
  /** Our offer is not what peers were told. */
  readonly onChange: () => void
  /** Our addresses are not. */
  readonly onAddresses: () => void
  readonly stopping: AbortSignal
}

export type RelayOptions = RelayServerOptions & {
  /** How many reservations a node holds that others cannot dial. */
  readonly reservations?: number
}

export class Relay implements HostRelay {
  readonly #deps: RelayDeps
  readonly #options: RelayOptions
  readonly #server: RelayServer
  readonly #client: RelayClient
  readonly #keeper: RelayKeeper
  readonly #listeners = new Set<() => void>()

  constructor(deps: RelayDeps, options: RelayOptions) {
    this.#deps = deps
    this.#options = options
    const log = deps.log.child('relay')
    const applicant = (peer: string): Applicant | undefined => this.#applicant(peer)
    this.#server = new RelayServer({ ...deps, log, applicant, addresses: deps.listening }, options)
    this.#keeper = new RelayKeeper(
      {
        ...deps,
        log,
        isWanted: () => deps.isPublic() !== true,
        candidates: () => this.#candidates(),
        hold: holding => this.#hold(holding),
        probe: (relay, probing) => probeRelay(deps, relay, probing),
        onAddresses: () => this.#onAddresses(),
      },
      { count: options.reservations ?? RELAYS_HELD, region: options.region },
    )
    this.#client = new RelayClient({
      ...deps,
      log,
      reach: (relay, address, reaching) => this.#reach(relay, address, reaching),
      isDirect: peer => this.#applicant(peer) !== undefined,
      adoptInbound: (pipe, adoption) => deps.connector().adopt(pipe, adoption),
      holds: (relay, session) => this.#keeper.holds(relay, session),
    })
    deps.table.onPeer(event => {
      if (event.kind === 'left') this.#server.peerLeft(event.peer.id)
      if (event.kind !== 'changed' || event.peer.offer.relay !== undefined) this.#keeper.poke()
    })
  }

  /** @throws NetError NET_RELAY_NOT_PUBLIC where this node cannot be what it was told to be */
  check(): void {
    if (this.#options.mode === 'on' && this.#deps.isPublic() === false) {
      const message =
        'this node is to relay, and others cannot reach it; open a port for it, or start it with --relay auto'
      throw new NetError({ code: 'NET_RELAY_NOT_PUBLIC' }, message)
    }
  }

  start(): void {
    void this.#keeper.run()
  }

  /** Whether this node can be reached may have become known, or be another than it was. */
  reachabilityChanged(): void {
    this.#deps.onChange()
    this.#keeper.poke()
  }

  async stop(): Promise<void> {
    await Promise.all([this.#keeper.stop(), this.#server.stop()])
  }

  /** What peers are told; undefined: this node does not relay. */
  offer(): NodeOffer['relay'] {
    return this.#server.offer()
  }

  status(): RelayStatus {
    return { serving: this.#server.status(), held: this.#keeper.held(), circuits: this.#client.circuits() }
  }

  addresses(): readonly string[] {
    return this.#keeper.addresses()
  }

  onAddresses(listener: () => void): void {
    this.#listeners.add(listener)
  }

  /** A connection by an address through a relay. @throws NetError, or the signal's reason */
  dial(address: Address, options: { readonly signal: AbortSignal }): Promise<Connection> {
    return this.#client.dial(address, options)
  }

  /** A stream of the relay protocol that a peer has opened. The first message says what it is for. */
  async accept(incoming: ByteStream): Promise<void> {
    const stream = new RelayStream(incoming)
    const saying = stream.answer(this.#deps.clock, { signal: this.#deps.stopping })
    // One that says nothing in time has nothing to say.
    const first = await saying.catch(() => ({ code: 'WIRE_RELAY_ORDER' }) as const)
    if ('code' in first) stream.abort(new Error('not a message of the relay protocol'))
    else if (first.type === 'incoming') await this.#client.incoming(stream, first)
    else await this.#server.serve(stream, first)
  }

  #onAddresses(): void {
    this.#deps.onAddresses()
    for (const listener of this.#listeners) listener()
  }

  async #reach(relay: string, address: string, options: { readonly signal: AbortSignal }): Promise<void> {
    const { table, connector } = this.#deps
    if (table.has(relay)) return
    const decoded = decodeAddress(address)
    if (decoded === undefined || decoded.host === '') {
      throw new NetError(
        { code: 'NET_PEER_UNKNOWN', peer: relay },
        'no connection to the relay, and no address to dial',
      )
    }
    await connector().connect({ peer: relay, addresses: [decoded] }, options)
  }

  /** What we dialled the relay at works, which of the addresses that it names itself nobody knows. */
  #hold(options: HoldOptions): Promise<never> {
    const { relay, onGranted } = options
    const dialled = (): string[] => {
      const session = this.#deps.table.session(relay)
      if (session?.direction !== 'outbound') return []
      const address = decodeAddress(session.connection.remoteAddr.toString())
      return address?.peer === relay && address.relay === undefined ? [address.text] : []
    }
    return holdReservation(this.#deps, {
      ...options,
      onGranted: grant => {
        const addresses = [...new Set([...dialled(), ...grant.addresses])].slice(0, RELAY_ADDRESSES_MAX)
        onGranted({ ...grant, addresses })
      },
    })
  }

  #applicant(peer: string): Applicant | undefined {
    const session = this.#deps.table.session(peer)
    if (session === undefined || session.path.kind === 'relayed') return undefined
    const group = subjectOfAddress(session.connection.remoteAddr.toString()) ?? peer
    return { peer, group, isTrusted: this.#deps.isTrusted(peer) }
  }

  #candidates(): Candidate[] {
    return this.#deps.table.peers().flatMap(({ id, path, rttMs, offer }) => {
      if (offer.relay === undefined || path.kind === 'relayed') return []
      return [{ peer: id, ...offer.relay, rttMs }]
    })
  }
}
