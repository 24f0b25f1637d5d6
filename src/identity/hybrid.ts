/**
 * Hybrid signatures (KEYS-1): in a handshake a node may sign with Ed25519 and ML-DSA-65, and both must hold. Whoever
 * breaks one of the two, a quantum computer the first or an error in a young design the second, still cannot sign.
 */

/** The ML-DSA-65 (FIPS 204) key that signs beside a node's Ed25519 key. */
export interface HybridSigner {
  /** 1952 bytes. */
  readonly publicKey: Uint8Array
  /** @returns 3309 bytes */
  sign(message: Uint8Array): Uint8Array | Promise<Uint8Array>
}
