/**
 * Signed peer records (NET-8): where a peer can be reached, in its own words, so that others can pass it on and nobody
 * can make a peer's address up. An envelope of domain `koinon/peer-record/1` around
 *
 *   dag-cbor { addresses: multiaddrs as text, expiresAt: Unix ms, peer: peer id of the signer, sequence }
 *
 * Of two records of one peer the one with the higher sequence counts.
 */
import { encode } from '@ipld/dag-cbor'
import { z } from 'zod'
import { peerOfPublicKey } from '#crypto'
import { decodeCanonical } from './canonical.ts'
import { type EnvelopeFault, openEnvelope, signEnvelope } from './envelope.ts'
import type { KeyProvider } from './key-provider.ts'
import { RECORD_ADDRESS_CHARS_MAX, RECORD_ADDRESSES_MAX, RECORD_LIFE_MS_MAX } from './limits.ts'

const DOMAIN = 'koinon/peer-record/1'

export type PeerRecord = {
  /** Peer id of whom the record is about, and who has signed it. */
  readonly peer: string
  /** Grows with every record of a peer. */
  readonly sequence: number
  /** Multiaddrs as text. Visible ASCII; whether they parse is for the reader to see. */
  readonly addresses: readonly string[]
  /** Unix milliseconds. */
  readonly expiresAt: number
}

/** A record that must not be used. */
export type PeerRecordFault =
  | EnvelopeFault
  | {
      readonly code: /** The envelope holds, and what is in it is no record. */
        | 'PEER_RECORD_MALFORMED'
        /** Signed by another peer than the one that it is about. */
        | 'PEER_RECORD_SIGNER'
        | 'PEER_RECORD_EXPIRED'
        /** Good for longer than any record may be. */
        | 'PEER_RECORD_LIFE'
      /** For people. */
      readonly what: string
    }

const address = z
  .string()
  .max(RECORD_ADDRESS_CHARS_MAX)
  .regex(/^\/[\x21-\x7e]+$/)
const recordSchema = z.strictObject({
  addresses: z.array(address).max(RECORD_ADDRESSES_MAX),
  expiresAt: z.int().min(0),
  peer: z.string().max(100),
  sequence: z.int().min(0),
})

/**
 * Signs where this node is. Of the addresses the first 16 that a record can hold go into it.
 * @throws KeyringError where the token or service that holds the key fails
 */
export async function createPeerRecord(
  signer: Pick<KeyProvider, 'publicKey' | 'sign'>,
  { sequence, addresses, expiresAt }: Omit<PeerRecord, 'peer'>,
): Promise<Uint8Array> {
  const record: PeerRecord = {
    addresses: addresses.filter(text => address.safeParse(text).success).slice(0, RECORD_ADDRESSES_MAX),
    expiresAt,
    peer: peerOfPublicKey(signer.publicKey),
    sequence,
  }
  return signEnvelope(signer, DOMAIN, encode(record))
}

/**
 * Checks a record.
 * @param now Unix milliseconds
 */
export function verifyPeerRecord(bytes: Uint8Array, now: number): PeerRecord | PeerRecordFault {
  const opened = openEnvelope(DOMAIN, bytes)
  if ('code' in opened) return opened
  const record = decodeCanonical(recordSchema, opened.payload)
  if (record === undefined) return { code: 'PEER_RECORD_MALFORMED', what: 'a peer record that does not parse' }
  if (record.peer !== opened.peer) {
    return { code: 'PEER_RECORD_SIGNER', what: 'a peer record that another peer has signed' }
  }
  if (record.expiresAt <= now) return { code: 'PEER_RECORD_EXPIRED', what: 'a peer record that has expired' }
  if (record.expiresAt > now + RECORD_LIFE_MS_MAX) {
    return { code: 'PEER_RECORD_LIFE', what: 'a peer record that would be good for too long' }
  }
  return record
}
