/** The one place that imports cryptography. */
export {
  createSha256,
  equalInConstantTime,
  hmacSha256,
  SHA256_BYTES,
  type Sha256,
  sha256,
} from './hash.ts'
export { decodeNodeKey, encodeNodeKey, generateNodeKey, type NodePrivateKey, peerIdOf } from './node-key.ts'
