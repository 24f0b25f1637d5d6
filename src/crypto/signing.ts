/** Ed25519 (RFC 8032): raw keys in, raw signatures out. */
import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto'

export const ED25519_PUBLIC_BYTES = 32
export const ED25519_SEED_BYTES = 32
export const ED25519_SIGNATURE_BYTES = 64

/** Signs with a key that lies in this process. */
export interface Ed25519Signer {
  /** 32 bytes. */
  readonly publicKey: Uint8Array
  /** @returns 64 bytes */
  sign(message: Uint8Array): Uint8Array
}

/** @param seed 32 secret bytes: the private key in RFC 8032's form */
export function ed25519Signer(seed: Uint8Array): Ed25519Signer {
  const key = createPrivateKey({ key: Buffer.from(seed), format: 'raw-private', asymmetricKeyType: 'ed25519' })
  return {
    publicKey: new Uint8Array(createPublicKey(key).export({ format: 'raw-public' })),
    sign: message => sign(null, message, key),
  }
}

/** Checks signatures of one public key; importing the key once saves a third of each check. */
export interface Ed25519Verifier {
  readonly publicKey: Uint8Array
  verify(message: Uint8Array, signature: Uint8Array): boolean
}

/** @param publicKey 32 bytes; bytes that are no point of the curve make a verifier that accepts nothing */
export function ed25519Verifier(publicKey: Uint8Array): Ed25519Verifier {
  const key = importPublicKey(publicKey)
  return {
    publicKey,
    verify: (message, signature) =>
      key !== undefined &&
      signature.byteLength === ED25519_SIGNATURE_BYTES &&
      verify(null, message, key, signature),
  }
}

function importPublicKey(publicKey: Uint8Array): KeyObject | undefined {
  try {
    return createPublicKey({ key: Buffer.from(publicKey), format: 'raw-public', asymmetricKeyType: 'ed25519' })
  } catch {
    return undefined // Not 32 bytes: whoever signed it, it was not this key.
  }
}
