/**
 * Hybrid signatures (KEYS-1): Ed25519 and ML-DSA-65 over the same message, and both must hold. Whoever breaks one of the
 * two, a quantum computer the first or an error in a young design the second, still cannot sign.
 *
 * Both sign `koinon/hybrid/1`, a zero byte, SHA-256(both public keys, Ed25519 first), and the message: neither half is
 * a signature by itself, and none can be moved to another pair of keys. The signature (3373 bytes) is Ed25519 (64) ‖
 * ML-DSA-65 (3309).
 */
import { concatBytes } from '#base'
import {
  ED25519_PUBLIC_BYTES,
  ED25519_SIGNATURE_BYTES,
  ed25519Verifier,
  ML_DSA_65_PUBLIC_BYTES,
  ML_DSA_65_SIGNATURE_BYTES,
  mlDsa65Verify,
  sha256,
} from '#crypto'
import type { KeyProvider } from './key-provider.ts'
import { domainMessage } from './signed-message.ts'

const DOMAIN = 'koinon/hybrid/1'

/** Bytes of a hybrid signature. */
export const HYBRID_SIGNATURE_BYTES = ED25519_SIGNATURE_BYTES + ML_DSA_65_SIGNATURE_BYTES

/** The ML-DSA-65 (FIPS 204) key that signs beside a node's Ed25519 key. */
export interface HybridSigner {
  /** 1952 bytes. */
  readonly publicKey: Uint8Array
  /** @returns 3309 bytes */
  sign(message: Uint8Array): Uint8Array | Promise<Uint8Array>
}

/** The two public keys of a hybrid signature. */
export type HybridKeys = {
  /** 32 bytes. */
  readonly ed25519: Uint8Array
  /** 1952 bytes. */
  readonly mlDsa65: Uint8Array
}

/**
 * Signs with both keys.
 * @returns 3373 bytes
 * @throws KeyringError where a token or service that holds one of the keys fails
 */
export async function signHybrid(
  signers: { readonly ed25519: Pick<KeyProvider, 'publicKey' | 'sign'>; readonly mlDsa65: HybridSigner },
  message: Uint8Array,
): Promise<Uint8Array> {
  const { ed25519, mlDsa65 } = signers
  const bound = bind({ ed25519: ed25519.publicKey, mlDsa65: mlDsa65.publicKey }, message)
  return concatBytes(await Promise.all([ed25519.sign(bound), mlDsa65.sign(bound)]))
}

/** Whether both signatures hold. False for bytes that are no keys or no signatures, too. */
export function verifyHybrid(keys: HybridKeys, message: Uint8Array, signature: Uint8Array): boolean {
  const { ed25519, mlDsa65 } = keys
  if (ed25519.byteLength !== ED25519_PUBLIC_BYTES || mlDsa65.byteLength !== ML_DSA_65_PUBLIC_BYTES) return false
  if (signature.byteLength !== HYBRID_SIGNATURE_BYTES) return false
  const bound = bind(keys, message)
  return (
    ed25519Verifier(ed25519).verify(bound, signature.subarray(0, ED25519_SIGNATURE_BYTES)) &&
    mlDsa65Verify(mlDsa65, bound, signature.subarray(ED25519_SIGNATURE_BYTES))
  )
}

function bind({ ed25519, mlDsa65 }: HybridKeys, message: Uint8Array): Uint8Array {
  return domainMessage(DOMAIN, concatBytes([sha256(concatBytes([ed25519, mlDsa65])), message]))
}
