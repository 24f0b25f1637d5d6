/** A node's identity: one Ed25519 key, and the ids that others know it by. */
import type { Random } from '#base'
import {
  ed25519Signer,
  mlDsa65Signer,
  type NodePrivateKey,
  nodeKeyOf,
  nodeKeyOfSeed,
  peerOfPublicKey,
  sha1,
} from '#crypto'
import type { HybridSigner } from './hybrid.ts'
import type { KeyProvider } from './key-provider.ts'
import { mlDsaSeedOf, type NodeSecret, newSecret, seedOf } from './node-secret.ts'

export type NodeIdentity = {
  /** Libp2p peer id, base58 text. */
  readonly peer: string
  /** SHA-1 of the public key, 20 bytes: where others find this node in the Mainline DHT (BEP 44, no salt). */
  readonly stableId: Uint8Array
  /** Signs. */
  readonly provider: KeyProvider
  /** For libp2p: signs through the provider, and holds no private bytes. */
  readonly privateKey: NodePrivateKey
  /**
   * The same key with its private bytes, for what signs by itself and cannot ask the provider: the QUIC addon. Absent where
   * the key lies in a token or service.
   */
  readonly wholeKey?: () => Promise<NodePrivateKey>
  /** The ML-DSA-65 key beside the node key; absent where the key lies in a token or service. */
  readonly hybrid?: HybridSigner
}

/** An identity whose secret is in this process, so that it can be written down. */
export type HeldIdentity = NodeIdentity & {
  /** Never logged, never sent. */
  readonly secret: NodeSecret
  readonly hybrid: HybridSigner
}

/** Makes a new identity, with a seed phrase. */
export async function createNodeIdentity(random: Random): Promise<HeldIdentity> {
  return identityOfSecret(newSecret(random), 'file')
}

/** The identity that a secret makes. */
export function identityOfSecret(secret: NodeSecret, kind: 'file' | 'environment'): HeldIdentity {
  const signer = ed25519Signer(seedOf(secret))
  const provider: KeyProvider = { kind, ...signer, close: async () => undefined }
  const hybrid = mlDsa65Signer(mlDsaSeedOf(secret))
  return { ...identityOfProvider(provider), wholeKey: () => nodeKeyOfSeed(seedOf(secret)), hybrid, secret }
}

/** The identity of a key that a token or a service holds. */
export function identityOfProvider(provider: KeyProvider): NodeIdentity {
  return {
    peer: peerOfPublicKey(provider.publicKey),
    stableId: sha1(provider.publicKey),
    provider,
    privateKey: nodeKeyOf(provider),
  }
}
