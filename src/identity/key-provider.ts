/** Where a node's signing key lies. The rest of the program signs through this and never sees the private bytes. */

export interface KeyProvider {
  /** Where the key is, for people. */
  readonly kind: 'file' | 'environment' | 'pkcs11' | 'kms'
  /** Ed25519 public key, 32 bytes. */
  readonly publicKey: Uint8Array
  /** The longest message that can be signed; undefined: any. Services have such bounds. */
  readonly messageBytesMax?: number
  /**
   * An Ed25519 signature, 64 bytes. Keys in this process answer at once; tokens and services by a promise.
   * @throws KeyringError where the token or service fails
   */
  sign(message: Uint8Array): Uint8Array | Promise<Uint8Array>
  /** Ends what the provider holds open. Idempotent. */
  close(): Promise<void>
}
