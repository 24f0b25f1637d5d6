/** Signed peer records as discovery passes them on: bytes that anybody can check, and what they say. */
import { type PeerRecordFault, verifyPeerRecord } from '#identity'
import { RECORD_BYTES_MAX } from './limits.ts'

/** A record whose signature is its peer's. */
export type VerifiedRecord = {
  readonly bytes: Uint8Array
  readonly sequence: number
  /** Multiaddrs. */
  readonly addresses: readonly string[]
  /** Unix milliseconds. */
  readonly expiresAt: number
}

/**
 * Checks a record at the first of these times at which it was in force.
 * @param peer whose it must be
 * @param times Unix milliseconds
 */
export function openRecord(
  bytes: Uint8Array,
  peer: string,
  times: readonly number[],
): VerifiedRecord | Pick<PeerRecordFault, 'code'> {
  if (bytes.byteLength > RECORD_BYTES_MAX) return { code: 'PEER_RECORD_MALFORMED' }
  let fault: Pick<PeerRecordFault, 'code'> = { code: 'PEER_RECORD_EXPIRED' }
  for (const time of times) {
    const record = verifyPeerRecord(bytes, time)
    if (!('code' in record)) {
      const { sequence, addresses, expiresAt } = record
      return record.peer === peer ? { bytes, sequence, addresses, expiresAt } : { code: 'PEER_RECORD_SIGNER' }
    }
    fault = record
  }
  return fault
}
