/**
 * Signed records: what a peer says about itself in the DHT, in its own words and with a number that only grows. An
 * envelope of domain `koinon/kad-record/1` around
 *
 *   dag-cbor { expiresAt: Unix ms, kind, peer: peer id of the signer, sequence, value: bytes }
 *
 * stored under the key `/koinon/KIND/PEER`. The key follows from the record, so a record fits one key only, and a
 * peer has one record of each kind.
 */
import { encode } from '@ipld/dag-cbor'
import { z } from 'zod'
import { peerOfPublicKey } from '#crypto'
import { decodeCanonical, type KeyProvider, openEnvelope, signEnvelope } from '#identity'
import { KadError } from './errors.ts'
import { RECORD_BYTES_MAX, RECORD_KIND_CHARS_MAX, RECORD_LIFE_MS_MAX, RECORD_VALUE_BYTES_MAX } from './limits.ts'

const DOMAIN = 'koinon/kad-record/1'

/** First part of every key; libp2p chooses the validator by it. */
export const KEY_NAMESPACE = 'koinon'

const KEY = /^\/koinon\/([a-z][a-z0-9-]*)\/([A-Za-z0-9]{1,100})$/

export type KadRecord = {
  /** What the record says something about: lower-case letters, digits and hyphens. */
  readonly kind: string
  /** Peer id of whom it is about, and who has signed it. */
  readonly peer: string
  /** Of two records of one key the one with the higher number counts. */
  readonly sequence: number
  /** Unix milliseconds. */
  readonly expiresAt: number
  readonly value: Uint8Array
}

/** A record whose signature and key hold, and the bytes that say so. */
export type SignedRecord = { readonly key: string; readonly record: KadRecord; readonly bytes: Uint8Array }

const recordSchema = z.strictObject({
  expiresAt: z.int().min(0),
  kind: z
    .string()
    .max(RECORD_KIND_CHARS_MAX)
    .regex(/^[a-z][a-z0-9-]*$/),
  peer: z.string().max(100),
  sequence: z.int().min(0),
  value: z.custom<Uint8Array>(value => value instanceof Uint8Array && value.byteLength <= RECORD_VALUE_BYTES_MAX),
})

/** The key of a peer's record. */
export function recordKey(kind: string, peer: string): string {
  return `/${KEY_NAMESPACE}/${kind}/${peer}`
}

/** Undefined where the text is no key of a record. */
export function decodeRecordKey(key: string): { readonly kind: string; readonly peer: string } | undefined {
  const match = KEY.exec(key)
  const [, kind, peer] = match ?? []
  if (kind === undefined || peer === undefined || kind.length > RECORD_KIND_CHARS_MAX) return undefined
  return { kind, peer }
}

/**
 * Signs what this node says about itself.
 * @throws KeyringError where the token or service that holds the key fails; KadError KAD_RECORD_INVALID where the kind
 * or the value is not of the form
 */
export async function createKadRecord(
  signer: Pick<KeyProvider, 'publicKey' | 'sign'>,
  content: Omit<KadRecord, 'peer'>,
): Promise<Uint8Array> {
  const record = recordSchema.safeParse({ ...content, peer: peerOfPublicKey(signer.publicKey) })
  if (!record.success) throw invalid('the kind, the value or a number is out of bounds')
  return signEnvelope(signer, DOMAIN, encode(record.data))
}

/**
 * Checks a record by itself. Whether it is older than another is for `RecordBook` to say.
 * @param now Unix milliseconds
 */
export function verifyKadRecord(bytes: Uint8Array, now: number): SignedRecord | KadError {
  if (bytes.byteLength > RECORD_BYTES_MAX) return invalid('a record that is too long')
  const opened = openEnvelope(DOMAIN, bytes)
  if ('code' in opened) return invalid(opened.what)
  const record = decodeCanonical(recordSchema, opened.payload)
  if (record === undefined) return invalid('a record that does not parse')
  if (record.peer !== opened.peer) return invalid('a record that another peer has signed')
  if (record.expiresAt <= now) return expired('a record that has expired')
  if (record.expiresAt > now + RECORD_LIFE_MS_MAX) return expired('a record that would be good for too long')
  return { key: recordKey(record.kind, record.peer), record, bytes }
}

export function invalid(reason: string): KadError {
  return new KadError({ code: 'KAD_RECORD_INVALID', reason }, `a record of the DHT is not used: ${reason}`)
}

function expired(reason: string): KadError {
  return new KadError({ code: 'KAD_RECORD_EXPIRED' }, reason)
}
