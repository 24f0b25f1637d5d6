/** Key agreement: X25519 (RFC 7748) and ML-KEM-768 (FIPS 203). Raw bytes at every border. */
import { createPrivateKey, createPublicKey, decapsulate, diffieHellman, encapsulate, type KeyObject } from 'node:crypto'
import { asBuffer, owned } from './bytes.ts'

export const X25519_BYTES = 32
export const ML_KEM_768_PUBLIC_BYTES = 1184
export const ML_KEM_768_CIPHERTEXT_BYTES = 1088
export const ML_KEM_768_SEED_BYTES = 64
export const ML_KEM_768_SECRET_BYTES = 32

export interface X25519Key {
  /** 32 bytes. */
  readonly publicKey: Uint8Array
  /** The shared secret (32 bytes), or undefined for a point of small order, which would give one that anybody knows. */
  agree(theirs: Uint8Array): Uint8Array | undefined
}

/** @param secret 32 unpredictable bytes */
export function x25519Key(secret: Uint8Array): X25519Key {
  const privateKey = createPrivateKey({ key: asBuffer(secret), format: 'raw-private', asymmetricKeyType: 'x25519' })
  return {
    publicKey: owned(createPublicKey(privateKey).export({ format: 'raw-public' })),
    agree: theirs => {
      try {
        return owned(diffieHellman({ privateKey, publicKey: publicKeyOf(theirs, 'x25519') }))
      } catch {
        return undefined // OpenSSL refuses an all-zero result (RFC 7748, section 6.1), and bytes that are no key.
      }
    },
  }
}

export interface MlKemKey {
  /** 1184 bytes. */
  readonly publicKey: Uint8Array
  /** The secret (32 bytes) in a ciphertext of 1088 bytes; a wrong ciphertext gives a wrong secret, not an error. Undefined: no ciphertext. */
  decapsulate(ciphertext: Uint8Array): Uint8Array | undefined
}

/** @param seed 64 unpredictable bytes (d and z of FIPS 203) */
export function mlKem768Key(seed: Uint8Array): MlKemKey {
  const privateKey = createPrivateKey({ key: asBuffer(seed), format: 'raw-seed', asymmetricKeyType: 'ml-kem-768' })
  return {
    publicKey: owned(createPublicKey(privateKey).export({ format: 'raw-public' })),
    decapsulate: ciphertext => {
      if (ciphertext.byteLength !== ML_KEM_768_CIPHERTEXT_BYTES) return undefined
      return owned(decapsulate(privateKey, ciphertext))
    },
  }
}

/** A fresh secret for the holder of a public key. Undefined: these bytes are no key (FIPS 203, section 7.2). */
export function mlKem768Encapsulate(
  publicKey: Uint8Array,
): { readonly secret: Uint8Array; readonly ciphertext: Uint8Array } | undefined {
  if (publicKey.byteLength !== ML_KEM_768_PUBLIC_BYTES) return undefined
  try {
    const { sharedKey, ciphertext } = encapsulate(publicKeyOf(publicKey, 'ml-kem-768'))
    return { secret: owned(sharedKey), ciphertext: owned(ciphertext) }
  } catch {
    return undefined // A coefficient that is not below the field's prime.
  }
}

function publicKeyOf(bytes: Uint8Array, kind: 'x25519' | 'ml-kem-768'): KeyObject {
  return createPublicKey({ key: asBuffer(bytes), format: 'raw-public', asymmetricKeyType: kind })
}
