/** Signed peer records (NET-8): our own, kept fresh, and those of others, believed only where the peer itself signed. */
import { type Clock, type Logger, messageOf } from '#base'
import { createPeerRecord, type KeyProvider, verifyPeerRecord } from '#identity'
import { HELLO_PEERS_MAX, type KnownPeer, PEER_ADDRESSES_MAX } from '#wire'
import { addressesOf } from './address.ts'
import { RECORD_LIFE_MS } from './limits.ts'

export type RecordDeps = { readonly clock: Clock; readonly log: Logger; readonly signer: KeyProvider }

export class PeerRecords {
  readonly #deps: RecordDeps
  #own: Uint8Array | undefined

  constructor(deps: RecordDeps) {
    this.#deps = deps
  }

  /** Our own record; undefined until one was made. */
  get own(): Uint8Array | undefined {
    return this.#own
  }

  /** Signs where we are now. Where signing fails the last record stays: peers still find us by it. */
  async make(addresses: readonly string[]): Promise<void> {
    const { clock, log, signer } = this.#deps
    const now = clock.now()
    const record = { sequence: now, addresses: addresses.slice(0, PEER_ADDRESSES_MAX), expiresAt: now + RECORD_LIFE_MS }
    try {
      this.#own = await createPeerRecord(signer, record)
    } catch (error) {
      log.warn('the peer record could not be signed', { error: messageOf(error) })
    }
  }

  /** The addresses that a record proves for this peer: none where it proves nothing. */
  addressesOf(peer: string, record: Uint8Array | undefined): readonly string[] {
    if (record === undefined) return []
    const verified = verifyPeerRecord(record, this.#deps.clock.now())
    if ('code' in verified || verified.peer !== peer) return []
    return addressesOf(peer, verified.addresses).map(address => address.text)
  }

  /** Those of the known peers whose records hold, with their addresses. */
  verified(peers: readonly KnownPeer[]): { readonly id: string; readonly addresses: readonly string[] }[] {
    const proved = peers.map(({ id, record }) => ({ id, addresses: this.addressesOf(id, record) }))
    return proved.filter(({ addresses }) => addresses.length > 0)
  }
}

/** What a message with introductions takes beside them: the frame, an offer of a few stages, our own record. */
const MESSAGE_REST_BYTES = 2_000

/** As many of the peers as one message may hold, and as our key can sign at once. */
export function fitting(peers: readonly KnownPeer[], signer: Pick<KeyProvider, 'messageBytesMax'>): KnownPeer[] {
  let roomBytes = (signer.messageBytesMax ?? Number.POSITIVE_INFINITY) - MESSAGE_REST_BYTES
  return peers.slice(0, HELLO_PEERS_MAX).filter(({ id, record }) => {
    roomBytes -= id.length + record.byteLength
    return roomBytes > 0
  })
}
