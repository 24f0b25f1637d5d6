/** The one place that imports cryptography. */
export {
  Aead,
  AEAD_IV_BYTES,
  AEAD_KEY_BYTES,
  AEAD_TAG_BYTES,
  type BegunOpen,
  type BegunSeal,
  type Sealed,
} from './aead.ts'
export {
  ML_KEM_768_CIPHERTEXT_BYTES,
  ML_KEM_768_PUBLIC_BYTES,
  ML_KEM_768_SEED_BYTES,
  type MlKemKey,
  mlKem768Encapsulate,
  mlKem768Key,
  X25519_BYTES,
  type X25519Key,
  x25519Key,
} from './agreement.ts'
export { argon2id, type Argon2Cost, hkdfSha256 } from './derive.ts'
export { equalInConstantTime, hmacSha1, hmacSha256, SHA256_BYTES, sha1, sha256, Sha256 } from './hash.ts'
export {
  decodeNodeKey,
  encodeNodeKey,
  generateNodeKey,
  type NodePrivateKey,
  nodeKeyOf,
  nodeKeyOfSeed,
  peerIdOf,
  peerOfPublicKey,
  publicKeyOfPeer,
  seedOfNodeKey,
} from './node-key.ts'
export {
  ED25519_PUBLIC_BYTES,
  ED25519_SEED_BYTES,
  ED25519_SIGNATURE_BYTES,
  type Ed25519Signer,
  type Ed25519Verifier,
  ed25519Signer,
  ed25519Verifier,
  ML_DSA_65_PUBLIC_BYTES,
  ML_DSA_65_SEED_BYTES,
  ML_DSA_65_SIGNATURE_BYTES,
  type MlDsa65Signer,
  mlDsa65Signer,
  mlDsa65Verify,
} from './signing.ts'
export { entropyOfWords, SEED_WORDS, type WordsFault, wordsOfEntropy } from './words.ts'
