/** Who a node is: its keys and ids, what it signs, and how two nodes prove it to each other. Pure. */
export { decodeCanonical } from './canonical.ts'
export { parseEnvironmentKey } from './environment-key.ts'
export { type EnvelopeFault, openEnvelope, type Opened, signEnvelope, type SigningDomain } from './envelope.ts'
export type { IdentityFault } from './errors.ts'
export {
  createHandover,
  type Handover,
  type HandoverChain,
  type HandoverFault,
  type HandoverLink,
  type HandoverParty,
  verifyChain,
  verifyHandover,
} from './handover.ts'
export type { HybridSigner } from './hybrid.ts'
export {
  assertPassphrase,
  decryptKeyFile,
  encodeKeyFile,
  encryptKeyFile,
  isKeyFileEncrypted,
  parseKeyFile,
} from './key-file.ts'
export type { KeyProvider } from './key-provider.ts'
export {
  createNodeIdentity,
  type HeldIdentity,
  identityOfProvider,
  identityOfSecret,
  type NodeIdentity,
} from './node-identity.ts'
export { nextSecret, type NodeSecret, secretOfPhrase, seedPhraseOf } from './node-secret.ts'
export { createPeerRecord, type PeerRecord, type PeerRecordFault, verifyPeerRecord } from './peer-record.ts'
export { Handshake, type HandshakeFault, type HandshakeResult } from './handshake.ts'
export { Resumption } from './resumption.ts'
