/** The one place that imports cryptography. */
export { equalInConstantTime, hmacSha256, SHA256_BYTES, sha256 } from './hash.ts'
export { decodeNodeKey, encodeNodeKey, generateNodeKey, type NodePrivateKey, peerIdOf } from './node-key.ts'
