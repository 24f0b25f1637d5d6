/** What this host says of itself: who it is in new sessions, its offer, and its signed record. */
import type { Clock, Logger } from '#base'
import type { KeyProvider, NodeIdentity } from '#identity'
import type { Party } from '#protocol'
import { AGENT, type NodeOffer, nodeOfferSchema } from '#wire'
import type { OwnAddresses } from './own-addresses.ts'
import { PeerRecords } from './peer-records.ts'

export type OwnFactsDeps = {
  readonly clock: Clock
  readonly log: Logger
  readonly self: string
  readonly identity: NodeIdentity
  readonly handovers: readonly Uint8Array[]
  readonly capabilities: readonly string[]
  readonly addresses: OwnAddresses
  /** Port of the data plane, once it is had. */
  readonly planePort: () => number | undefined
  /** What is told of our relaying, while there is any. */
  readonly relay: () => NodeOffer['relay']
}

/** A node that serves nothing. */
const NOTHING: NodeOffer = {
  agent: AGENT,
  addresses: [],
  memoryBytes: 0,
  threads: 1,
  weightBytesPerSecond: 0,
  stages: [],
}

export class OwnFacts {
  readonly records: PeerRecords
  readonly #deps: OwnFactsDeps
  #party: Party
  #offer: NodeOffer

  constructor(deps: OwnFactsDeps, options: { readonly isHybrid: boolean; readonly offer: NodeOffer | undefined }) {
    const { self, identity, handovers, capabilities } = deps
    this.#deps = deps
    const { hybrid } = identity
    const signing = options.isHybrid && hybrid !== undefined ? { hybrid } : {}
    this.#party = { peer: self, signer: identity.provider, handovers, capabilities, ...signing }
    // The peer id of connections stays until the next start, and with it the key that speaks for its addresses.
    this.records = new PeerRecords({ ...deps, signer: identity.provider })
    this.#offer = options.offer ?? NOTHING
  }

  get party(): Party {
    return this.#party
  }

  get offer(): NodeOffer {
    const { addresses, planePort, relay } = this.#deps
    const [port, relaying] = [planePort(), relay()]
    const own = this.#offer.addresses
    return {
      ...this.#offer,
      addresses: own.length > 0 ? addresses.withRelays(own) : addresses.all(),
      ...(relaying === undefined ? {} : { relay: relaying }),
      ...(port === undefined ? {} : { planePort: port }),
    }
  }

  /** Peers drop us for an offer that is not valid: better to fail here. */
  setOffer(offer: NodeOffer): void {
    this.#offer = nodeOfferSchema.parse(offer)
  }

  /** New sessions are signed by this key. */
  rotate(signer: KeyProvider, statement: Uint8Array): void {
    this.#party = { ...this.#party, signer, handovers: [...this.#party.handovers, statement] }
  }

  /** Signs where this host is now. */
  async makeRecord(): Promise<void> {
    await this.records.make(this.#deps.addresses.all())
  }
}
