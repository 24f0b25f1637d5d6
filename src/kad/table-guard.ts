/**
 * Who may enter the routing table: peers that the host admits, few of one group of addresses, and no more than the table
 * shall have. kad-dht pings every newcomer before it adds it and has no other hook, so this is asked by that ping.
 */
import { compareDistance } from './distance.ts'
import { bucketOf, type Dht, tablePeers } from './dht.ts'
import { KadError } from './errors.ts'

export type TableLimits = {
  /** Peers in the table. */
  readonly table: number
  /** Of one group in the table. */
  readonly groupInTable: number
  /** Of one group in one bucket. */
  readonly groupInBucket: number
  /** Peers in one bucket, and nearest to this node that are always welcome. */
  readonly bucket: number
}

type Known = { readonly group: string | undefined; readonly point: Uint8Array }

export class TableGuard {
  readonly #dht: () => Dht
  readonly #self: Uint8Array
  readonly #limits: TableLimits
  /** Those in the table, and those that are being checked: two of one group must not pass at once. */
  readonly #known = new Map<string, Known>()

  constructor(deps: { readonly dht: () => Dht; readonly self: Uint8Array }, limits: TableLimits) {
    this.#dht = deps.dht
    this.#self = deps.self
    this.#limits = limits
  }

  /**
   * Takes a place for a newcomer, or says why there is none. The place is given back by `left` or `settle`.
   * @throws KadError KAD_PEER_REFUSED
   */
  enter(peer: string, known: Known): void {
    if (this.#known.has(peer)) return // It has its place.
    const { group, point } = known
    const dht = this.#dht()
    if (dht.routingTable.size >= this.#limits.table && !this.#isNear(point)) throw refused('busy')
    if (group !== undefined) {
      const ofGroup = [...this.#known].filter(([, other]) => other.group === group)
      if (ofGroup.length >= this.#limits.groupInTable) throw refused('group-table')
      const bucket = bucketOf(dht, point)
      const inBucket = ofGroup.filter(([id, other]) =>
        bucket.some(({ peerId }) => peerId.toString() === id) ? true : bucketOf(dht, other.point) === bucket,
      )
      if (inBucket.length >= this.#limits.groupInBucket) throw refused('group-bucket')
    }
    this.#known.set(peer, known)
  }

  /** Gives a place back where its peer has not come into the table after all, or did not answer. */
  settle(peer: string): void {
    if (!tablePeers(this.#dht()).some(({ peerId }) => peerId.toString() === peer)) this.left(peer)
  }

  /** The peer is no longer in the table. */
  left(peer: string): void {
    this.#known.delete(peer)
  }

  /** Whether the peer is in the table, or about to be. */
  has(peer: string): boolean {
    return this.#known.has(peer)
  }

  #isNear(point: Uint8Array): boolean {
    const nearer = tablePeers(this.#dht()).filter(({ kadId }) => compareDistance(this.#self, kadId, point) < 0)
    return nearer.length < this.#limits.bucket
  }
}

export function refused(reason: 'gate' | 'group-table' | 'group-bucket' | 'busy' | 'asked'): KadError {
  return new KadError({ code: 'KAD_PEER_REFUSED', reason }, `a peer was not taken: ${REASONS[reason]}`)
}

const REASONS = {
  gate: 'it is not admitted',
  'group-table': 'its block of addresses has its share of the routing table',
  'group-bucket': 'its block of addresses has its share of the bucket',
  busy: 'there are enough',
  asked: 'it was asked before, or enough were',
} as const
