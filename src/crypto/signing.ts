/** Signatures: Ed25519 (RFC 8032) and ML-DSA-65 (FIPS 204). Raw keys in, raw signatures out. */
import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto'
import { asBuffer, owned } from './bytes.ts'

export const ED25519_PUBLIC_BYTES = 32
export const ED25519_SEED_BYTES = 32
export const ED25519_SIGNATURE_BYTES = 64
export const ML_DSA_65_PUBLIC_BYTES = 1952
export const ML_DSA_65_SEED_BYTES = 32
export const ML_DSA_65_SIGNATURE_BYTES = 3309

/** Signs with an Ed25519 key that lies in this process. */
export interface Ed25519Signer {
  /** 32 bytes. */
  readonly publicKey: Uint8Array
  /** @returns 64 bytes */
  sign(message: Uint8Array): Uint8Array
}

/** @param seed 32 secret bytes: the private key in RFC 8032's form */
export function ed25519Signer(seed: Uint8Array): Ed25519Signer {
  const key = createPrivateKey({ key: asBuffer(seed), format: 'raw-private', asymmetricKeyType: 'ed25519' })
  return {
    publicKey: owned(createPublicKey(key).export({ format: 'raw-public' })),
    sign: message => owned(sign(null, message, key)),
  }
}

/** Checks signatures of one public key; importing the key once saves a third of each check. */
export interface Ed25519Verifier {
  readonly publicKey: Uint8Array
  verify(message: Uint8Array, signature: Uint8Array): boolean
}

/** @param publicKey 32 bytes; bytes that are no point of the curve make a verifier that accepts nothing */
export function ed25519Verifier(publicKey: Uint8Array): Ed25519Verifier {
  const key = importPublicKey(publicKey, 'ed25519')
  return {
    publicKey,
    verify: (message, signature) =>
      key !== undefined && signature.byteLength === ED25519_SIGNATURE_BYTES && verify(null, message, key, signature),
  }
}

/** Signs with an ML-DSA-65 key that lies in this process. */
export interface MlDsa65Signer {
  /** 1952 bytes. */
  readonly publicKey: Uint8Array
  /** Hedged, as FIPS 204 recommends: two signatures of one message differ. @returns 3309 bytes */
  sign(message: Uint8Array): Uint8Array
}

/** @param seed 32 secret bytes (xi of FIPS 204) */
export function mlDsa65Signer(seed: Uint8Array): MlDsa65Signer {
  const key = createPrivateKey({ key: asBuffer(seed), format: 'raw-seed', asymmetricKeyType: 'ml-dsa-65' })
  return {
    publicKey: owned(createPublicKey(key).export({ format: 'raw-public' })),
    sign: message => owned(sign(null, message, key)),
  }
}

/** Checks a signature with an empty context. False for bytes that are no key or no signature, too. */
export function mlDsa65Verify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (signature.byteLength !== ML_DSA_65_SIGNATURE_BYTES) return false
  const key = importPublicKey(publicKey, 'ml-dsa-65')
  return key !== undefined && verify(null, message, key, signature)
}

function importPublicKey(publicKey: Uint8Array, kind: 'ed25519' | 'ml-dsa-65'): KeyObject | undefined {
  try {
    return createPublicKey({ key: asBuffer(publicKey), format: 'raw-public', asymmetricKeyType: kind })
  } catch {
    return undefined // Not as long as such a key: whoever signed it, it was not this key.
  }
}
