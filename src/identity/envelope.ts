/**
 * Signed envelopes: a payload, who says it, and a signature that counts for one purpose (the domain) only.
 *
 *   envelope = dag-cbor { domain, key: Ed25519 public key (32), payload: bytes, signature (64) }
 *
 * The signature is over the domain, a zero byte, and the payload. It proves who says something, not that it is new: what
 * must not be replayed carries a sequence number or a time in its payload.
 */
import { encode } from '@ipld/dag-cbor'
import { z } from 'zod'
import { assert } from '#base'
import { ED25519_PUBLIC_BYTES, ED25519_SIGNATURE_BYTES, ed25519Verifier, peerOfPublicKey } from '#crypto'
import { bytesOf, decodeCanonical } from './canonical.ts'
import type { KeyProvider } from './key-provider.ts'
import { ENVELOPE_BYTES_MAX } from './limits.ts'
import { domainMessage } from './signed-message.ts'

/** A purpose: 'koinon/', what it is, its version. */
export type SigningDomain = `koinon/${string}/${number}`

/** What an envelope held, once its signature has been checked. */
export type Opened = {
  /** Peer id of the signer. */
  readonly peer: string
  readonly publicKey: Uint8Array
  readonly payload: Uint8Array
}

/** Bytes that are no envelope for this purpose. */
export type EnvelopeFault = {
  readonly code: /** Too long, or nothing that parses. */
    | 'ENVELOPE_MALFORMED'
    /** Signed for another purpose. */
    | 'ENVELOPE_DOMAIN'
    /** The signature does not hold. */
    | 'ENVELOPE_SIGNATURE'
  /** For people. */
  readonly what: string
}

const envelopeSchema = z.strictObject({
  domain: z.string(),
  key: bytesOf(ED25519_PUBLIC_BYTES),
  payload: z.custom<Uint8Array>(value => value instanceof Uint8Array),
  signature: bytesOf(ED25519_SIGNATURE_BYTES),
})

/**
 * Signs a payload for one purpose.
 * @throws KeyringError where the token or service that holds the key fails
 */
export async function signEnvelope(
  signer: Pick<KeyProvider, 'publicKey' | 'sign'>,
  domain: SigningDomain,
  payload: Uint8Array,
): Promise<Uint8Array> {
  const signature = await signer.sign(domainMessage(domain, payload))
  const bytes = encode({ domain, key: signer.publicKey, payload, signature })
  assert(bytes.byteLength <= ENVELOPE_BYTES_MAX, 'an envelope that others would refuse')
  return bytes
}

/** Checks an envelope. What the payload says is for the caller to judge, and whether this signer may say it. */
export function openEnvelope(domain: SigningDomain, bytes: Uint8Array): Opened | EnvelopeFault {
  if (bytes.byteLength > ENVELOPE_BYTES_MAX) return { code: 'ENVELOPE_MALFORMED', what: 'an envelope that is too long' }
  const envelope = decodeCanonical(envelopeSchema, bytes)
  if (envelope === undefined) return { code: 'ENVELOPE_MALFORMED', what: 'bytes that are no signed envelope' }
  if (envelope.domain !== domain) return { code: 'ENVELOPE_DOMAIN', what: `not signed as ${domain}` }
  const { key: publicKey, payload, signature } = envelope
  if (!ed25519Verifier(publicKey).verify(domainMessage(domain, payload), signature)) {
    return { code: 'ENVELOPE_SIGNATURE', what: 'the signature of an envelope does not hold' }
  }
  return { peer: peerOfPublicKey(publicKey), publicKey, payload }
}
